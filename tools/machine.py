"""Whether the machine ran while something was tried on it (docs/decisions/036)."""

from __future__ import annotations

import threading
import time

from tools import stolen

NAP_S, LATE_S, STOOD_S = 0.02, 0.05, 0.25
COUNT_EVERY_S, TAKEN_PERCENT = 0.5, 10


class Machine:
    """Whoever naps for 20 ms on a machine that runs wakes after 20 ms, however busy its processes are. What it
    oversleeps is time in which nobody ran: the host's processor was somebody else's. No test keeps a deadline then.
    Nor where the host takes a slice of a few milliseconds again and again, which no nap shows and the kernel counts."""

    def __init__(self) -> None:
        self._lost: list[tuple[float, float]] = []
        self._counts = [(time.time(), stolen.counted())]
        threading.Thread(target=self._nap, daemon=True).start()

    def _nap(self) -> None:
        while True:
            before = time.time()
            time.sleep(NAP_S)
            late = time.time() - before - NAP_S
            if late >= LATE_S:
                self._lost.append((before, late))
            if before - self._counts[-1][0] >= COUNT_EVERY_S:
                self._counts.append((before, stolen.counted()))

    def stood_s(self, began: float, ended: float) -> float:
        return sum(late for at, late in list(self._lost) if began <= at + late and at <= ended)

    def taken_percent(self, began: float, ended: float) -> float:
        """From the last count before to the first one after."""
        counts = list(self._counts)
        first = max((each for each in counts if each[0] <= began), default=counts[0])
        last = min((each for each in counts if each[0] >= ended), default=counts[-1])
        return stolen.percent(first[1], last[1])

    def away(self, began: float, ended: float, *, stood_s: float = STOOD_S) -> str:
        """Why what took that time says nothing of the product, in words; empty: the machine ran."""
        lost_s = self.stood_s(began, ended)
        if lost_s >= stood_s:
            return f"the machine stood still for {lost_s:.2f} s of it"
        percent = self.taken_percent(began, ended)
        return f"{percent:.0f} % of the machine was taken meanwhile" if percent >= TAKEN_PERCENT else ""
