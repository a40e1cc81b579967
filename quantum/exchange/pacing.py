"""The exchange's clock as we know it, and the silence it asked for: shared between connections."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

MINUTE_MS = 60_000
SWEEPS_SHARE_MAX: Final = Fraction(1, 3)
"""Above this share of a minute's weight, reads that can wait do."""
READS_SHARE_MAX: Final = Fraction(4, 5)
"""Above this one all reads do: a ban would stop orders too. Orders are never held back by it."""


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
    used_at_ms: int = 0
    weight_limit_1m: int | None = None
    """Of exchangeInfo. Unknown until it was read once: nothing is held back by a guess."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def silent(self, *, until_ms: int) -> None:
        with self._lock:
            self.until_ms = max(self.until_ms, until_ms)

    def note_weight(self, *, header: str | None, now_ms: int) -> None:
        """The testnet answers -1, which means nothing."""
        if header is not None and header.isascii() and header.isdigit():
            with self._lock:
                self.used_weight_1m, self.used_at_ms = int(header[:9]), now_ms

    def over_until_ms(self, *, share: Fraction, now_ms: int) -> int | None:
        """The end of this minute, where more than share of its weight is used; None: there is room.

        The exchange counts by its own full minutes, whoever called from this address: what an
        earlier minute used says nothing about this one.
        """
        with self._lock:
            used, limit, at_ms = self.used_weight_1m, self.weight_limit_1m, self.used_at_ms
        if used is None or not limit or at_ms // MINUTE_MS != now_ms // MINUTE_MS:
            return None
        return (now_ms // MINUTE_MS + 1) * MINUTE_MS if used > share * limit else None
