"""The audit chain is verified once a day, by a process of its own: a chain that nobody looks at is only believed.

Not by a job of the queue: one that takes minutes would keep the canary from coming through. Not by the warden: it has
other duties each second.
"""

from __future__ import annotations

import datetime as dt

from django.db import Error as DatabaseError
from django.db import connection

from quantum import clock
from quantum.log import log
from quantum.supervise import Child

EVERY = dt.timedelta(days=1)
LOOK_EVERY_S = 600.0
FIRST_LOOK_S = 60.0
"""A start has better things to do."""


class Daily:
    """Whoever ran `audit_verify` by hand within the day has done it; a restart does not make it due again."""

    def __init__(self, *, child: Child) -> None:
        self._child = child
        self._look_at_s = clock.boot_s() + FIRST_LOOK_S

    def turn(self) -> None:
        if clock.boot_s() < self._look_at_s or self._child.alive:
            return
        self._look_at_s = clock.boot_s() + LOOK_EVERY_S
        if _is_due():
            self._child.start()

    def end(self) -> None:
        self._child.end()


def _is_due() -> bool:
    from quantum.models import Seal, Verification  # needs the models, which load after this module

    try:
        last = Verification.objects.values_list("at", flat=True).first()
        return Seal.objects.exists() and (last is None or abs(clock.now() - last) >= EVERY)
    except DatabaseError as failure:
        log.warning("[UP] the audit chain is not verified now", error=type(failure).__name__)
        return False
    finally:
        connection.close()  # for one question in ten minutes none is kept
