"""The rule scorer: formulas that reach every value from 0 to 1, profit in R, a stop that only moves one way."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace

from apply.exits.market import NoMarket, Regime, measure
from apply.exits.rules import WEIGHTS, RuleScorer, regime_flip, trend_drop
from apply.exits.score import Crossing, Score, View, fault_of
from quantum.plan import Action
from tests.exits.by_hand import klines, market, market_of, view
from tests.properties import example, given, st

RULES = RuleScorer()
SHARES = st.decimals(min_value=0, max_value=1, places=4, allow_nan=False)
STRENGTHS = st.decimals(min_value=-1, max_value=1, places=6, allow_nan=False)
SIGMAS = st.decimals(min_value=0, max_value=10, places=8, allow_nan=False)
PRICES = st.decimals(min_value="0.00000001", max_value=1_000_000, places=8, allow_nan=False)
DAY_S = Decimal(24 * 3600)
SIDES = st.sampled_from([1, -1])


def scored(shown: View) -> Score:
    found = RULES.score(shown)
    assert isinstance(found, Score)
    assert fault_of(found) == ""
    return found


# ---- within 0 and 1, and every value of it


@given(
    st.tuples(STRENGTHS, STRENGTHS, STRENGTHS, STRENGTHS), SIGMAS, SIGMAS, st.none() | PRICES, SIDES, PRICES
)
def test_whatever_the_market_does_every_number_is_within_0_and_1(
    trends: tuple[Decimal, ...],
    sigma: Decimal,
    usual: Decimal,
    age_s: Decimal | None,
    side: int,
    mark: Decimal,
) -> None:
    now, before, one, other = trends
    seen = market(
        trend=now, trend_before=before, trend_high=max(now, one), trend_low=min(now, other),
        sigma=sigma, sigma_usual=usual,
    )  # fmt: skip
    found = scored(view(market=seen, age_s=age_s, amount=Decimal(side), mark_price=mark))
    assert set(found.contributions) == set(WEIGHTS)
    assert all(0 <= part <= 1 for part in (found.value, *found.contributions.values()))


@given(SHARES, SIDES)
@example(Decimal(0), 1)
@example(Decimal(1), 1)
@example(Decimal(0), -1)
@example(Decimal(1), -1)
def test_each_contribution_takes_every_value(wanted: Decimal, side: int) -> None:
    turned = market(trend=-side * wanted / 2, trend_before=side * wanted / 2)
    assert regime_flip(turned, side=side) == wanted
    weaker = market(trend_high="1", trend_low="-1", trend=side * (1 - wanted))
    assert trend_drop(weaker, side=side) == wanted
    assert RULES.sigma_spike(market(sigma="0.001", sigma_usual="0.001")) == 0
    assert RULES.sigma_spike(market(sigma=1 + 2 * wanted, sigma_usual="1")) == wanted
    assert RULES.age_penalty(Decimal(4 * 3600) + Decimal(20 * 3600) * wanted) == wanted


CALM = [Decimal(100) + Decimal(at) / 10 for at in range(61)]
"""Up in even steps, which grow smaller against the price: nothing turns, spikes or weakens."""
BREAKING = [
    *CALM[:41],
    *(CALM[40] - Decimal(at) / 10 for at in range(1, 11)),
    *(CALM[30] - 2 * at for at in range(1, 11)),
]


def mixed(share: Decimal, side: int) -> list[Decimal]:
    """Prices between the two; for a short the same story upside down."""
    long = [(1 - share) * calm + share * broken for calm, broken in zip(CALM, BREAKING, strict=True)]
    return long if side > 0 else [10_000 / price for price in long]


@given(SHARES, SIDES)
@example(Decimal(0), 1)
@example(Decimal(1), 1)
@example(Decimal(0), -1)
@example(Decimal(1), -1)
def test_there_are_prices_for_every_score(wanted: Decimal, side: int) -> None:
    """From real prices to the score, without a step in between: halving finds prices for any value."""

    def score(share: Decimal) -> Decimal:
        seen = market_of(mixed(share, side))
        return scored(view(market=seen, amount=Decimal(side), age_s=4 * 3600 + share * 20 * 3600)).value

    low, high = Decimal(0), Decimal(1)
    assert score(low) == 0
    assert score(high) == 1
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if score(middle) < wanted else (low, middle)
    assert abs(score(high) - wanted) <= Decimal("0.001")


def test_the_weights_make_one() -> None:
    assert sum(WEIGHTS.values()) == 1


def test_a_calm_market_after_none_is_no_spike_and_a_move_out_of_nothing_is_a_whole_one() -> None:
    assert RULES.sigma_spike(market(sigma="0", sigma_usual="0")) == 0
    assert RULES.sigma_spike(market(sigma="0.0001", sigma_usual="0")) == 1


# ---- what is done about it


def mark_at(r: str) -> Decimal:
    """The mark of a long from 100 with R = 1 at which the profit after fees is r, or a hair above."""
    return ((Decimal(r) + 100 + Decimal("0.05")) / (1 - Decimal("0.0005"))).quantize(
        Decimal("0.00000001")
    ) + Decimal("0.00000001")


@pytest.mark.parametrize(
    ("r", "action", "level"),
    [("1.99", Action.HOLD, 0), ("2", Action.PARTIAL_25, 2), ("3.9", Action.PARTIAL_25, 2),
     ("4", Action.PARTIAL_50, 4), ("6", Action.PARTIAL_75, 6), ("60", Action.PARTIAL_75, 6)],
)  # fmt: skip
def test_profit_is_taken_at_two_four_and_six_times_the_risk_after_fees(
    r: str, action: Action, level: int
) -> None:
    found = scored(view(mark_price=mark_at(r)))
    assert (found.r_net, found.action) == (Decimal(r), action)
    assert found.crossing == (Crossing("profit_r", level) if level else None)


def test_without_a_known_risk_nothing_is_taken_and_nothing_is_locked() -> None:
    found = scored(view(mark_price=Decimal(150), risk=None))
    assert (found.action, found.r_net, found.stop_proposed) == (Action.HOLD, None, None)


@pytest.mark.parametrize("side", [1, -1])
def test_the_stop_keeps_half_of_the_best_profit_and_never_goes_back(side: int) -> None:
    def at(move: str, locked: Decimal | None) -> Score:
        mark = 100 + side * Decimal(move)
        return scored(view(amount=Decimal(side), mark_price=mark, stop_locked=locked))

    assert at("1.9", None).stop_proposed is None
    first = at("3", None).stop_proposed
    assert first == 100 + side * Decimal("1.5")
    assert at("2.2", first).stop_proposed == first
    crossed = at("1.5", first)
    assert (crossed.action, crossed.crossing) == (Action.FULL_CLOSE, Crossing("locked_stop"))
    assert at("1.51", first).action is Action.HOLD


def test_the_best_price_counts_from_when_it_is_held() -> None:
    rows = klines([100] * 58 + [104, 101, 101])
    shown = {"klines": rows, "at_ms": rows[-1].close_ms + 1, "mark_price": Decimal(101)}
    assert scored(view(**shown, age_s=Decimal(600))).stop_proposed == 102
    assert scored(view(**shown, age_s=Decimal(60))).stop_proposed is None
    assert scored(view(**shown, age_s=None)).stop_proposed is None


def test_a_full_score_closes_and_says_why_in_one_sentence_and_in_numbers() -> None:
    found = scored(view(market=market_of(BREAKING), age_s=DAY_S, risk=None, mark_price=Decimal("81.2")))
    assert (found.action, found.crossing) == (Action.FULL_CLOSE, Crossing("kill_score"))
    assert found.reason == (
        "the kill score reached 0.6: long in a market that goes down, score 1 "
        "(regime_flip 1, sigma_spike 1, ts_drop 1, age_penalty 1)."
    )


@pytest.mark.parametrize(("age_h", "stands"), [(24, True), (12, True), (10, False)])
def test_a_score_stands_until_it_is_well_below(age_h: int, stands: bool) -> None:
    """0.35 + 0.1 of the age and a bit: 0.6, 0.51 and 0.495 around the line of 0.5."""
    seen = market(trend="-0.5", trend_before="0.5", trend_high="0.12", sigma="1", sigma_usual="1")
    found = scored(view(market=seen, age_s=Decimal(age_h * 3600)))
    assert ("kill_score" in found.standing) is stands


# ---- no data, no score


def test_the_market_is_told_from_sixty_one_klines_of_now() -> None:
    rows = klines(CALM)
    assert market_of(CALM).regime is Regime.UP
    now_ms = rows[-1].close_ms + 1
    nan, gap = klines(CALM), klines(CALM)
    nan[3] = replace(nan[3], closed=Decimal("NaN"))
    del gap[30]
    said = {
        "60 of 61 klines": measure(rows[1:], now_ms=now_ms),
        "a kline whose prices make no sense": measure(nan, now_ms=now_ms),
        "a gap between two klines": measure(
            [*klines([100], begin_ms=rows[0].open_ms - 60_000), *gap], now_ms=now_ms
        ),
        "klines that are not of now": measure(rows, now_ms=now_ms + 120_000),
    }
    for why, found in said.items():
        assert found == NoMarket(why)
    assert measure(rows, now_ms=rows[-1].close_ms) == NoMarket("klines that are not of now")  # it still moves
