"""The operator as third issuer: what his signature opens, what it does not, and what only claims to be his."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from permits import holds, operator_rules, payloads
from permits.gate import Gate
from permits.models import PolicyVersion
from permits.operator_rules import OperatorRule, Operators, RuleMalformed
from permits.outcome import Blocked, SpentPair
from permits.trading import Projection
from quantum import clock
from quantum.plan import ExitPlan
from quantum.redis import Client, blocking_client
from quantum.signing import Verifier
from tests.house import House
from tests.permits.conftest import ACTIVE, State, outcome_of
from tests.permits.test_hint import hint
from tests.permits_by_hand import GOVERNOR, P33, lay, permit

AUTOMATIC = Projection(
    raw=b'{"state":"HALTED","scope":"automatic","version":4}', version=4, active=False, scope="automatic"
)
EVERYTHING = Projection(
    raw=b'{"state":"HALTED","scope":"everything","version":5}', version=5, active=False, scope="everything"
)
BOTH = frozenset({GOVERNOR, P33})
HOLD = b'{"hold_id":7}'


class Policy:
    """What the newest policy says of operators, and which holds are open."""

    def __init__(self) -> None:
        self.rule: OperatorRule | None = OperatorRule(
            gates=BOTH, max_notional=None, max_quantity={"BTCUSDT": Decimal("0.5")}
        )
        self.asked = 0
        self.holds: dict[int, bytes] = {}

    def __call__(self) -> OperatorRule | None:
        self.asked += 1
        return self.rule

    def hold(self, *, hold_id: int, symbol: str) -> bytes:
        return self.holds.get(hold_id, b"")


@pytest.fixture
def policy() -> Policy:
    return Policy()


@pytest.fixture
def gate(redis: Client, keys: None, settings: Settings, state: State, policy: Policy) -> Gate:
    settings.APPLY_PERMIT_WAIT_MS = 120
    redis.set(settings.KEYS.trading_state, ACTIVE.raw, px=6000)
    return Gate(
        commands=redis,
        blocking=blocking_client(block_s=1),
        verifier=Verifier(directory=settings.PERMIT_KEYS_DIR),
        state=state,
        hold=policy.hold,
        operators=Operators(client=redis, read=policy),
    )


def signed(plan: ExitPlan, gate_name: str, **bent: Any) -> bytes:
    """An operator's grant for that gate's place."""
    return permit(plan, gate_name, **{"signer": "operator", "issuer": "operator:nina", **bent})


def lay_for(
    redis: Client, by_operator: frozenset[str], plan: ExitPlan | None = None, **bent: Any
) -> ExitPlan:
    plan = plan or House.make()
    pair = {name: signed(plan, name, **bent) if name in by_operator else permit(plan, name) for name in BOTH}
    lay(redis, plan, **pair)
    return plan


def halt(redis: Client, settings: Settings, state: State, to: Projection) -> None:
    redis.set(settings.KEYS.trading_state, to.raw)
    state.copy = state.now = to


def reason_of(gate: Gate, plan: ExitPlan) -> str:
    outcome = outcome_of(gate, plan)
    return outcome.reason.value if isinstance(outcome, Blocked) else "spent"


OPERATORS = [frozenset({GOVERNOR}), frozenset({P33}), BOTH]
NAMES = ["governor", "p33", "both"]


# ---- in the gates' place


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
    ],
    ids=["at the limit", "above it", "an old price", "no price", "no snapshot"],
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
    plan = lay_for(redis, frozenset({GOVERNOR}), **{missing: ...})
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
    said = {"gates": [P33], "symbol": "BTCUSDT", "quantity": Decimal("0.1")}
    assert operators.refusal(**said) is None
    policy.rule = None
    now_s[0] += 0.9
    assert operators.refusal(**said) is None
    now_s[0] += 0.1
    assert operators.refusal(**said) == "the policy has no rule for operators"


# ---- under a halt


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
    named: dict[str, int],
    opened: dict[int, bytes],
    standing: bytes,
) -> None:
    redis.set(settings.KEYS.hold("BTCUSDT"), standing)
    policy.holds = opened
    assert reason_of(gate, lay_for(redis, BOTH, **named)) == "hold"


def test_two_operators_permits_that_name_different_holds_name_none(
    gate: Gate, redis: Client, settings: Settings, policy: Policy
) -> None:
    redis.set(settings.KEYS.hold("BTCUSDT"), HOLD)
    policy.holds = {7: HOLD}
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
    bent = {"hold_id": 7}
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


# ---- the rule


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
        operator_rules.parse(nonsense)
    PolicyVersion.objects.create(version=1, rules={"operator": nonsense}, by="nina", reason="tests")
    assert operator_rules.current() is None


@pytest.mark.django_db
def test_the_allowed_hold_is_the_open_row_of_that_id_and_symbol(redis: Client, settings: Settings) -> None:
    hold = holds.place(redis, symbol="BTCUSDT", by="nina", reason="looks odd")
    assert holds.allowed(hold_id=hold.pk, symbol="BTCUSDT") == redis.get(settings.KEYS.hold("BTCUSDT"))
    assert holds.allowed(hold_id=hold.pk, symbol="ETHUSDT") == b""
    assert holds.allowed(hold_id=hold.pk + 1, symbol="BTCUSDT") == b""
    holds.lift(redis, symbol="BTCUSDT", by="nina", reason="it was fine")
    assert holds.allowed(hold_id=hold.pk, symbol="BTCUSDT") == b""
