"""The Governor's rules: in their order, each naming what it compared, and none of them a risk score."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from permits.policy.policy import Facts, Policy, Verdict, evaluate
from quantum.plan import Action, make
from quantum.reasons import GovernorReason

AT = Decimal(1_764_000_000)
POLICY = Policy(mode="paper", allowlist=frozenset({"BTCUSDT", "ETHUSDT"}), plan_ttl_s=Decimal(30))


def judged(*, active: bool | None = True, age_s: str = "1", **plan: Any) -> Verdict:
    said = {"symbol": "BTCUSDT", "mode": "paper", "kill_score_text": "0.5", **plan}
    made = make(action=Action.PARTIAL_25, timestamp_text=str(AT), source="tests", **said)
    return evaluate(made, POLICY, Facts(now_s=AT + Decimal(age_s), trading_active=active))


WRONG: list[tuple[GovernorReason, dict[str, Any]]] = [
    (GovernorReason.MODE, {"mode": "live"}),
    (GovernorReason.NOT_IN_ALLOWLIST, {"symbol": "DOGEUSDT"}),
    (GovernorReason.INPUTS_UNAVAILABLE, {"active": None}),
    (GovernorReason.STALE_PLAN, {"age_s": "30"}),
]


def test_a_plan_within_all_rules_is_approved() -> None:
    assert judged().approved
    assert judged(mode="").approved, "a field left out is not compared"


@pytest.mark.parametrize("number", range(len(WRONG)), ids=lambda number: WRONG[number][0].value)
def test_rules_answer_in_their_order(number: int) -> None:
    """This rule and every later one are broken: this one answers, and names what it compared."""
    broken: dict[str, Any] = {}
    for _, wrong in WRONG[number:]:
        broken |= wrong
    found = judged(**broken)
    assert found.reason is WRONG[number][0]
    assert not found.approved
    assert found.rule


def test_a_halt_denies_before_age_is_looked_at() -> None:
    assert judged(active=False, age_s="30").reason is GovernorReason.HALTED


def test_a_stale_plan_is_denied_with_both_times() -> None:
    found = judged(age_s="30")
    assert found.reason is GovernorReason.STALE_PLAN
    assert found.rule == {"expired_at": AT + 30, "now": AT + 30}
    assert judged(age_s="29.999").approved


@pytest.mark.parametrize("score", ["-1000", "0", "0.99", "1000"])
def test_no_risk_score_blocks_what_reduces_risk(score: str) -> None:
    assert judged(kill_score_text=score).approved
