"""Symbols with their filters, and the mark prices: a seeded random walk moved by time on demand.

Nothing ticks: a price is moved on when somebody asks for it, by one step per second
gone by. An idle exchange therefore costs nothing. A scripted price stands still.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from functools import partial

from msgspec import Struct

from quantum.exchange.paper.candles import Candles

STEP_MS = 1000
STEPS_AT_ONCE_MAX = 300
BASIS_POINTS_MAX = 3


class Listing(Struct, frozen=True):
    """One symbol: its filters as Binance words them, and where its price starts."""

    symbol: str
    start_price: Decimal
    tick: Decimal
    step: Decimal
    quantity_min: Decimal
    quantity_max: Decimal
    market_quantity_max: Decimal
    notional_min: Decimal

    @property
    def price_precision(self) -> int:
        return _places(self.tick)

    @property
    def quantity_precision(self) -> int:
        return _places(self.step)

    @classmethod
    def from_json(cls, row: Mapping[str, str]) -> Listing:
        """A row of a symbols file: every number as text."""
        numbers = {name: Decimal(text) for name, text in row.items() if name != "symbol"}
        return cls(symbol=row["symbol"], **numbers)


def _listing(symbol: str, *numbers: str) -> Listing:
    return Listing(symbol, *(Decimal(number) for number in numbers))


LISTINGS: tuple[Listing, ...] = (
    #                    price      tick      step     min      max        market max  notional
    _listing("BTCUSDT", "64000.0", "0.10", "0.001", "0.001", "1000", "120", "100"),
    _listing("ETHUSDT", "3100.00", "0.01", "0.001", "0.001", "10000", "2000", "20"),
    _listing("SOLUSDT", "148.20", "0.01", "0.01", "0.01", "1000000", "80000", "5"),
    _listing("BNBUSDT", "580.50", "0.01", "0.01", "0.01", "100000", "2000", "5"),
    _listing("XRPUSDT", "0.6200", "0.0001", "0.1", "0.1", "10000000", "2000000", "5"),
)


PLAIN = ("100.00", "0.01", "1", "1", "10000000", "10000000", "5")


def listings_for(symbols: Iterable[str]) -> tuple[Listing, ...]:
    """The known ones, and plain filters for every other symbol that is asked for."""
    known = {listing.symbol for listing in LISTINGS}
    return LISTINGS + tuple(_listing(symbol, *PLAIN) for symbol in symbols if symbol not in known)


@dataclass(slots=True)
class _Quote:
    price: Decimal
    moved_ms: int
    walk: random.Random
    standing: bool = False


class Market:
    def __init__(self, *, listings: Iterable[Listing], seed: int, now_ms: int):
        self._seed = seed
        self.listings = {listing.symbol: listing for listing in listings}
        self._quotes = {
            symbol: _Quote(listing.start_price, now_ms, random.Random(f"{seed}:{symbol}"))
            for symbol, listing in self.listings.items()
        }
        self.candles = {
            symbol: self._candles(symbol, quote.price, seed, now_ms) for symbol, quote in self._quotes.items()
        }

    def _candles(self, symbol: str, price: Decimal, seed: int, now_ms: int) -> Candles:
        ticked = partial(self._ticked, symbol)
        return Candles(price=price, now_ms=now_ms, seed=f"{seed}:{symbol}", ticked=ticked)

    def price(self, *, symbol: str, now_ms: int) -> Decimal:
        quote = self._quotes[symbol]
        steps = (now_ms - quote.moved_ms) // STEP_MS
        if steps <= 0:
            return quote.price
        quote.moved_ms += steps * STEP_MS
        if not quote.standing:
            for left in reversed(range(min(steps, STEPS_AT_ONCE_MAX))):
                points = quote.walk.randint(-BASIS_POINTS_MAX, BASIS_POINTS_MAX)
                quote.price = self._ticked(symbol, quote.price * (10_000 + points) / 10_000)
                self.candles[symbol].note(price=quote.price, at_ms=quote.moved_ms - left * STEP_MS)
        else:
            self.candles[symbol].note(price=quote.price, at_ms=quote.moved_ms)
        return quote.price

    def begin_at(self, *, symbol: str, price: Decimal) -> None:
        """Where the last run ended; the past before this run leads up to it."""
        quote = self._quotes[symbol]
        quote.price = self._ticked(symbol, price)
        self.candles[symbol] = self._candles(symbol, quote.price, self._seed, quote.moved_ms)

    def set_price(self, *, symbol: str, price: Decimal, standing: bool) -> Decimal:
        quote = self._quotes[symbol]
        quote.price, quote.standing = self._ticked(symbol, price), standing
        self.candles[symbol].note(price=quote.price, at_ms=quote.moved_ms)
        return quote.price

    def _ticked(self, symbol: str, price: Decimal) -> Decimal:
        tick = self.listings[symbol].tick
        return max((price / tick).quantize(Decimal(1), ROUND_HALF_EVEN) * tick, tick)


def _places(step: Decimal) -> int:
    exponent = step.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
