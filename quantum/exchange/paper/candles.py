"""Candles of one symbol: those of the walk it lived, and a seeded past from before it began.

Kept by the minute. A minute in which nobody looked is filled in when somebody asks, flat at
the price before it: that is what the walk did. The same seed and the same start give the same past.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from decimal import Decimal

from msgspec import Struct

MINUTE_MS = 60_000
MINUTES_MAX = 7 * 24 * 60
"""Of the lived ones and of the past each: what lies before has no candle."""
POINTS_MAX, WICK_POINTS_MAX = 15, 6
INTERVALS_MS: Mapping[str, int] = {
    name: minutes * MINUTE_MS
    for name, minutes in {
        "1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 240, "6h": 360,
        "8h": 480, "12h": 720, "1d": 1440,
    }.items()
}  # fmt: skip


class Candle(Struct, frozen=True):
    opened: Decimal
    high: Decimal
    low: Decimal
    closed: Decimal

    def with_price(self, price: Decimal) -> Candle:
        return Candle(self.opened, max(self.high, price), min(self.low, price), price)

    def then(self, later: Candle) -> Candle:
        high, low = max(self.high, later.high), min(self.low, later.low)
        return Candle(self.opened, high, low, later.closed)


class Candles:
    def __init__(self, *, price: Decimal, now_ms: int, seed: str, ticked: Callable[[Decimal], Decimal]):
        self._begun = self._newest = now_ms // MINUTE_MS
        self._lived = {self._begun: Candle(price, price, price, price)}
        self._past: list[Candle] = []
        self._past_opens = price
        self._walk = random.Random(f"{seed}:past")
        self._ticked = ticked

    def note(self, *, price: Decimal, at_ms: int) -> None:
        """One step of the walk, or a scripted price."""
        minute = max(at_ms // MINUTE_MS, self._newest)
        self._flat_up_to(minute)
        self._lived[minute] = self._lived[minute].with_price(price)

    def minute(self, minute: int) -> Candle | None:
        """None: of so long ago, or of the future, nothing is told."""
        back = self._begun - minute
        if back <= 0:
            return self._lived.get(minute)
        if back > MINUTES_MAX:
            return None
        while len(self._past) < back:
            self._past.append(self._one_earlier())
        return self._past[back - 1]

    def _flat_up_to(self, minute: int) -> None:
        for new in range(max(self._newest + 1, minute - MINUTES_MAX + 1), minute + 1):
            price = self._lived[self._newest].closed
            self._lived[new] = Candle(price, price, price, price)
            self._newest = new
        while len(self._lived) > MINUTES_MAX:
            del self._lived[next(iter(self._lived))]

    def _one_earlier(self) -> Candle:
        """Backwards: it closes where the next one opens."""
        closed, walk = self._past_opens, self._walk
        opened = self._moved(closed, walk.randint(-POINTS_MAX, POINTS_MAX))
        high = self._moved(max(opened, closed), walk.randint(0, WICK_POINTS_MAX))
        low = self._moved(min(opened, closed), -walk.randint(0, WICK_POINTS_MAX))
        self._past_opens = opened
        return Candle(opened, max(high, opened, closed), min(low, opened, closed), closed)

    def _moved(self, price: Decimal, points: int) -> Decimal:
        return self._ticked(price * (10_000 + points) / 10_000)


def klines_of(
    candles: Candles, *, first_ms: int, end_ms: int, interval_ms: int, limit: int
) -> list[list[object]]:
    """Oldest first, aligned to the interval; the newest is still moving. Nobody else trades here: no volume."""
    found: list[list[object]] = []
    oldest_ms = end_ms - 2 * MINUTES_MAX * MINUTE_MS
    open_ms = max(first_ms, -(-oldest_ms // interval_ms) * interval_ms)
    while open_ms <= end_ms and len(found) < limit:
        whole = _joined(candles, open_ms, interval_ms)
        if whole is not None:
            prices = [format(price, "f") for price in (whole.opened, whole.high, whole.low, whole.closed)]
            found.append([open_ms, *prices, "0", open_ms + interval_ms - 1, "0", 0, "0", "0", "0"])
        open_ms += interval_ms
    return found


def _joined(candles: Candles, open_ms: int, interval_ms: int) -> Candle | None:
    whole: Candle | None = None
    for minute in range(open_ms // MINUTE_MS, (open_ms + interval_ms) // MINUTE_MS):
        one = candles.minute(minute)
        if one is not None:
            whole = one if whole is None else whole.then(one)
    return whole
