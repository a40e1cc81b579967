"""The operator as third issuer: for the gates and sizes the policy names, and proved by his key."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from permits.gate.gate import Gate
from permits.gate.outcome import SpentPair
from permits.models import PolicyVersion
from permits.policy import operator_rules
from permits.policy.mandate import OperatorRule, RuleMalformed, parse
from permits.policy.operator_rules import Operators
from quantum import clock
from quantum.redis import Client, blocking_client
from quantum.signing import Verifier
from tests.house import House
from tests.permits.conftest import ACTIVE, State, outcome_of
from tests.permits.operators.conftest import (
    BOTH,
    NAMES,
    OPERATORS,
    Policy,
    lay_for,
    reason_of,
)
from tests.permits_by_hand import GOVERNOR, P33, lay, permit


@pytest.mark.parametrize("by_operator", OPERATORS, ids=NAMES)
def test_an_operator_signs_for_the_gates_the_policy_names(
    gate: Gate, redis: Client, by_operator: frozenset[str]
) -> None:
    spent = outcome_of(gate, lay_for(redis, by_operator))
    assert isinstance(spent, SpentPair)
    assert spent.by_operator
    assert {each.gate for each in (spent.governor, spent.p33) if each.by_operator} == by_operator


def test_without_a_rule_in_the_policy_no_operators_permit_counts(
    gate: Gate, redis: Client, policy: Policy
) -> None:
    policy.rule = None
    assert reason_of(gate, lay_for(redis, BOTH)) == "operator_refused"


@pytest.mark.parametrize(("named", "end"), [(GOVERNOR, "operator_refused"), (P33, "spent")])
def test_a_gate_the_policy_does_not_name_is_not_an_operators(
    gate: Gate, redis: Client, policy: Policy, named: str, end: str
) -> None:
    policy.rule = OperatorRule(frozenset({named}), None, {"BTCUSDT": Decimal(1)})
    assert reason_of(gate, lay_for(redis, frozenset({P33}))) == end


@pytest.mark.parametrize("by_operator", OPERATORS, ids=NAMES)
@pytest.mark.parametrize(("most", "end"), [("0.25", "spent"), ("0.249", "operator_refused")])
def test_a_size_above_the_policys_is_not_an_operators_whichever_gate_he_signed_for(
    gate: Gate, redis: Client, policy: Policy, by_operator: frozenset[str], most: str, end: str
) -> None:
    policy.rule = OperatorRule(BOTH, None, {"BTCUSDT": Decimal(most)})
    assert reason_of(gate, lay_for(redis, by_operator)) == end


def test_a_symbol_without_any_size_in_the_rule_is_not_an_operators(
    gate: Gate, redis: Client, policy: Policy
) -> None:
    policy.rule = OperatorRule(BOTH, None, {"ETHUSDT": Decimal(100)})
    assert reason_of(gate, lay_for(redis, BOTH)) == "operator_refused"


@pytest.mark.parametrize(
    ("mark", "age_s", "end"),
    [
        ("50000", 0, "spent"),
        ("50001", 0, "operator_refused"),
        ("50000", 3600, "operator_refused"),
        ("", 0, "operator_refused"),
        (None, 0, "operator_refused"),
        ("50000", -3600, "operator_refused"),
    ],
    ids=["at the limit", "above it", "an old price", "no price", "no snapshot", "a price from the future"],
)
def test_a_notional_limit_needs_a_fresh_price(
    gate: Gate, redis: Client, settings: Settings, policy: Policy, mark: str | None, age_s: int, end: str
) -> None:
    """0.25 may be closed at most; the limit is 12500."""
    policy.rule = OperatorRule(BOTH, Decimal(12500), {})
    if mark is not None:
        fields = {"mark_price": mark, "ts_epoch": f"{clock.now_s() - age_s:.3f}"}
        redis.hset(settings.KEYS.snapshot("BTCUSDT"), mapping=fields)
    assert reason_of(gate, lay_for(redis, BOTH)) == end


@pytest.mark.parametrize("issuer", ["operator", "operator@main", "operator:nina"])
@pytest.mark.parametrize("gate_name", [GOVERNOR, P33])
def test_a_gates_own_key_cannot_claim_to_be_the_operator(
    gate: Gate, redis: Client, gate_name: str, issuer: str
) -> None:
    plan = lay_for(redis, frozenset({gate_name}), signer=gate_name, issuer=issuer)
    assert reason_of(gate, plan) == "bad_signature"


def test_the_operators_key_under_another_issuers_name_is_a_bad_signature(gate: Gate, redis: Client) -> None:
    assert reason_of(gate, lay_for(redis, BOTH, issuer="governor@main")) == "bad_signature"


@pytest.mark.parametrize(
    ("bent", "reason"),
    [
        ({"symbol": "ETHUSDT"}, "symbol_mismatch"),
        ({"digest": "0" * 64}, "digest_mismatch"),
        ({"mode": "live"}, "mode_mismatch"),
        ({"account": "other"}, "account_mismatch"),
    ],
    ids=["symbol", "digest", "mode", "account"],
)
def test_an_operators_permit_is_for_one_plan_like_any_other(
    gate: Gate, redis: Client, bent: dict[str, Any], reason: str
) -> None:
    assert reason_of(gate, lay_for(redis, BOTH, **bent)) == reason


@pytest.mark.parametrize("missing", ["plan_id", "digest", "expires_at"])
def test_where_signatures_are_optional_who_says_operator_still_proves_it(
    redis: Client, keys: None, settings: Settings, state: State, policy: Policy, missing: str
) -> None:
    settings.PERMIT_SIGNATURES, settings.APPLY_PERMIT_WAIT_MS = "optional", 120
    redis.set(settings.KEYS.trading_state, ACTIVE.raw)
    gate = Gate(
        commands=redis,
        blocking=blocking_client(block_s=1),
        verifier=Verifier(directory=settings.PERMIT_KEYS_DIR),
        state=state,
        operators=Operators(client=redis, read=policy),
    )
    plan = House.make()
    lay(redis, plan, governor=b'{"granted":true,"issuer":"operator"}', p33=permit(plan, P33))
    assert reason_of(gate, plan) == "malformed_governor"
    plan = lay_for(redis, frozenset({GOVERNOR}), signer=GOVERNOR)
    assert reason_of(gate, plan) == "bad_signature"
    left_out: dict[str, Any] = {missing: ...}
    plan = lay_for(redis, frozenset({GOVERNOR}), **left_out)
    assert reason_of(gate, plan) == "malformed_governor"


def test_ordinary_plans_never_ask_for_the_rule(gate: Gate, redis: Client, policy: Policy) -> None:
    assert reason_of(gate, lay_for(redis, frozenset())) == "spent"
    assert policy.asked == 0


def test_the_rule_is_at_most_a_second_old(
    redis: Client, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [100.0]
    monkeypatch.setattr(clock, "boot_s", lambda: now_s[0])
    operators = Operators(client=redis, read=policy)
    said: dict[str, Any] = {"gates": [P33], "symbol": "BTCUSDT", "quantity": Decimal("0.1")}
    assert operators.refusal(**said) is None
    policy.rule = None
    now_s[0] += 0.9
    assert operators.refusal(**said) is None
    now_s[0] += 0.1
    assert operators.refusal(**said) == "the policy has no rule for operators"


# ---- the rule as it is stored


@pytest.mark.django_db
def test_the_rule_is_read_from_the_newest_policy() -> None:
    assert operator_rules.current() is None
    rule = {"gates": ["p33"], "max_notional": "50000", "max_quantity": {"BTCUSDT": "1.5"}}
    PolicyVersion.objects.create(version=1, rules={"operator": rule}, by="nina", reason="break-glass")
    found = operator_rules.current()
    assert found == OperatorRule(frozenset({"p33"}), Decimal(50000), {"BTCUSDT": Decimal("1.5")})
    PolicyVersion.objects.create(version=2, rules={"limits": {}}, by="nina", reason="no more")
    assert operator_rules.current() is None


@pytest.mark.django_db
@pytest.mark.parametrize(
    "nonsense",
    [
        None,
        [],
        "both",
        {"gates": ["apply"]},
        {"gates": "p33"},
        {"gates": ["p33"], "max_notional": "-1"},
        {"gates": ["p33"], "max_notional": 1.5},
        {"gates": ["p33"], "max_notional": True},
        {"gates": ["p33"], "max_notional": "NaN"},
        {"gates": ["p33"], "max_quantity": "1"},
        {"gates": ["p33"], "max_quantity": {"BTCUSDT": "0"}},
        {"gates": ["p33"], "max_quantities": {"BTCUSDT": "1"}},
        {"gates": [["p33"]]},
    ],
)
def test_a_rule_that_is_nonsense_is_refused_when_set_and_lets_nothing_pass_when_read(
    nonsense: object,
) -> None:
    with pytest.raises(RuleMalformed):
        parse(nonsense)
    PolicyVersion.objects.create(version=1, rules={"operator": nonsense}, by="nina", reason="tests")
    assert operator_rules.current() is None
