"""What the operator's signature opens under a halt and a hold, and what only claims to be his."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from permits.desk import payloads
from permits.gate.gate import Gate
from permits.gate.outcome import Blocked, SpentPair
from permits.state import holds
from permits.state.trading import Projection
from quantum.redis import Client
from tests.house import House
from tests.permits.conftest import State, outcome_of
from tests.permits.operators.conftest import (
    AUTOMATIC,
    BOTH,
    EVERYTHING,
    HOLD,
    NAMES,
    OPERATORS,
    Policy,
    halt,
    lay_for,
    reason_of,
    signed,
)
from tests.permits.test_hint import hint
from tests.permits_by_hand import GOVERNOR, P33, lay, permit


@pytest.mark.parametrize("by_operator", OPERATORS, ids=NAMES)
def test_a_halt_of_automatic_plans_spares_an_operators(
    gate: Gate, redis: Client, settings: Settings, state: State, by_operator: frozenset[str]
) -> None:
    halt(redis, settings, state, AUTOMATIC)
    assert reason_of(gate, lay_for(redis, by_operator)) == "spent"


@pytest.mark.parametrize("by_operator", OPERATORS, ids=NAMES)
def test_a_halt_of_everything_spares_nobody(
    gate: Gate, redis: Client, settings: Settings, state: State, by_operator: frozenset[str]
) -> None:
    halt(redis, settings, state, EVERYTHING)
    assert reason_of(gate, lay_for(redis, by_operator)) == "halted"


@pytest.mark.parametrize("scope", ["", "AUTOMATIC", "some", "automatic plans"])
def test_a_scope_nobody_knows_counts_as_everything(
    gate: Gate, redis: Client, settings: Settings, state: State, scope: str
) -> None:
    halt(redis, settings, state, Projection(raw=b"x", version=4, active=False, scope=scope))
    assert reason_of(gate, lay_for(redis, BOTH)) == "halted"


def test_a_source_that_says_operator_opens_nothing(
    gate: Gate, redis: Client, settings: Settings, state: State
) -> None:
    halt(redis, settings, state, AUTOMATIC)
    plan = House.make(source="operator")
    lay(redis, plan, governor=permit(plan, GOVERNOR), p33=permit(plan, P33))
    assert reason_of(gate, plan) == "halted"


def test_a_permit_that_claims_the_operator_without_his_key_opens_nothing(
    gate: Gate, redis: Client, settings: Settings, state: State
) -> None:
    halt(redis, settings, state, AUTOMATIC)
    assert reason_of(gate, lay_for(redis, BOTH, signer=GOVERNOR)) == "halted"


def test_the_policy_is_asked_under_a_halt_too(
    gate: Gate, redis: Client, settings: Settings, state: State, policy: Policy
) -> None:
    halt(redis, settings, state, AUTOMATIC)
    policy.rule = None
    assert reason_of(gate, lay_for(redis, BOTH)) == "operator_refused"


def test_a_hint_of_an_operators_pair_is_held_against_the_policy_too(
    gate: Gate, redis: Client, policy: Policy
) -> None:
    policy.rule = None
    plan = lay_for(redis, BOTH)
    redis.delete("quantum:wake:" + plan.plan_id)
    pair = [redis.get(f"quantum:permit:{infix}{plan.plan_id}") for infix in ("", "p33:")]
    hint(redis, plan, governor=pair[0], p33=pair[1])
    assert reason_of(gate, plan) == "operator_refused"


def test_an_operators_plan_waits_for_the_other_permit_under_a_halt(
    gate: Gate, redis: Client, settings: Settings, state: State
) -> None:
    halt(redis, settings, state, AUTOMATIC)
    plan = House.make()
    lay(redis, plan, governor=signed(plan, GOVERNOR))
    assert reason_of(gate, plan) == "missing_p33"


def test_an_ordinary_plan_is_halted_at_once_and_does_not_wait(
    gate: Gate, redis: Client, settings: Settings, state: State
) -> None:
    settings.APPLY_PERMIT_WAIT_MS = 5000
    halt(redis, settings, state, AUTOMATIC)
    plan = House.make()
    lay(redis, plan, governor=permit(plan, GOVERNOR))
    outcome = outcome_of(gate, plan)
    assert isinstance(outcome, Blocked)
    assert (outcome.reason, outcome.wait_ms < 2000) == ("halted", True)


def test_a_halt_of_automatic_plans_that_redis_knows_first_is_read_from_the_database(
    gate: Gate, redis: Client, settings: Settings, state: State
) -> None:
    """Our copy is ACTIVE and up to two seconds old; the bytes that count are the database's."""
    redis.set(settings.KEYS.trading_state, AUTOMATIC.raw)
    state.now = AUTOMATIC
    assert reason_of(gate, lay_for(redis, frozenset())) == "halted"
    assert reason_of(gate, lay_for(redis, BOTH)) == "spent"


def test_forged_bytes_of_a_halt_that_would_spare_an_operator_spare_nobody(
    gate: Gate, redis: Client, settings: Settings, state: State
) -> None:
    """Redis says automatic, the database says everything."""
    redis.set(settings.KEYS.trading_state, AUTOMATIC.raw)
    state.copy = state.now = EVERYTHING
    assert reason_of(gate, lay_for(redis, BOTH)) == "halted"
    redis.set(settings.KEYS.trading_state, AUTOMATIC.raw.replace(b"4", b"9"))
    state.copy = state.now = AUTOMATIC
    assert reason_of(gate, lay_for(redis, BOTH)) == "not_armed"


# ---- under a hold


def test_an_operators_permit_passes_the_one_hold_it_names(
    gate: Gate, redis: Client, settings: Settings, policy: Policy
) -> None:
    redis.set(settings.KEYS.hold("BTCUSDT"), HOLD)
    policy.holds = {7: HOLD}
    spent = outcome_of(gate, lay_for(redis, BOTH, hold_id=7))
    assert isinstance(spent, SpentPair)
    assert spent.hold_id == 7


@pytest.mark.parametrize(
    ("named", "opened", "standing"),
    [
        ({}, {7: HOLD}, HOLD),
        ({"hold_id": 8}, {7: HOLD, 8: b'{"hold_id":8}'}, HOLD),
        ({"hold_id": 7}, {}, HOLD),
        ({"hold_id": 7}, {7: HOLD}, HOLD + b" "),
        ({"hold_id": 7}, {7: HOLD}, b""),
    ],
    ids=["none named", "another named", "not open", "other bytes", "empty bytes"],
)
def test_any_other_hold_refuses_an_operator_too(
    gate: Gate,
    redis: Client,
    settings: Settings,
    policy: Policy,
    named: dict[str, Any],
    opened: dict[int, bytes],
    standing: bytes,
) -> None:
    redis.set(settings.KEYS.hold("BTCUSDT"), standing)
    policy.holds = opened
    assert reason_of(gate, lay_for(redis, BOTH, **named)) == "hold"


@pytest.mark.parametrize(
    ("named", "end"), [({"hold_id": 7}, "spent"), ({"hold_id": 8}, "hold"), ({}, "hold")]
)
def test_a_hold_that_is_told_to_redis_between_the_look_and_the_spend_is_the_named_one_or_refuses(
    gate: Gate,
    redis: Client,
    settings: Settings,
    policy: Policy,
    monkeypatch: pytest.MonkeyPatch,
    named: dict[str, Any],
    end: str,
) -> None:
    """The symbol froze a moment ago: the row is there, and its key comes with apply's next round."""
    policy.holds = {7: HOLD}
    judge = gate._judge
    really = judge.policy_refuses

    def told(*given: Any) -> Any:
        redis.set(settings.KEYS.hold("BTCUSDT"), HOLD)
        return really(*given)

    monkeypatch.setattr(judge, "policy_refuses", told)
    assert reason_of(gate, lay_for(redis, BOTH, **named)) == end


def test_two_operators_permits_that_name_different_holds_name_none(
    gate: Gate, redis: Client, settings: Settings, policy: Policy
) -> None:
    redis.set(settings.KEYS.hold("BTCUSDT"), HOLD)
    policy.holds = {7: HOLD, 8: HOLD}
    plan = House.make()
    lay(redis, plan, governor=signed(plan, GOVERNOR, hold_id=7), p33=signed(plan, P33, hold_id=8))
    assert reason_of(gate, plan) == "hold"


@pytest.mark.parametrize("gate_name", [GOVERNOR, P33])
def test_a_hold_named_by_a_gates_own_permit_is_not_passed(
    gate: Gate, redis: Client, settings: Settings, policy: Policy, gate_name: str
) -> None:
    redis.set(settings.KEYS.hold("BTCUSDT"), HOLD)
    policy.holds = {7: HOLD}
    plan = House.make()
    bent: dict[str, Any] = {"hold_id": 7}
    pair = {name: permit(plan, name, **(bent if name == gate_name else {})) for name in BOTH}
    lay(redis, plan, **pair)
    assert reason_of(gate, plan) == "hold"


def test_a_hold_that_was_allowed_for_other_permits_is_not_passed_by_those_that_stand_now(
    gate: Gate, redis: Client, settings: Settings, policy: Policy
) -> None:
    """The operator's permits are taken back between the look and the spend, and the gates' own stand there."""
    redis.set(settings.KEYS.hold("BTCUSDT"), HOLD)
    plan = lay_for(redis, BOTH, hold_id=7)

    def revoked(*, hold_id: int, symbol: str) -> bytes:
        lay(redis, plan, governor=permit(plan, GOVERNOR), p33=permit(plan, P33))
        return HOLD

    gate._hold = revoked
    assert reason_of(gate, plan) == "hold"
    assert not redis.exists(settings.KEYS.receipt(plan.plan_id))


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "7", True, None, [7], 2**63])
def test_a_hold_id_that_is_no_rows_number_is_malformed(wrong: object) -> None:
    raw = json.dumps({"granted": True, "hold_id": wrong}).encode()
    with pytest.raises(payloads.Malformed):
        payloads.read(raw, gate=GOVERNOR, all_fields=False)


@pytest.mark.django_db
def test_the_allowed_hold_is_the_open_row_of_that_id_and_symbol(redis: Client, settings: Settings) -> None:
    hold = holds.place(redis, symbol="BTCUSDT", by="nina", reason="looks odd")
    assert holds.allowed(hold_id=hold.pk, symbol="BTCUSDT") == redis.get(settings.KEYS.hold("BTCUSDT"))
    assert holds.allowed(hold_id=hold.pk, symbol="ETHUSDT") == b""
    assert holds.allowed(hold_id=hold.pk + 1, symbol="BTCUSDT") == b""
    holds.lift(redis, symbol="BTCUSDT", by="nina", reason="it was fine")
    assert holds.allowed(hold_id=hold.pk, symbol="BTCUSDT") == b""
