"""When exchange and ledger last agreed, as far as our own record proves it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator
from typing import Any

from django.conf import settings
from django.db.models import Max, OuterRef, Subquery

from permits.models import Permit
from positions.models import Balance, Incident, LedgerEntry

EXITS_ASKED = 5
Proof = tuple[str, dt.datetime]


def last(symbols: Collection[str]) -> dict[str, dt.datetime]:
    """The newest proof of each: an adoption, the end of an incident, or an exit that the Brain granted. Who is not in
    it has none. Four questions, however many symbols."""
    found: dict[str, dt.datetime] = {}
    for symbol, at in _proofs({"account": settings.ACCOUNT, "symbol__in": symbols}):
        found[symbol] = max(at, found.get(symbol, at))
    return found


def _proofs(mine: dict[str, Any]) -> Iterator[Proof]:
    adopted = LedgerEntry.objects.filter(**mine, kind=LedgerEntry.Kind.ADOPTED).order_by()
    yield from adopted.values_list("symbol").annotate(Max("recorded_at"))
    ended = Incident.objects.filter(
        **mine, state=Incident.State.RESOLVED, resolved_at__isnull=False
    ).order_by()
    yield from ended.values_list("symbol").annotate(Max("resolved_at"))
    granted = Permit.objects.filter(
        plan_id__in=_exits(mine), gate="p33", issuer__startswith="p33@", verdict=True
    )
    yield from granted.order_by().values_list("symbol", "issued_at")


def _exits(mine: dict[str, Any]) -> list[str]:
    """Plans of each symbol's newest exits; an operator may have signed for some of them, which proves nothing."""
    exits = LedgerEntry.objects.filter(
        account=OuterRef("account"), symbol=OuterRef("symbol"), kind=LedgerEntry.Kind.EXIT
    ).order_by("-recorded_at")
    nth = [Subquery(exits.values("plan_id")[n : n + 1]) for n in range(EXITS_ASKED)]
    exited = Balance.objects.filter(**mine, exit_ms__isnull=False)
    return [plan_id for found in exited.values_list(*nth) for plan_id in found if plan_id]
