"""Reading the ledger for a page: what a symbol held at a moment, and which incident an entry ended."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence

from django.conf import settings
from django.db.models import OuterRef, QuerySet, Subquery

from positions.books import history
from positions.models import Balance, Incident, LedgerEntry

BY_PEOPLE = (LedgerEntry.Kind.ADOPTED, LedgerEntry.Kind.CORRECTION)
TOGETHER_S = 5
"""An entry and the end of its incident are of one transaction; their clocks are read one after the other."""


def moment_of(text: str) -> dt.datetime | None:
    """Of what a person typed, without a zone UTC. None: it is no time."""
    try:
        found = dt.datetime.fromisoformat(text.strip())
        return found.astimezone(dt.UTC) if found.tzinfo else found.replace(tzinfo=dt.UTC)
    except (ValueError, OverflowError):  # the year 1, a zone further back
        return None


def rows(*, symbol: str = "", by_people: bool = False, until_id: int | None = None) -> QuerySet[LedgerEntry]:
    found = LedgerEntry.objects.filter(account=settings.ACCOUNT)
    found = found.filter(symbol=symbol) if symbol else found
    found = found.filter(kind__in=BY_PEOPLE) if by_people else found
    return found if until_id is None else found.filter(id__lte=until_id)


def at_moment(at: dt.datetime, *, symbol: str = "") -> list[LedgerEntry]:
    """Each symbol's newest entry that we had written by then. Two questions, however many symbols."""
    if symbol:
        found = history.entry_at(symbol, at)
        return [found] if found else []
    newest = LedgerEntry.objects.filter(
        account=settings.ACCOUNT, symbol=OuterRef("symbol"), recorded_at__lte=at
    ).order_by("-recorded_at", "-id")
    held = Balance.objects.filter(account=settings.ACCOUNT).annotate(entry=Subquery(newest.values("pk")[:1]))
    ids = [pk for pk in held.values_list("entry", flat=True) if pk is not None]
    return sorted(LedgerEntry.objects.in_bulk(ids).values(), key=lambda entry: entry.symbol)


def incidents_of(entries: Sequence[LedgerEntry]) -> dict[int, list[Incident]]:
    """Per entry of a person the incidents that ended with it: of its symbol, by the same act at the same moment."""
    asked = [entry for entry in entries if entry.kind in BY_PEOPLE]
    if not asked:
        return {}
    known = _ended({entry.symbol for entry in asked}, asked)
    apart = dt.timedelta(seconds=TOGETHER_S)
    return {
        entry.pk: [
            each
            for each in known
            if (each.symbol, each.resolved_by) == (entry.symbol, entry.actor)
            and each.resolved_at
            and abs(each.resolved_at - entry.recorded_at) <= apart
        ]
        for entry in asked
    }


def _ended(symbols: Collection[str], entries: Sequence[LedgerEntry]) -> list[Incident]:
    apart = dt.timedelta(seconds=TOGETHER_S)
    moments = [entry.recorded_at for entry in entries]
    return list(
        Incident.objects.filter(
            account=settings.ACCOUNT,
            symbol__in=symbols,
            resolved_at__range=(min(moments) - apart, max(moments) + apart),
            how__in=[Incident.How.ADOPTED, Incident.How.CORRECTED],
        )
    )
