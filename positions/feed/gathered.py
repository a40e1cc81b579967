"""What waits to be written, and until when: at once after a quiet while, and together while much comes."""

from __future__ import annotations

import math
from typing import Generic, TypeVar

from quantum import clock

T = TypeVar("T")
GATHER_S = 0.04
"""From one write to the next at least: at eighty fills a second three of them share a commit and a round trip."""


class Gathered(Generic[T]):
    """Of one thread."""

    def __init__(self) -> None:
        self._items: list[T] = []
        self._next_s = 0.0

    def __len__(self) -> int:
        return len(self._items)

    def add(self, *items: T) -> None:
        self._items.extend(items)

    @property
    def due_in_s(self) -> float:
        """Endless where nothing waits."""
        return max(self._next_s - clock.boot_s(), 0.0) if self._items else math.inf

    def take(self) -> list[T]:
        items, self._items = self._items, []
        if items:
            self._next_s = clock.boot_s() + GATHER_S
        return items
