"""Klines and views made by hand, and scorers that say what a test wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from apply.exits.market import Market, NoMarket, measure
from apply.exits.score import Crossing, NoScore, Score, View
from quantum.exchange.types import Kline
from quantum.plan import Action

MINUTE_MS = 60_000
BEGIN_MS = 1_767_225_600_000


def klines(closes: Sequence[Decimal | str | int], *, begin_ms: int = BEGIN_MS) -> list[Kline]:
    """Each opens where the one before closed, and has no wick."""
    prices = [Decimal(close) for close in closes]
    found = []
    for at, close in enumerate(prices):
        opened = prices[at - 1] if at else close
        open_ms = begin_ms + at * MINUTE_MS
        high, low = max(opened, close), min(opened, close)
        found.append(Kline(open_ms, opened, high, low, close, open_ms + MINUTE_MS - 1))
    return found


def market_of(closes: Sequence[Decimal | str | int]) -> Market:
    rows = klines(closes)
    found = measure(rows, now_ms=rows[-1].close_ms + 1)
    assert not isinstance(found, NoMarket), found.why
    return found


def market(**said: str | Decimal) -> Market:
    """Nothing speaks for leaving, but what is said."""
    calm: dict[str, str | Decimal] = {
        "trend": "0", "trend_before": "0", "trend_high": "0", "trend_low": "0",
        "sigma": "0.001", "sigma_usual": "0.001",
    }  # fmt: skip
    return Market(**{name: Decimal(value) for name, value in (calm | said).items()})


def view(**said: Any) -> View:
    rows = klines([100] * 61)
    usual: dict[str, Any] = {
        "symbol": "BTCUSDT", "amount": Decimal(1), "entry_price": Decimal(100), "mark_price": Decimal(100),
        "klines": rows, "at_ms": rows[-1].close_ms + 1, "age_s": Decimal(0), "market": market(),
        "risk": Decimal(1),
    }  # fmt: skip
    return View(**(usual | said))


def a_score(action: Action = Action.HOLD, crossing: Crossing | None = None, **said: Any) -> Score:
    usual: dict[str, Any] = {
        "value": Decimal("0.7"), "contributions": {"k_regime_flip": Decimal("0.7")}, "reason": "the test says so.",
        "standing": frozenset({crossing.name}) if crossing else frozenset(),
    }  # fmt: skip
    return Score(action=action, crossing=crossing, **(usual | said))


@dataclass
class Says:
    """A plug-in whose answer a test sets, and which keeps the views it was shown."""

    answer: Callable[[View], Any]
    name: str = "says"

    def __post_init__(self) -> None:
        self.seen: list[View] = []

    def score(self, view: View) -> Score | NoScore:
        self.seen.append(view)
        said: Score | NoScore = self.answer(view)
        return said


class Eager:
    """Takes a quarter of whatever it sees, once per position."""

    name = "eager"

    def score(self, view: View) -> Score | NoScore:
        return a_score(Action.PARTIAL_25, Crossing("eager"), r_net=Decimal("1.5"))


class Nameless(Eager):
    name = "two\nlines"
