"""What klines say of a market: trend strength, volatility, regime. Pure; formulas in docs/exits.md."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from itertools import accumulate, pairwise
from typing import Final

from msgspec import Struct

from quantum.exchange.types import Kline

TREND: Final = 20
"""Changes of price in one window of trend strength."""
SHORT, USUAL = 10, 40
"""Returns in the volatility of now, and in the usual one, which ends where that begins."""
KLINES_MIN: Final = 61
"""SHORT + USUAL returns, and the peaks of 41 windows of trend."""
REGIME_FROM: Final = Decimal("0.3")
LATE_SPANS = 2
"""A newest kline that closed longer ago than this many spans is old."""


class Regime(StrEnum):
    UP = "up"
    DOWN = "down"
    FLAT = "flat"


class Market(Struct, frozen=True):
    """Trend strengths from -1 (straight down) over 0 (nowhere) to 1 (straight up)."""

    trend: Decimal
    trend_before: Decimal
    """Of the window that ended where this one begins."""
    trend_high: Decimal
    trend_low: Decimal
    """The strongest up and down of all windows seen."""
    sigma: Decimal
    """Volatility: root mean square of the newest returns."""
    sigma_usual: Decimal

    @property
    def regime(self) -> Regime:
        return regime_of(self.trend)


class NoMarket(Struct, frozen=True):
    """The klines do not carry a judgement, and why."""

    why: str


def regime_of(trend: Decimal) -> Regime:
    return Regime.UP if trend >= REGIME_FROM else Regime.DOWN if trend <= -REGIME_FROM else Regime.FLAT


def measure(klines: Sequence[Kline], *, now_ms: int) -> Market | NoMarket:
    unfit = _unfit(klines, now_ms=now_ms)
    if unfit:
        return NoMarket(unfit)
    closes = [one.closed for one in klines]
    trends = _trends(closes)
    returns = [later / one - 1 for one, later in pairwise(closes[-(SHORT + USUAL + 1) :])]
    return Market(
        trend=trends[-1],
        trend_before=trends[-1 - TREND],
        trend_high=max(trends),
        trend_low=min(trends),
        sigma=_root_mean_square(returns[-SHORT:]),
        sigma_usual=_root_mean_square(returns[:-SHORT]),
    )


def _unfit(klines: Sequence[Kline], *, now_ms: int) -> str:
    if len(klines) < KLINES_MIN:
        return f"{len(klines)} of {KLINES_MIN} klines"
    if not all(one.is_sensible for one in klines):
        return "a kline whose prices make no sense"
    span_ms = klines[0].close_ms + 1 - klines[0].open_ms
    for one, later in pairwise(klines):
        if later.open_ms != one.close_ms + 1 or later.close_ms + 1 - later.open_ms != span_ms:
            return "a gap between two klines"
    newest_ms = klines[-1].close_ms
    if not newest_ms < now_ms <= newest_ms + LATE_SPANS * span_ms:
        return "klines that are not of now"
    return ""


def _trends(closes: list[Decimal]) -> list[Decimal]:
    """For every window its way from end to end, against all the way it went: +1 and -1 are straight lines."""
    gone = [Decimal(0), *accumulate(abs(later - one) for one, later in pairwise(closes))]
    found = []
    for start in range(len(closes) - TREND):
        way = gone[start + TREND] - gone[start]
        found.append((closes[start + TREND] - closes[start]) / way if way else Decimal(0))
    return found


def _root_mean_square(returns: list[Decimal]) -> Decimal:
    return (sum((one * one for one in returns), Decimal(0)) / len(returns)).sqrt()
