"""Each limit at its exact edge, for a symbol and in total, in its own unit; and what it needs to know."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from permits.policy.policy import TOTAL, Facts, Limits, LimitSet, Policy, Use, Verdict, evaluate, within
from quantum.plan import Action, make
from quantum.reasons import GovernorReason

AT = Decimal(1_764_000_000)
SYMBOL = "BTCUSDT"
SCOPES = (SYMBOL, TOTAL)
FACTS = Facts(now_s=AT + 1, trading_active=True, quantity=Decimal("0.5"), notional=Decimal(500))


def judged(scope: str, limits: Limits, use: Use, **facts: Any) -> Verdict:
    """With these limits and this use in one scope alone; the other is wide open and has used nothing."""
    chosen: dict[str, Any] = {"of_symbol": use} if scope == SYMBOL else {"in_total": use}
    given = LimitSet(each=limits) if scope == SYMBOL else LimitSet(total=limits)
    return within(SYMBOL, given, replace(FACTS, **chosen, **facts))


EDGES: list[tuple[GovernorReason, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    # reason, limit, a use that just fits, a use that just does not
    (GovernorReason.BURST_LIMIT, {"permits_per_5min": 10}, {"permits_5min": 9}, {"permits_5min": 10}),
    (GovernorReason.HOURLY_LIMIT, {"permits_per_hour": 60}, {"permits_hour": 59}, {"permits_hour": 60}),
    (
        GovernorReason.DAILY_NOTIONAL_LIMIT,
        {"notional_per_day_usd": Decimal(50_000)},
        {"notional_day": Decimal(49_500)},
        {"notional_day": Decimal("49500.00000001")},
    ),
    (
        GovernorReason.COOLDOWN,
        {"cooldown_s": Decimal(15)},
        {"since_exit_s": Decimal(15)},
        {"since_exit_s": Decimal("14.999")},
    ),
    (
        GovernorReason.CIRCUIT_OPEN,
        {"failures_in_a_row": 3},
        {"failures_in_a_row": 2, "since_failure_s": Decimal(0)},
        {"failures_in_a_row": 3, "since_failure_s": Decimal("4.999")},
    ),
]


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(("reason", "limit", "fits", "exceeds"), EDGES, ids=lambda part: str(part)[:30])
def test_a_limit_denies_beyond_its_edge_and_not_on_it(
    scope: str,
    reason: GovernorReason,
    limit: dict[str, Any],
    fits: dict[str, Any],
    exceeds: dict[str, Any],
) -> None:
    limits = Limits(**limit)
    assert judged(scope, limits, Use(**fits)).approved
    denied = judged(scope, limits, Use(**exceeds))
    assert denied.reason is reason
    assert denied.rule["scope"] == scope
    assert denied.rule["limit"] == next(iter(limit.values())), "a denial names the limit"
    assert denied.rule["used"] in exceeds.values(), "and what was held against it"
    assert denied.rule["unit"]


def test_a_daily_quantity_is_coins_of_one_symbol() -> None:
    limits = Limits(quantity_per_day=Decimal(2))
    assert judged(SYMBOL, limits, Use(quantity_day=Decimal("1.5"))).approved
    denied = judged(SYMBOL, limits, Use(quantity_day=Decimal("1.500000000001")))
    assert denied.reason is GovernorReason.DAILY_QUANTITY_LIMIT
    assert (denied.rule["limit"], denied.rule["asked"]) == (Decimal(2), Decimal("0.5"))


def test_dollars_and_coins_never_meet() -> None:
    """The predecessor added both into one counter, and was disarmed on its first day."""
    huge_in_usd = Use(notional_day=Decimal(10) ** 12)
    assert judged(SYMBOL, Limits(quantity_per_day=Decimal(1)), huge_in_usd).approved
    many_coins = Use(quantity_day=Decimal(10) ** 12)
    assert judged(SYMBOL, Limits(notional_per_day_usd=Decimal(501)), many_coins).approved


@pytest.mark.parametrize("scope", SCOPES)
def test_a_cooldown_counts_an_exit_that_may_still_be_filled(scope: str) -> None:
    limits = Limits(cooldown_s=Decimal(15))
    denied = judged(scope, limits, Use(in_flight=1))
    assert denied.reason is GovernorReason.COOLDOWN
    assert denied.rule["in_flight"] == 1
    assert judged(scope, Limits(cooldown_s=Decimal(0)), Use(in_flight=1, since_exit_s=Decimal(0))).approved
    assert judged(scope, limits, Use()).approved, "nothing was ever closed"


@pytest.mark.parametrize("scope", SCOPES)
def test_a_half_open_circuit_lets_exactly_one_probe_through(scope: str) -> None:
    limits = Limits(failures_in_a_row=3, circuit_open_s=Decimal(60))
    failed = Use(failures_in_a_row=3, since_failure_s=Decimal(60))
    assert judged(scope, limits, failed).approved, "the time is over: one probe"
    waiting = judged(scope, limits, replace(failed, in_flight=1))
    assert waiting.reason is GovernorReason.CIRCUIT_OPEN
    assert waiting.rule["probes"] == 1
    again = replace(failed, failures_in_a_row=4, since_failure_s=Decimal("0.5"))
    assert judged(scope, limits, again).reason is GovernorReason.CIRCUIT_OPEN, "the probe failed: open again"


@pytest.mark.parametrize("scope", SCOPES)
def test_an_exit_above_a_size_waits_for_people(scope: str) -> None:
    at = Limits(approval_above_usd=Decimal(500))
    assert judged(scope, at, Use()).approved
    above = Limits(approval_above_usd=Decimal("499.99"))
    denied = judged(scope, above, Use())
    assert denied.reason is GovernorReason.AWAITING_APPROVAL
    assert (denied.rule["limit"], denied.rule["asked"]) == (Decimal("499.99"), Decimal(500))
    assert judged(scope, above, Use(), approved=True).approved


def test_every_exit_of_a_chosen_symbol_waits_for_people() -> None:
    limits = LimitSet(approval_symbols=frozenset({SYMBOL}))
    assert within(SYMBOL, limits, FACTS).reason is GovernorReason.AWAITING_APPROVAL
    assert within("ETHUSDT", limits, FACTS).approved
    assert within(SYMBOL, limits, replace(FACTS, approved=True)).approved


def test_a_yes_of_people_passes_no_other_rule() -> None:
    limits = Limits(permits_per_5min=1, approval_above_usd=Decimal(1))
    found = judged(TOTAL, limits, Use(permits_5min=1), approved=True)
    assert found.reason is GovernorReason.BURST_LIMIT


NEEDING = [
    Limits(notional_per_day_usd=Decimal(10) ** 12),
    Limits(approval_above_usd=Decimal(10) ** 12),
]


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("limits", NEEDING, ids=["notional", "approval"])
def test_a_limit_whose_input_is_unknown_denies(scope: str, limits: Limits) -> None:
    found = judged(scope, limits, Use(), quantity=None, notional=None, missing="no snapshot")
    assert found.reason is GovernorReason.INPUTS_UNAVAILABLE
    assert found.rule["missing"] == "no snapshot"


def test_an_unknown_quantity_denies_where_one_is_limited() -> None:
    found = judged(SYMBOL, Limits(quantity_per_day=Decimal(10)), Use(), quantity=None)
    assert found.reason is GovernorReason.INPUTS_UNAVAILABLE


@pytest.mark.parametrize("scope", SCOPES)
def test_a_limit_that_is_not_set_asks_for_nothing(scope: str) -> None:
    counts = Limits(permits_per_5min=5, permits_per_hour=5, cooldown_s=Decimal(1), failures_in_a_row=1)
    assert judged(scope, counts, Use(), quantity=None, notional=None).approved
    assert not counts.need_size


def test_one_symbols_own_limits_win_over_those_of_each() -> None:
    limits = LimitSet(each=Limits(permits_per_5min=1), symbols={"ETHUSDT": Limits(permits_per_5min=5)})
    facts = replace(FACTS, of_symbol=Use(permits_5min=1))
    assert within(SYMBOL, limits, facts).reason is GovernorReason.BURST_LIMIT
    assert within("ETHUSDT", limits, facts).approved


ORDER: list[tuple[GovernorReason, dict[str, Any], dict[str, Any]]] = [
    (GovernorReason.BURST_LIMIT, {"permits_per_5min": 1}, {"permits_5min": 1}),
    (GovernorReason.HOURLY_LIMIT, {"permits_per_hour": 1}, {"permits_hour": 1}),
    (GovernorReason.DAILY_NOTIONAL_LIMIT, {"notional_per_day_usd": Decimal(1)}, {}),
    (GovernorReason.DAILY_QUANTITY_LIMIT, {"quantity_per_day": Decimal("0.1")}, {}),
    (GovernorReason.COOLDOWN, {"cooldown_s": Decimal(9)}, {"since_exit_s": Decimal(0)}),
    (
        GovernorReason.CIRCUIT_OPEN,
        {"failures_in_a_row": 1},
        {"failures_in_a_row": 1, "since_failure_s": Decimal(0)},
    ),
    (GovernorReason.AWAITING_APPROVAL, {"approval_above_usd": Decimal(0)}, {}),
]


@pytest.mark.parametrize("number", range(len(ORDER)), ids=lambda number: ORDER[number][0].value)
def test_limits_answer_in_the_order_of_the_contract(number: int) -> None:
    """This limit and every later one are broken: this one answers."""
    limits: dict[str, Any] = {}
    used: dict[str, Any] = {}
    for _, limit, use in ORDER[number:]:
        limits |= limit
        used |= use
    assert judged(SYMBOL, Limits(**limits), Use(**used)).reason is ORDER[number][0]


def test_shadow_rules_never_block() -> None:
    strict = LimitSet(total=Limits(permits_per_5min=1))
    policy = Policy(mode="paper", allowlist=frozenset({SYMBOL}), plan_ttl_s=Decimal(30), shadow=strict)
    plan = make(
        symbol=SYMBOL,
        action=Action.PARTIAL_25,
        kill_score_text="0.5",
        timestamp_text=str(AT),
        mode="paper",
        source="tests",
    )
    facts = replace(FACTS, in_total=Use(permits_5min=5))
    assert evaluate(plan, policy, facts).approved
    assert not within(SYMBOL, strict, facts).approved


def test_no_shadow_rule_makes_a_decision_wait_for_a_size() -> None:
    plain = Policy(mode="paper", allowlist=frozenset({SYMBOL}), plan_ttl_s=Decimal(30))
    assert not plain.needs_size(SYMBOL)
    shadow = LimitSet(symbols={SYMBOL: Limits(quantity_per_day=Decimal(1))})
    assert not replace(plain, shadow=shadow).needs_size(SYMBOL)
    assert replace(plain, limits=shadow).needs_size(SYMBOL)
    assert not replace(plain, limits=shadow).needs_size("ETHUSDT")
