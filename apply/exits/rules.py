"""The rule scorer: four reasons to leave, weighed into one score, and profit taken in steps of R. Pure.

Every formula is in docs/exits.md, with what makes it 0 and what makes it 1.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from msgspec import Struct

from apply.exits.market import REGIME_FROM, Market
from apply.exits.score import Crossing, NoScore, Score, View
from quantum import amounts
from quantum.plan import Action

PLACES, PRICE_PLACES = Decimal("0.0001"), Decimal("0.00000001")
ZERO, ONE = Decimal(0), Decimal(1)
WEIGHTS: Final = {
    "k_regime_flip": Decimal("0.35"),
    "k_sigma_spike": Decimal("0.25"),
    "k_ts_drop": Decimal("0.25"),
    "k_age_penalty": Decimal("0.15"),
}
RUNGS: Final = ((6, Action.PARTIAL_75), (4, Action.PARTIAL_50), (2, Action.PARTIAL_25))
"""Profit in R, highest first, and what is closed there."""
KILL, LOCK, PROFIT = "kill_score", "locked_stop", "profit_r"


class RuleScorer(Struct, frozen=True):
    close_from: Decimal = Decimal("0.6")
    rearm_below: Decimal = Decimal("0.5")
    """A score that moves around close_from is told once, until it has been lower than this."""
    sigma_full: Decimal = Decimal(3)
    """So many times the usual volatility count as 1."""
    age_free_s: Decimal = Decimal(4 * 3600)
    age_full_s: Decimal = Decimal(24 * 3600)
    lock_from_r: Decimal = Decimal(2)
    lock_share: Decimal = Decimal("0.5")
    """Of the best profit so far, what the stop keeps."""
    fee_rate: Decimal = Decimal("0.0005")
    """Of each side's value: the exchange's fee for taking, paid on the way in and on the way out."""
    name: str = "rules"

    def score(self, view: View) -> Score | NoScore:
        parts = self.contributions(view)
        value = sum((WEIGHTS[name] * part for name, part in parts.items()), ZERO).quantize(PLACES)
        r_net, stop = self.r_net(view), self.stop(view)
        action, crossing, because = self._decide(view, value=value, r_net=r_net, stop=stop)
        return Score(
            value=value,
            contributions=parts,
            action=action,
            reason=_sentence(view, because, value=value, parts=parts),
            reason_codes=tuple(name for name, part in parts.items() if part > 0),
            crossing=crossing,
            standing=self._standing(view, value=value, stop=stop),
            stop_proposed=stop,
            r_net=r_net,
        )

    # ---- the four contributions

    def contributions(self, view: View) -> dict[str, Decimal]:
        market, side = view.market, view.side
        found = {
            "k_regime_flip": regime_flip(market, side=side),
            "k_sigma_spike": self.sigma_spike(market),
            "k_ts_drop": trend_drop(market, side=side),
            "k_age_penalty": self.age_penalty(view.age_s),
        }
        return {name: part.quantize(PLACES) for name, part in found.items()}

    def sigma_spike(self, market: Market) -> Decimal:
        if market.sigma_usual == 0:
            return ONE if market.sigma > 0 else ZERO
        return _within((market.sigma / market.sigma_usual - 1) / (self.sigma_full - 1))

    def age_penalty(self, age_s: Decimal | None) -> Decimal:
        if age_s is None:
            return ZERO
        return _within((age_s - self.age_free_s) / (self.age_full_s - self.age_free_s))

    # ---- profit in R

    def r_net(self, view: View) -> Decimal | None:
        if view.risk is None:
            return None
        fees = self.fee_rate * (view.entry_price + view.mark_price)
        return ((view.side * (view.mark_price - view.entry_price) - fees) / view.risk).quantize(PLACES)

    def stop(self, view: View) -> Decimal | None:
        """Moves only towards profit; half of the best profit is kept once that was 2 R."""
        if view.risk is None:
            return view.stop_locked
        best_r = view.side * (_best_price(view) - view.entry_price) / view.risk
        if best_r < self.lock_from_r:
            return view.stop_locked
        locked = (view.entry_price + view.side * self.lock_share * best_r * view.risk).quantize(PRICE_PLACES)
        if view.stop_locked is None:
            return locked
        return max(locked, view.stop_locked) if view.side > 0 else min(locked, view.stop_locked)

    # ---- the decision

    def _decide(
        self, view: View, *, value: Decimal, r_net: Decimal | None, stop: Decimal | None
    ) -> tuple[Action, Crossing | None, str]:
        if _is_past(stop, view):
            text = f"the price {_text(view.mark_price)} crossed the locked stop {_text(stop)}"
            return Action.FULL_CLOSE, Crossing(LOCK), text
        if value >= self.close_from:
            return Action.FULL_CLOSE, Crossing(KILL), f"the kill score reached {self.close_from}"
        for rung, action in RUNGS:
            if r_net is not None and r_net >= rung:
                return action, Crossing(PROFIT, rung), f"the profit after fees reached {rung} R"
        return Action.HOLD, None, "no line is crossed"

    def _standing(self, view: View, *, value: Decimal, stop: Decimal | None) -> frozenset[str]:
        """Each rung is taken once in a position's life; score and stop may come again."""
        kill = {KILL} if value >= self.rearm_below else set()
        lock = {LOCK} if _is_past(stop, view) else set()
        return frozenset({PROFIT} | kill | lock)


def regime_flip(market: Market, *, side: int) -> Decimal:
    """How far the trend turned, and no more than twice how far it now goes against the position."""
    now, before = side * market.trend, side * market.trend_before
    return _within(min(before - now, -2 * now))


def trend_drop(market: Market, *, side: int) -> Decimal:
    """How much of the strongest trend in favour is gone; a weak one counts less."""
    peak = max(market.trend_high if side > 0 else -market.trend_low, ZERO)
    now = max(side * market.trend, ZERO)
    return _within((peak - now) / max(peak, REGIME_FROM))


def _best_price(view: View) -> Decimal:
    """Since it is held; of a position of unknown age only the price of now counts."""
    since_ms = view.at_ms - int(view.age_s * 1000) if view.age_s is not None else view.at_ms
    held = [one for one in view.klines if one.open_ms >= since_ms]
    if view.side > 0:
        return max([view.mark_price, *(one.high for one in held)])
    return min([view.mark_price, *(one.low for one in held)])


def _is_past(stop: Decimal | None, view: View) -> bool:
    return stop is not None and view.side * (view.mark_price - stop) <= 0


def _within(value: Decimal) -> Decimal:
    return min(max(value, ZERO), ONE)


def _text(value: Decimal | None) -> str:
    return "unknown" if value is None else amounts.plain(value.quantize(PRICE_PLACES))


def _sentence(view: View, because: str, *, value: Decimal, parts: dict[str, Decimal]) -> str:
    told = ", ".join(f"{name.removeprefix('k_')} {amounts.plain(part)}" for name, part in parts.items())
    age = "age unknown, " if view.age_s is None else ""
    side = "long" if view.side > 0 else "short"
    return f"{because}: {side} in a market that goes {view.market.regime}, score {amounts.plain(value)} ({age}{told})."
