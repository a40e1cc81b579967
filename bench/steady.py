"""What the host gave to others, and measuring again when that was much.

A virtual machine loses its processors for milliseconds or seconds, and the kernel counts it (`steal`). A figure
from such a time is the host's, not the product's. So it is counted, and what was measured while more than
STOLEN_PERCENT was taken is measured again, floor and product alike. The quietest try counts, whatever it says.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bench.parts import say

STOLEN_PERCENT = 3.0
TRIES = 4
T = TypeVar("T")


def _counted() -> tuple[int, int]:
    """Ticks that were taken, ticks that were wanted. Without a kernel that counts: nothing was taken."""
    try:
        first = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return 0, 0
    user, nice, system, _idle, _io, irq, softirq, steal = map(int, first[:8])
    return steal, user + nice + system + irq + softirq + steal


class Stolen:
    """Share of the wanted processor time that was taken, from its making until it is asked."""

    def __init__(self) -> None:
        self._steal, self._wanted = _counted()

    def percent(self) -> float:
        steal, wanted = _counted()
        return round(100 * (steal - self._steal) / max(wanted - self._wanted, 1), 1)


def steady(measure: Callable[[], tuple[T, float]], what: str) -> list[tuple[T, float]]:
    """measure gives what it found and how much was stolen meanwhile. All tries, the quietest first."""
    tries: list[tuple[T, float]] = []
    for number in range(TRIES):
        tries.append(measure())
        percent = tries[-1][1]
        if percent <= STOLEN_PERCENT:
            break
        say(f"bench: {what}: {percent} % of the processor's time was stolen (try {number + 1} of {TRIES})")
    return sorted(tries, key=lambda one: one[1])
