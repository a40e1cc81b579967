"""All parts of a proof, over one span of time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from apply.proof_report import books, ends, plans, races, signed, starts, venue
from apply.proof_report.report import Part, Report, Span
from quantum import clock, version
from quantum.exchange import connect
from quantum.exchange.reading import History, ReadFailed
from quantum.models import Instance

OF_RECORDS: tuple[Callable[[Span], Part], ...] = (
    plans.of_plans,
    plans.of_blocks,
    plans.of_permits,
    plans.of_waits,
    races.of_races,
    races.of_orders,
    ends.of_ends,
    books.of_ledger,
    starts.of_services,
)
NOTHING_SENT = "mode dry_run sends nothing: there is nothing of ours to look for"


def from_records(span: Span) -> Report:
    """Without a question to the exchange. Raises DatabaseError."""
    return _report(span, lambda: ())


def whole(
    span: Span,
    *,
    history: History | None,
    why_not: str = "",
    signatures: bool = False,
    tell: signed.Tell | None = None,
) -> Report:
    """The exchange first: what is committed while it is asked must not look as if it knew it and we did not."""

    def more() -> Iterable[Part]:
        yield venue.of_exchange(span, history, why_not)
        if signatures:
            yield signed.of_signatures(span, tell)

    return _report(span, more)


def exchange() -> tuple[History | None, str]:
    """The exchange's history by this instance's read key, or why it cannot be asked."""
    if settings.APPLY_MODE == "dry_run":
        return None, NOTHING_SENT
    try:
        reader = connect.reader()
        reader.sync_clock()
    except (ImproperlyConfigured, ReadFailed) as why:
        return None, str(why)
    return reader, ""


def from_the_start() -> dt.datetime:
    """Of this instance."""
    row = Instance.objects.first()
    return row.created_at if row else clock.now()


def _report(span: Span, ask: Callable[[], Iterable[Part]]) -> Report:
    began_s = clock.monotonic_s()
    asked = list(ask())
    parts = [*(part(span) for part in OF_RECORDS), *asked]
    row = Instance.objects.first()
    return Report(
        made_at=clock.now(),
        span=span,
        account=settings.ACCOUNT,
        mode=settings.APPLY_MODE,
        instance=str(row.uuid) if row else "",
        version=version.of_the_code(),
        parts=parts,
        took_s=round(clock.monotonic_s() - began_s, 3),
    )
