"""What the host gave to others, and measuring again when that was much.

A figure from such a time (tools.stolen) is the host's, not the product's. So it is counted, and what was measured
while more than STOLEN_PERCENT was taken is measured again, floor and product alike, until it was not or PATIENCE_S have
passed: a busy host is busy for minutes. The quietest try counts, whatever it says.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from bench.parts import say
from tools import stolen

STOLEN_PERCENT = 3.0
PATIENCE_S = 240.0
T = TypeVar("T")


class Stolen:
    """Share of the wanted processor time that was taken, from its making until it is asked."""

    def __init__(self) -> None:
        self._before = stolen.counted()

    def percent(self) -> float:
        return round(stolen.percent(self._before, stolen.counted()), 1)


def steady(measure: Callable[[], tuple[T, float]], what: str) -> list[tuple[T, float]]:
    """measure gives what it found and how much was stolen meanwhile. All tries, the quietest first."""
    tries: list[tuple[T, float]] = []
    until_s = time.monotonic() + PATIENCE_S
    while True:
        tries.append(measure())
        percent = tries[-1][1]
        if percent <= STOLEN_PERCENT or time.monotonic() > until_s:
            break
        say(f"bench: {what}: {percent} % of the processor's time was stolen (try {len(tries)})")
    return sorted(tries, key=lambda one: one[1])
