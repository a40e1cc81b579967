"""What the books and the plans know of a position that is held: since when, and what was already taken of it."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal

from django.conf import settings

from apply.exits.proposing import ACTOR
from apply.exits.score import Crossing
from apply.models import Plan
from positions.models import LedgerEntry

ENTRIES_MAX = 1000
NOTHING_CAME_OF_IT = (
    Plan.State.BLOCKED,
    Plan.State.EXPIRED,
    Plan.State.SKIPPED,
    Plan.State.REJECTED,
    Plan.State.SPENT_UNSENT,
    Plan.State.NOT_AT_EXCHANGE,
)
_CROSSED = re.compile(r"([a-z_]+?)([0-9]*)")


def held_since(symbol: str, *, side: int) -> dt.datetime | None:
    """When the ledger last left zero, or the other side. None where it does not reach back, or says another side."""
    entries = LedgerEntry.objects.filter(account=settings.ACCOUNT, symbol=symbol).order_by("-id")
    for balance, delta, at in entries.values_list("balance", "delta", "at")[:ENTRIES_MAX]:
        if side * balance <= 0:
            return None
        if side * (balance - delta) <= Decimal(0):
            return at
    return None


def crossings_taken(symbol: str, *, since: dt.datetime) -> list[Crossing]:
    """Of a brain before this one: a warden that starts again must not take the same profit twice."""
    past = Plan.objects.filter(symbol=symbol, source__startswith=f"{ACTOR}:", created_at__gte=since)
    found = []
    for codes in past.exclude(state__in=NOTHING_CAME_OF_IT).values_list("reason_codes", flat=True)[
        :ENTRIES_MAX
    ]:
        crossed = _CROSSED.fullmatch(codes.partition(",")[0])
        if crossed:
            found.append(Crossing(crossed[1], int(crossed[2] or 1)))
    return found
