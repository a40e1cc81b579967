"""What was executed of the limits, for whoever looks: added up by the database, one row for each symbol.

The Governor keeps a tally that grows with each exit; a page that read a day of a busy house into one would look for
seconds. Both say the same of the same rows, which a test holds them to.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import Count, Max, Q, QuerySet, Sum

from permits.governor.tally import DAY_MS, FIVE_MIN_MS, HOUR_MS
from permits.models import Usage
from permits.policy.policy import TOTAL, Use
from quantum import clock

ZERO = Decimal(0)
MILLISECOND = dt.timedelta(milliseconds=1)
EXECUTED, FAILED = Q(kind=Usage.Kind.EXECUTED), Q(kind=Usage.Kind.FAILED)


@dataclass(slots=True)
class _Spent:
    five_min: int = 0
    hour: int = 0
    exit_at: dt.datetime | None = None
    exit_id: int = 0
    failed_at: dt.datetime | None = None
    failures: int = 0
    """Of the day; then those since the last exit."""
    quantity: Decimal = ZERO
    notional: Decimal = ZERO

    def add(self, other: _Spent) -> None:
        self.five_min += other.five_min
        self.hour += other.hour
        self.exit_at = max(filter(None, (self.exit_at, other.exit_at)), default=None)
        self.exit_id = max(self.exit_id, other.exit_id)
        self.failed_at = max(filter(None, (self.failed_at, other.failed_at)), default=None)
        self.quantity += other.quantity
        self.notional += other.notional

    def use(self, now: dt.datetime) -> Use:
        return Use(
            permits_5min=self.five_min,
            permits_hour=self.hour,
            notional_day=self.notional,
            quantity_day=self.quantity,
            since_exit_s=_since_s(now, self.exit_at),
            failures_in_a_row=self.failures,
            since_failure_s=_since_s(now, self.failed_at),
        )


def used() -> dict[str, Use]:
    """By symbol, and TOTAL. Where nothing was executed in a day a symbol is missing."""
    now = clock.now()
    of_day = Usage.objects.filter(at__gt=_back(now, DAY_MS)).order_by()
    found = _added_up(of_day, now)
    total = _Spent()
    for one in found.values():
        total.add(one)
    _count_failures(of_day, found, total)
    return {TOTAL: total.use(now), **{symbol: one.use(now) for symbol, one in found.items()}}


def _back(now: dt.datetime, length_ms: int) -> dt.datetime:
    return now - dt.timedelta(milliseconds=length_ms)


def _since_s(now: dt.datetime, then: dt.datetime | None) -> Decimal | None:
    """A clock that was set back leaves a moment ahead: that was now, as the Governor takes it."""
    return None if then is None else Decimal(max(0, (now - then) // MILLISECOND)) / 1000


def _added_up(of_day: QuerySet[Usage], now: dt.datetime) -> dict[str, _Spent]:
    rows = of_day.values("symbol").annotate(
        five_min=Count("id", filter=EXECUTED & Q(at__gt=_back(now, FIVE_MIN_MS))),
        hour=Count("id", filter=EXECUTED & Q(at__gt=_back(now, HOUR_MS))),
        exit_at=Max("at", filter=EXECUTED),
        exit_id=Max("id", filter=EXECUTED),
        failed_at=Max("at", filter=FAILED),
        failures=Count("id", filter=FAILED),
    )
    if connection.vendor != "sqlite":
        rows = rows.annotate(
            of_quantity=Sum("quantity", filter=EXECUTED), of_notional=Sum("notional", filter=EXECUTED)
        )
    found = {row["symbol"]: _spent(row) for row in rows}
    if connection.vendor == "sqlite":  # keeps amounts as text, and its own sum would be a float
        amounts = of_day.filter(EXECUTED).values_list("symbol", "quantity", "notional")
        for symbol, quantity, notional in amounts.iterator():
            found[symbol].quantity += quantity
            found[symbol].notional += notional
    return found


def _spent(row: Mapping[str, Any]) -> _Spent:
    """Of nothing the database says NULL."""
    return _Spent(
        five_min=row["five_min"],
        hour=row["hour"],
        exit_at=row["exit_at"],
        exit_id=row["exit_id"] or 0,
        failed_at=row["failed_at"],
        failures=row["failures"],
        quantity=row.get("of_quantity") or ZERO,
        notional=row.get("of_notional") or ZERO,
    )


def _count_failures(of_day: QuerySet[Usage], found: dict[str, _Spent], total: _Spent) -> None:
    """Those that no exit followed: of the symbol, and of all."""
    since = Q(pk__in=())
    for symbol, one in found.items():
        if one.failures:
            since |= Q(symbol=symbol, id__gt=one.exit_id)
    in_a_row: dict[str, int] = defaultdict(int)
    rows = of_day.filter(FAILED & since).values_list("symbol")
    after_all = Count("id", filter=Q(id__gt=total.exit_id))
    for symbol, of_symbol, of_all in rows.annotate(of_symbol=Count("id"), of_all=after_all):
        in_a_row[symbol] = of_symbol
        total.failures += of_all
    for symbol, one in found.items():
        one.failures = in_a_row[symbol]
