"""The gate against a real server: every field of both permits is judged, and what is refused is not spent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from pytest_django.fixtures import Settings
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from permits.desk import payloads
from permits.gate.gate import Gate
from permits.gate.outcome import Blocked, SpentPair
from quantum.redis import Client, blocking_client
from quantum.signing import Verifier
from tests.house import House
from tests.permits.conftest import HALTED, NEWER, State, outcome_of
from tests.permits_by_hand import GOVERNOR, P33, lay, permit


def test_a_valid_pair_is_spent_and_both_permits_are_known_in_full(gate: Gate, redis: Client) -> None:
    plan = House.make()
    governor, p33 = permit(plan, GOVERNOR), permit(plan, P33, safe="0.125")
    lay(redis, plan, governor=governor, p33=p33)
    spent = outcome_of(gate, plan)
    assert isinstance(spent, SpentPair)
    assert (spent.governor.raw, spent.p33.raw) == (governor, p33)
    assert str(spent.safe_quantity) == "0.125"


def test_a_governor_that_did_not_grant_is_obeyed(judged: Callable[..., str]) -> None:
    plan = House.make()
    assert judged(plan, governor=permit(plan, GOVERNOR, granted=False)) == "governor_denied"


def test_a_brain_that_did_not_allow_is_obeyed(judged: Callable[..., str]) -> None:
    plan = House.make()
    assert judged(plan, p33=permit(plan, P33, allow=False)) == "p33_denied"


@pytest.mark.parametrize("gate_name", [GOVERNOR, P33])
@pytest.mark.parametrize(
    ("bent", "reason"),
    [
        ({"symbol": "ETHUSDT"}, "symbol_mismatch"),
        ({"digest": "0" * 64}, "digest_mismatch"),
        ({"plan_id": "0" * 16}, "digest_mismatch"),
        ({"mode": "live"}, "mode_mismatch"),
        ({"account": "other"}, "account_mismatch"),
        ({"consumed": True}, "already_consumed"),
        ({"signer": "operator"}, "bad_signature"),
    ],
    ids=lambda value: value if isinstance(value, str) else "_".join(value),
)
def test_a_permit_that_is_not_for_this_very_plan_is_refused(
    judged: Callable[..., str], gate_name: str, bent: dict[str, Any], reason: str
) -> None:
    plan = House.make()
    assert judged(plan, **{gate_name: permit(plan, gate_name, **bent)}) == reason


@pytest.mark.parametrize("gate_name", [GOVERNOR, P33])
def test_one_gate_cannot_sign_for_the_other(judged: Callable[..., str], gate_name: str) -> None:
    plan = House.make()
    other = P33 if gate_name == GOVERNOR else GOVERNOR
    assert judged(plan, **{gate_name: permit(plan, gate_name, signer=other)}) == "bad_signature"


@pytest.mark.parametrize("gate_name", [GOVERNOR, P33])
def test_a_permit_in_the_other_gates_place_is_malformed(judged: Callable[..., str], gate_name: str) -> None:
    plan = House.make()
    other = P33 if gate_name == GOVERNOR else GOVERNOR
    assert judged(plan, **{gate_name: permit(plan, other)}) == f"malformed_{gate_name}"


def test_a_quantity_raised_after_signing_is_a_bad_signature(judged: Callable[..., str]) -> None:
    plan = House.make()
    raw = permit(plan, P33, safe="0.25").replace(b'"safe_close_qty":0.25', b'"safe_close_qty":0.95')
    assert judged(plan, p33=raw) == "bad_signature"


def test_an_unsigned_permit_is_refused_where_signatures_are_required(judged: Callable[..., str]) -> None:
    plan = House.make()
    bare = json.dumps({**json.loads(permit(plan, GOVERNOR)), "sig": ""}).encode()
    assert judged(plan, governor=bare) == "bad_signature"
    assert judged(plan, governor=b'{"granted":true}') == "malformed_governor"


@pytest.mark.parametrize("name", [name for name in payloads.SIGNED_FIELDS if name != "gate"])
@pytest.mark.parametrize("gate_name", [GOVERNOR, P33])
def test_a_signed_permit_that_lacks_a_field_is_malformed(
    judged: Callable[..., str], gate_name: str, name: str
) -> None:
    plan = House.make()
    left_out: dict[str, Any] = {name: ...}
    assert judged(plan, **{gate_name: permit(plan, gate_name, **left_out)}) == f"malformed_{gate_name}"


@pytest.mark.parametrize("gate_name", [GOVERNOR, P33])
def test_a_permit_lives_no_longer_than_it_says_whatever_its_key_does(
    judged: Callable[..., str], gate_name: str
) -> None:
    plan = House.make()
    late = permit(plan, gate_name, age_s=20, life_s=19)
    assert judged(plan, **{gate_name: late}) == "expired_permit"


@pytest.mark.parametrize("gate_name", [GOVERNOR, P33])
def test_no_permit_lives_longer_than_a_minute_whatever_it_says(
    judged: Callable[..., str], gate_name: str
) -> None:
    plan = House.make()
    old = permit(plan, gate_name, age_s=61, life_s=3600)
    assert judged(plan, **{gate_name: old}) == "expired_permit"


def test_a_lone_denial_ends_the_wait_at_once(gate: Gate, redis: Client, settings: Settings) -> None:
    settings.APPLY_PERMIT_WAIT_MS = 5000
    plan = House.make()
    lay(redis, plan, governor=permit(plan, GOVERNOR, granted=False, reason="mode"))
    outcome = outcome_of(gate, plan)
    assert isinstance(outcome, Blocked)
    assert (outcome.reason, outcome.gate_reason) == ("governor_denied", "mode")
    assert outcome.wait_ms < 1000
    assert (outcome.gov_ttl > 0, outcome.p33_ttl) == (True, -2)


@pytest.mark.parametrize(
    ("laid", "reason"), [((), "missing_both"), ((GOVERNOR,), "missing_p33"), ((P33,), "missing_governor")]
)
def test_what_does_not_come_is_named_after_the_whole_wait(
    gate: Gate, redis: Client, laid: tuple[str, ...], reason: str
) -> None:
    plan = House.make()
    lay(redis, plan, **{name: permit(plan, name) for name in laid})
    outcome = outcome_of(gate, plan)
    assert isinstance(outcome, Blocked)
    assert outcome.error == f"permit_timeout_or_missing:{reason}"
    assert outcome.wait_ms >= 120


# ---- trading state


def test_a_halted_state_is_told_as_halted(
    gate: Gate, redis: Client, settings: Settings, judged: Callable[..., str]
) -> None:
    redis.set(settings.KEYS.trading_state, HALTED.raw)
    assert judged(House.make()) == "halted"


def test_a_halt_that_redis_and_the_database_agree_on_spends_nothing(
    redis: Client, settings: Settings, state: State, judged: Callable[..., str]
) -> None:
    """Equal bytes are what the script asks for; that they forbid is seen here."""
    redis.set(settings.KEYS.trading_state, HALTED.raw)
    state.copy = state.now = HALTED
    assert judged(House.make()) == "halted"


def test_a_spent_pair_is_told_as_spent_by_who_knows_no_state_yet(
    gate: Gate, redis: Client, state: State
) -> None:
    """Apply died between consume and intent. The next process has not read the state: calling its plan halted
    would say that nothing was spent."""
    plan = House.make()
    lay(redis, plan, governor=permit(plan, GOVERNOR), p33=permit(plan, P33))
    assert isinstance(outcome_of(gate, plan), SpentPair)
    state.copy = state.now = HALTED
    outcome = outcome_of(gate, plan)
    assert isinstance(outcome, Blocked)
    assert outcome.reason == "already_consumed"


def test_a_state_that_changed_to_another_active_one_is_read_again_once(
    gate: Gate, redis: Client, settings: Settings, state: State
) -> None:
    redis.set(settings.KEYS.trading_state, NEWER.raw)
    state.now = NEWER
    plan = House.make()
    lay(redis, plan, governor=permit(plan, GOVERNOR), p33=permit(plan, P33))
    assert isinstance(outcome_of(gate, plan), SpentPair)


def test_a_state_the_database_does_not_know_is_not_armed(
    redis: Client, settings: Settings, judged: Callable[..., str]
) -> None:
    redis.set(settings.KEYS.trading_state, b'{"state":"ACTIVE","version":99}')
    assert judged(House.make()) == "not_armed"


def test_a_state_that_changes_in_the_last_moment_of_a_wait_is_a_named_refusal_too(
    gate: Gate, redis: Client, settings: Settings
) -> None:
    """The copy is up to two seconds old; here the difference is first seen when the time is over."""
    settings.APPLY_PERMIT_WAIT_MS = 0
    redis.set(settings.KEYS.trading_state, NEWER.raw)
    outcome = outcome_of(gate, House.make())
    assert isinstance(outcome, Blocked)
    assert outcome.reason in ("not_armed", "missing_both")


def test_a_state_the_database_has_halted_meanwhile_is_halted(
    redis: Client, settings: Settings, state: State, judged: Callable[..., str]
) -> None:
    """Redis was wiped and armed by someone with an old copy: the database decides."""
    redis.set(settings.KEYS.trading_state, NEWER.raw)
    state.now = HALTED
    assert judged(House.make()) == "halted"


# ---- lost answers


class LosesOneAnswer:
    """The consume reaches the server and runs; its answer does not come back."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.lost = 0

    def evalsha(self, *args: Any) -> Any:
        answer = self._client.evalsha(*args)
        if answer[0] == 1 and not self.lost:
            self.lost += 1
            raise RedisConnectionError("cut")
        return answer

    def eval(self, *args: Any) -> Any:
        return self._client.eval(*args)


def test_a_spend_whose_answer_was_lost_is_answered_by_its_receipt(
    gate: Gate, redis: Client, settings: Settings, state: State
) -> None:
    settings.APPLY_PERMIT_WAIT_MS = 1000
    spend_one = House.make()
    lay(redis, spend_one, governor=permit(spend_one, GOVERNOR), p33=permit(spend_one, P33))
    assert isinstance(outcome_of(gate, spend_one), SpentPair)  # the script is loaded
    redis.delete(settings.KEYS.slot("BTCUSDT"))
    line = LosesOneAnswer(redis)
    verifier = Verifier(directory=settings.PERMIT_KEYS_DIR)
    losing = Gate(commands=line, blocking=blocking_client(block_s=1), verifier=verifier, state=state)
    plan = House.make()
    lay(redis, plan, governor=permit(plan, GOVERNOR), p33=permit(plan, P33))
    assert isinstance(outcome_of(losing, plan), SpentPair)
    assert line.lost == 1


class SilentFor(LosesOneAnswer):
    """The first look is given up after 0.1 s, the second answered only after so long. Counts what is awaited."""

    def __init__(self, client: Client, *, second_s: float) -> None:
        super().__init__(client)
        self._naps_s = [0.1, second_s]
        self.awaited = 0

    def evalsha(self, *args: Any) -> Any:
        if not self._naps_s:
            return self._client.evalsha(*args)
        first = len(self._naps_s) == 2
        time.sleep(self._naps_s.pop(0))
        if first:
            raise RedisTimeoutError("no answer")
        return self._client.evalsha(*args)

    def blpop(self, *args: Any, **words: Any) -> Any:
        self.awaited += 1
        return self._client.blpop(*args, **words)


@pytest.mark.parametrize(
    ("second_s", "reason", "awaited"),
    [(0.5, "redis_unavailable", 1), (0.0, "missing_both", 2)],
    ids=["to the end", "for a moment"],
)
def test_a_server_that_went_silent_is_asked_again_and_not_waited_for(
    gate: Gate, redis: Client, settings: Settings, state: State, second_s: float, reason: str, awaited: int
) -> None:
    """And whose fault it was that no pair came is the server's only if it was silent to the end."""
    settings.APPLY_PERMIT_WAIT_MS = 400
    line = SilentFor(redis, second_s=second_s)
    verifier = Verifier(directory=settings.PERMIT_KEYS_DIR)
    silent = Gate(commands=line, blocking=line, verifier=verifier, state=state)
    outcome = outcome_of(silent, House.make())
    assert isinstance(outcome, Blocked)
    assert (outcome.reason, line.awaited) == (reason, awaited)


class Refuses(SilentFor):
    def __init__(self, client: Client) -> None:
        super().__init__(client, second_s=0.0)
        self.asked = 0

    def evalsha(self, *_: Any) -> Any:
        self.asked += 1
        raise ResponseError("BUSY")


def test_a_server_that_refuses_is_asked_ten_times_a_second_and_no_oftener(
    gate: Gate, redis: Client, settings: Settings, state: State
) -> None:
    settings.APPLY_PERMIT_WAIT_MS = 400
    line = Refuses(redis)
    verifier = Verifier(directory=settings.PERMIT_KEYS_DIR)
    outcome = outcome_of(Gate(commands=line, blocking=line, verifier=verifier, state=state), House.make())
    assert isinstance(outcome, Blocked)
    assert outcome.reason == "redis_refused"
    assert line.asked <= 6


class NobodyThere:
    def blpop(self, *_: Any, **__: Any) -> Any:
        raise RedisConnectionError("refused")

    evalsha = blpop


def test_a_server_that_never_answers_blocks_by_name(
    gate: Gate, redis: Client, settings: Settings, state: State
) -> None:
    dead = Gate(
        commands=NobodyThere(),
        blocking=NobodyThere(),
        verifier=Verifier(directory=settings.PERMIT_KEYS_DIR),
        state=state,
    )
    outcome = outcome_of(dead, House.make())
    assert isinstance(outcome, Blocked)
    assert outcome.reason == "redis_unavailable"


def test_a_stop_leaves_everything_as_it_is(gate: Gate, redis: Client, settings: Settings) -> None:
    plan = House.make()
    lay(redis, plan, governor=permit(plan, GOVERNOR), p33=permit(plan, P33))
    assert gate.wait_and_consume(plan, stopping=lambda: True) is None
    assert (
        redis.exists(settings.KEYS.governor_permit(plan.plan_id), settings.KEYS.p33_permit(plan.plan_id)) == 2
    )
