"""A duty of the warden that runs a stranger's code: on a thread of its own. A scorer that never answers would cost the
warden its lease, and every process that took the role after it; janitor and resolver live there too."""

from __future__ import annotations

import threading
from collections.abc import Callable

from django.db import close_old_connections

from quantum import clock, rows
from quantum.log import log

STUCK_AFTER_S = 10.0
SAID_EVERY_S = 60.0


class Apart:
    """At most one turn at a time; the next one begins when the warden comes by and the last one has ended."""

    def __init__(self, duty: Callable[[], None], *, name: str) -> None:
        self._duty = duty
        self._name = name
        self._wanted = threading.Event()
        self._since_boot_s: float | None = None
        self._say_at_boot_s = 0.0
        self._failed: Exception | None = None
        # A daemon: nobody could end it from outside, and a role that leaves must not wait for it.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def tick(self) -> None:
        """Raises what the last turn raised: what may be tried again and what ends the role is the warden's to say."""
        if not self._thread.ident:
            self._thread.start()
        if self._since_boot_s is not None:
            self._say_if_stuck(clock.boot_s() - self._since_boot_s)
            return
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed
        self._since_boot_s = clock.boot_s()
        self._wanted.set()

    def _say_if_stuck(self, for_s: float) -> None:
        if for_s > STUCK_AFTER_S and clock.boot_s() >= self._say_at_boot_s:
            self._say_at_boot_s = clock.boot_s() + SAID_EVERY_S
            log.error(f"{self._name} is stuck and does nothing: mend it and restart", for_s=round(for_s))

    def _work(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            try:
                rows.look_after_line()
                self._duty()
            except Exception as error:  # noqa: BLE001  it is raised again in the warden's round
                close_old_connections()
                self._failed = error
            self._since_boot_s = None
