"""A duty of the warden: permits whose time is over get their fate, questions nobody answered end. Beside every path."""

from __future__ import annotations

from permits.desk import approvals, records
from quantum import clock

EVERY_S = 10.0


class PermitSweep:
    def __init__(self) -> None:
        self._next_boot_s = 0.0

    def tick(self) -> None:
        """Two statements; again at the next turn while there is a backlog."""
        if clock.boot_s() < self._next_boot_s:
            return
        approvals.expire_overdue()
        ended = records.sweep()
        self._next_boot_s = clock.boot_s() + (0.0 if ended >= records.SWEEP_BATCH else EVERY_S)
