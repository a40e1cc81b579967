"""The dead man's switch: an address elsewhere is asked while exits can leave. A host that is dead tells nobody that it
is; that nobody asks any more does."""

from __future__ import annotations

from collections.abc import Callable

from apply.alerts import asking
from quantum import clock
from quantum.log import log


class Beat:
    def __init__(self, *, url: str, every_s: float, flows: Callable[[], bool]) -> None:
        self._url = url
        self._every_s = every_s
        self._flows = flows
        self._next_boot_s = 0.0
        self._answers: bool | None = None

    def turn(self) -> None:
        if clock.boot_s() < self._next_boot_s or not self._flows():
            return
        self._next_boot_s = clock.boot_s() + self._every_s
        try:
            answers = 200 <= asking.ask("GET", self._url, headers={"User-Agent": "quantum-alerts"}) < 300
        except asking.FAILURES:
            answers = False
        if answers is not self._answers:  # said when it changes: whoever waits for it says the rest
            self._answers = answers
            log.info("[HEARTBEAT] is answered" if answers else "[HEARTBEAT] is not answered")
