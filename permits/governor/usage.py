"""Usage rows: what spent permits came to. Written with the settlement, read by the Governor (LESSONS: per fill)."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

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
    row = Usage(plan_id=plan_id, symbol=symbol, kind=kind, quantity=quantity, notional=notional)
    rows.insert(row, skip_conflicts=True, pile=pile)


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

    def new(self) -> list[Charge]:
        """Some come twice: on PostgreSQL a lower id may be committed after a higher one."""
        asked = clock.now()
        fresh = models.Q(at__gt=self._since) if not self._seen_id else models.Q(id__gt=self._seen_id)
        if connection.vendor != "sqlite":  # there one writer at a time commits the ids in their order
            fresh |= models.Q(at__gt=self._since)
        columns = ("id", "plan_id", "symbol", "kind", "quantity", "notional", "at")
        charges = []
        for number, plan_id, symbol, kind, quantity, notional, at in (
            Usage.objects.filter(fresh).order_by("id").values_list(*columns)
        ):
            self._seen_id = max(self._seen_id, number)
            at_ms = _by_boot(int(at.timestamp() * 1000), asked_ms=int(asked.timestamp() * 1000))
            charges.append(Charge(plan_id, symbol, at_ms, quantity, notional, kind == Usage.Kind.FAILED))
        if self._seen_id:
            self._since = asked - dt.timedelta(seconds=LATE_COMMIT_S)
        return charges
