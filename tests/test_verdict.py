"""The Brain's judgement as a table: each check with its reason, in its order, and never too much."""

from __future__ import annotations

from decimal import Decimal
from itertools import combinations
from typing import Any

import pytest
from msgspec.structs import replace

from positions.judging.verdict import Bounds, Ledger, Observed, evaluate
from quantum.reasons import BrainReason
from tests.properties import given, st

SEEN = Observed(amount=Decimal(1), age_s=Decimal(1), observed_at=Decimal(1_764_000_000))
OURS = Ledger(amount=Decimal(1), moved_ms=0, locked_by="", hold="", since_exit_s=None)
BOUNDS = Bounds(
    lot_step=Decimal("0.001"),
    market_step=Decimal("0.001"),
    market_min=Decimal("0.001"),
    market_max=Decimal(120),
    tolerance_pct=Decimal(1),
    stale_after_s=Decimal(10),
    cooldown_s=Decimal(15),
)
CHECKS: list[tuple[BrainReason, dict[str, Any], dict[str, Any]]] = [
    (BrainReason.HOLD_ACTIVE, {}, {"hold": "drift"}),
    (BrainReason.ORDER_IN_FLIGHT, {}, {"locked_by": "0123456789abcdef"}),
    (BrainReason.COOLDOWN_IN_FLIGHT, {}, {"since_exit_s": Decimal("14.9")}),
    (BrainReason.NO_EXCHANGE_SNAPSHOT, {"amount": None}, {}),
    (BrainReason.STALE_EXCHANGE_STATE, {"age_s": Decimal("10.1")}, {}),
    (BrainReason.STALE_EXCHANGE_STATE, {}, {"moved_ms": 1_764_000_000_001}),
    (BrainReason.LEDGER_MISSING, {}, {"amount": None}),
    (BrainReason.SIDE_MISMATCH, {}, {"amount": Decimal(-1)}),
    (BrainReason.QTY_MISMATCH, {}, {"amount": Decimal("0.98")}),
    (BrainReason.NO_POSITION, {"amount": Decimal(0)}, {"amount": Decimal(0)}),
]
"""In their order: what the exchange side and the ledger side must be for each."""


def judged(seen: dict[str, Any], ours: dict[str, Any], percent: int = 100, **bounds: Any) -> Any:
    return evaluate(
        percent=percent,
        observed=replace(SEEN, **seen),
        ledger=replace(OURS, **ours),
        bounds=replace(BOUNDS, **bounds),
    )


@pytest.mark.parametrize(("reason", "seen", "ours"), CHECKS, ids=lambda value: getattr(value, "value", ""))
def test_each_check_answers_with_its_reason(
    reason: BrainReason, seen: dict[str, Any], ours: dict[str, Any]
) -> None:
    found = judged(seen, ours)
    assert (found.reason, found.allowed, found.safe_quantity) == (reason, False, 0)
    assert found.compared, "a denial names what it compared"


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (a, b)
        for a, b in combinations(CHECKS, 2)
        if not (a[1].keys() & b[1].keys() or a[2].keys() & b[2].keys())
    ],
    ids=lambda check: check[0].value,
)
def test_the_earlier_check_answers(first: Any, later: Any) -> None:
    assert judged(first[1] | later[1], first[2] | later[2]).reason is first[0]


@pytest.mark.parametrize(
    ("seen", "ours"),
    [
        ({}, {"since_exit_s": Decimal(15)}),
        ({"age_s": Decimal(10)}, {}),
        ({}, {"amount": Decimal("0.99")}),
        ({}, {"amount": Decimal("1.01")}),
        ({}, {"moved_ms": 1_764_000_000_000}),
    ],
)
def test_a_value_on_the_limit_passes(seen: dict[str, Any], ours: dict[str, Any]) -> None:
    assert judged(seen, ours).allowed


@pytest.mark.parametrize("amount", ["0.0005", "-0.0005"])
def test_opposite_sides_are_told_as_such_however_small(amount: str) -> None:
    """Both within one lot step of each other: only the sides differ."""
    found = judged({"amount": Decimal(amount)}, {"amount": -Decimal(amount)})
    assert found.reason is BrainReason.SIDE_MISMATCH


def test_the_tolerance_is_at_least_one_lot_step() -> None:
    small = {"amount": Decimal("0.010")}
    assert judged(small, {"amount": Decimal("0.009")}).allowed
    assert judged(small, {"amount": Decimal("0.008")}).reason is BrainReason.QTY_MISMATCH


def test_what_rounds_below_the_least_is_denied() -> None:
    assert judged({}, {}, percent=25, market_min=Decimal("0.3")).reason is BrainReason.BELOW_MIN_QUANTITY


def test_a_movement_stamped_by_a_clock_that_was_set_back_denies_nothing() -> None:
    assert judged({}, {"moved_ms": 1_764_000_060_001}).allowed


def test_what_rests_in_the_book_of_others_is_not_ours_to_close() -> None:
    """A part that fits beside it is closed whole; the rest goes by their order."""
    resting = {"resting": Decimal("0.6005")}
    assert judged(resting, {}, percent=25).safe_quantity == Decimal("0.25")
    assert judged(resting, {}, percent=100).safe_quantity == Decimal("0.399")
    found = judged({"resting": Decimal(1)}, {})
    assert (found.reason, found.compared["resting"]) == (BrainReason.BELOW_MIN_QUANTITY, Decimal(1))
    assert judged({"resting": Decimal(7)}, {}).reason is BrainReason.BELOW_MIN_QUANTITY


@given(
    st.decimals(min_value=-500, max_value=500, places=4),
    st.decimals(min_value=-500, max_value=500, places=4),
    st.sampled_from([25, 50, 75, 100]),
    st.sampled_from([Decimal("0.001"), Decimal("0.1"), Decimal(1)]),
)
def test_what_is_allowed_is_covered_by_both_records(
    exchange: Decimal, ours: Decimal, percent: int, step: Decimal
) -> None:
    found = judged({"amount": exchange}, {"amount": ours}, percent, market_step=step)
    if found.allowed:
        assert 0 < found.safe_quantity <= min(abs(exchange), abs(ours)) * percent / 100
        assert found.safe_quantity <= BOUNDS.market_max
        assert found.safe_quantity % step == 0
        assert exchange * ours > 0
    else:
        assert found.safe_quantity == 0
