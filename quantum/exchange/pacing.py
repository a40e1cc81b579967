"""The exchange's clock as we know it, and the silence it asked for: shared between connections."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field


def _local_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class ExchangeClock:
    """Our clock plus the measured offset. Share one between a reader and a sender."""

    offset_ms: int = 0
    local_ms: Callable[[], int] = _local_ms

    def now_ms(self) -> int:
        return self.local_ms() + self.offset_ms


@dataclass(slots=True)
class BackOff:
    """Until when the exchange wants silence, and the weight it last reported.

    Share one between all readers and senders of a process: a ban counts per address,
    not per key. A later time always wins, so a slow answer cannot shorten the silence.
    """

    until_ms: int = 0
    used_weight_1m: int | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def silent(self, *, until_ms: int) -> None:
        with self._lock:
            self.until_ms = max(self.until_ms, until_ms)

    def note_weight(self, *, header: str | None) -> None:
        """The testnet answers -1, which means nothing."""
        if header is not None and header.isascii() and header.isdigit():
            self.used_weight_1m = int(header)
