"""A duty of the warden: rows of permits whose time is over get their fate. Beside every path."""

from __future__ import annotations

from permits import records
from quantum import clock

EVERY_S = 10.0


class PermitSweep:
    def __init__(self) -> None:
        self._next_boot_s = 0.0

    def tick(self) -> None:
        """One statement; again at the next turn while there is a backlog."""
        if clock.boot_s() < self._next_boot_s:
            return
        ended = records.sweep()
        self._next_boot_s = clock.boot_s() + (0.0 if ended >= records.SWEEP_BATCH else EVERY_S)
