"""Price paths that ship with the backtest. Synthetic: seeded random walks with a story, no market's prices.

Whole numbers alone move them, so that one seed gives one path on every machine.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from decimal import Decimal

from msgspec import Struct

from quantum.exchange.types import Kline

SPAN_MS = 5 * 60_000
BEGIN_MS = 1_767_225_600_000
"""2026-01-01 00:00 UTC: a date for the table, nothing happened on it."""
START_PRICE, TICK = Decimal("64000.0"), Decimal("0.1")
TICKS_PER_KLINE = 6
MILLION = 1_000_000


class Leg(Struct, frozen=True):
    klines: int
    drift: int
    """Per tick, in millionths of the price."""
    noise: int


class Path(Struct, frozen=True):
    story: str
    amount: Decimal
    legs: tuple[Leg, ...]


PATHS: Mapping[str, Path] = {
    "trend": Path("a long that goes up all along", Decimal("0.1"), (Leg(61, 4, 300), Leg(240, 38, 400))),
    "turn": Path(
        "a long that goes up, and then all of it is lost again",
        Decimal("0.1"),
        (Leg(61, 8, 300), Leg(120, 34, 375), Leg(60, -75, 650), Leg(60, -12, 400)),
    ),
    "dip": Path(
        "a long that falls for an hour and comes back",
        Decimal("0.1"),
        (Leg(61, 8, 300), Leg(100, 20, 375), Leg(14, -170, 1050), Leg(126, 46, 400)),
    ),
    "crash": Path(
        "a long in a calm market that breaks down",
        Decimal("0.1"),
        (Leg(61, 5, 175), Leg(90, 5, 175), Leg(30, -190, 700), Leg(120, 6, 600)),
    ),
    "squeeze": Path(
        "a short that goes down, and is then squeezed",
        Decimal("-0.1"),
        (Leg(61, -8, 300), Leg(130, -38, 375), Leg(35, 170, 1050), Leg(75, 10, 450)),
    ),
    "dust": Path(
        "the turn again, with a position whose quarter is too small to sell",
        Decimal("0.003"),
        (Leg(61, 8, 300), Leg(120, 34, 375), Leg(60, -75, 650), Leg(60, -12, 400)),
    ),
}


def klines(name: str, *, seed: int) -> list[Kline]:
    path = PATHS[name]
    walk = random.Random(f"{name}:{seed}")  # noqa: S311  a toy market, and repeatable on purpose
    found: list[Kline] = []
    price = START_PRICE
    for leg in path.legs:
        for _ in range(leg.klines):
            ticks = [price]
            for _ in range(TICKS_PER_KLINE):
                price = _moved(price, leg.drift + walk.randint(-leg.noise, leg.noise))
                ticks.append(price)
            open_ms = BEGIN_MS + len(found) * SPAN_MS
            found.append(Kline(open_ms, ticks[0], max(ticks), min(ticks), price, open_ms + SPAN_MS - 1))
    return found


def _moved(price: Decimal, millionths: int) -> Decimal:
    return (price * (MILLION + millionths) / MILLION).quantize(TICK)
