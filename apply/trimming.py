"""A duty of the warden: rows that prove nothing go when they are old. Every minute, in small batches."""

from __future__ import annotations

import datetime as dt

from django.conf import settings

from apply.alerts import book
from permits.governor import replay
from permits.policy import judgements
from quantum import clock

EVERY_S = 60.0


class Trimming:
    def __init__(self) -> None:
        self._next_boot_s = 0.0

    def tick(self) -> None:
        if clock.boot_s() < self._next_boot_s:
            return
        self._next_boot_s = clock.boot_s() + EVERY_S
        before = clock.now() - dt.timedelta(days=settings.QUANTUM_KEEP_DAYS)
        judgements.forget(before=before, kept=replay.MOST)
        book.trim(before=before)
