"""Usage rows: what spent permits came to. Written with the settlement, read by the Governor (LESSONS: per fill)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from decimal import Decimal
from typing import Any

from django.db import connection, models

from permits.governor.tally import DAY_MS, Charge
from permits.models import Usage
from quantum import clock, rows

LATE_COMMIT_S = 5.0


def executed(
    *, plan_id: str, symbol: str, quantity: Decimal, notional: Decimal, pile: rows.Pile | None = None
) -> None:
    """Inside the settling transaction. Once per plan, whoever settles it."""
    _write(Usage.Kind.EXECUTED, plan_id, symbol, quantity, notional, pile)


def failed(*, plan_id: str, symbol: str, pile: rows.Pile | None = None) -> None:
    """The order came to nothing: it charges no limit, and counts towards the circuit."""
    _write(Usage.Kind.FAILED, plan_id, symbol, Decimal(0), Decimal(0), pile)


def _write(
    kind: Usage.Kind,
    plan_id: str,
    symbol: str,
    quantity: Decimal,
    notional: Decimal,
    pile: rows.Pile | None,
) -> None:
    charge = {"plan_id": plan_id, "symbol": symbol, "kind": kind, "quantity": quantity, "notional": notional}
    rows.add(Usage, charge, on_conflict=rows.SKIP, pile=pile)


def _by_boot(at_ms: int, *, asked_ms: int) -> int:
    """Kept by a clock that nobody sets: one that jumps ahead would empty the windows, one that goes back would
    leave an exit in the future, and each cooldown and window would wait until then."""
    return int(clock.boot_s() * 1000) - max(0, asked_ms - at_ms)


class Reader:
    """Every Usage row of the last day once, then what has been added. Times count by clock.boot_s."""

    def __init__(self) -> None:
        self._seen_id = 0
        self._since = clock.now() - dt.timedelta(milliseconds=DAY_MS)

    @staticmethod
    def newest_id() -> int:
        return Usage.objects.values_list("id", flat=True).first() or 0

    def new(self, *, left: Collection[str] = ()) -> list[Charge]:
        """Some come twice: on PostgreSQL a lower id may be committed after a higher one. `left`: plans whose
        reservations have gone. Their rows are committed, and may be older than any moment we would look back to:
        a sender that was frozen before its commit, or a host whose clock is behind."""
        asked = clock.now()
        fresh = models.Q(at__gt=self._since) if not self._seen_id else models.Q(id__gt=self._seen_id)
        if connection.vendor != "sqlite":  # there one writer at a time commits the ids in their order
            fresh |= models.Q(at__gt=self._since)
        found = _read(fresh)
        missed = set(left).difference(row.plan_id for row in found)
        # Asked by itself: joined by `or` SQLite would read the whole table. How far we have seen rests on the first
        # answer alone, when both are there: the second may hold a row that came after others we have not read.
        late = _read(models.Q(plan_id__in=missed)) if missed else []
        self._seen_id = max([self._seen_id, *(row.id for row in found)])
        if self._seen_id:
            self._since = asked - dt.timedelta(seconds=LATE_COMMIT_S)
        return [_charge(row, asked_ms=int(asked.timestamp() * 1000)) for row in (*found, *late)]


def _read(which: models.Q) -> list[Any]:
    columns = ("id", "plan_id", "symbol", "kind", "quantity", "notional", "at")
    return list(Usage.objects.filter(which).order_by("id").values_list(*columns, named=True))


def _charge(row: Any, *, asked_ms: int) -> Charge:
    at_ms = _by_boot(int(row.at.timestamp() * 1000), asked_ms=asked_ms)
    failed = row.kind == Usage.Kind.FAILED
    return Charge(row.plan_id, row.symbol, at_ms, row.quantity, row.notional, failed)
