"""Rows that are written beside the path: what comes close together shares one transaction, a moment later.

Written on the path they would cost each exit a commit of its own. Nothing may rest on them: whatever is lost with the
process is written by whoever looks after it later.
"""

from __future__ import annotations

import queue
import threading
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from django.db import connection

from quantum import clock

T = TypeVar("T")
DELAY_S = 0.025
EVERY_S = 0.075
"""From one transaction to the next at least: while things come close together they share one, and what is to be seen
can still be seen within a tenth of a second."""
BATCH_MAX = 500


class Ended(Exception):
    """The thread ended although nobody told it to: the role starts anew."""


class Beside(threading.Thread, ABC, Generic[T]):
    def __init__(self, *, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._waiting: queue.SimpleQueue[T | None] = queue.SimpleQueue()

    @abstractmethod
    def write(self, batch: list[T]) -> None: ...

    def put(self, item: T) -> None:
        self._waiting.put(item)

    def check(self) -> None:
        """For the role's idle turn: without this thread it would act and keep no record."""
        if not self.is_alive():
            raise Ended(self.name)

    def finish(self, *, timeout_s: float = 3.0) -> None:
        """Write what is left; what cannot be written now is left to whoever looks after it."""
        self._waiting.put(None)
        self.join(timeout_s)

    def run(self) -> None:
        next_s = 0.0
        while (first := self._waiting.get()) is not None:
            clock.sleep_s(max(DELAY_S, next_s - clock.boot_s()))
            next_s = clock.boot_s() + EVERY_S
            batch = [first]
            while len(batch) < BATCH_MAX and not self._waiting.empty():
                item = self._waiting.get()
                if item is None:
                    self._waiting.put(None)
                    break
                batch.append(item)
            self.write(batch)
        connection.close()
