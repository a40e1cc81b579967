"""What the wake-up carries is a hint and never an answer: it saves a look and decides nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from pytest_django.fixtures import Settings

from permits.gate.gate import Gate
from permits.gate.outcome import Blocked, SpentPair
from quantum import signing
from quantum.plan import ExitPlan
from quantum.redis import Client, blocking_client
from quantum.signing import Verifier
from tests.house import House, wait_for
from tests.permits.conftest import HALTED, State, outcome_of
from tests.permits_by_hand import GOVERNOR, P33, lay, permit


def hint(redis: Client, plan: ExitPlan, *, governor: bytes, p33: bytes, age_ms: int = 0) -> None:
    """The wake-up of the issuing script, whatever stands in the keys."""
    seconds, microseconds = redis.time()
    now_ms = int(seconds) * 1000 + int(microseconds) // 1000 - age_ms
    redis.rpush(settings.KEYS.wake(plan.plan_id), b"%d %d %b%b" % (now_ms, len(governor), governor, p33))


class Counts:
    def __init__(self, client: Client) -> None:
        self._client = client
        self.calls = 0

    def evalsha(self, *args: Any) -> Any:
        self.calls += 1
        return self._client.evalsha(*args)

    def eval(self, *args: Any) -> Any:
        return self._client.eval(*args)


def counting(redis: Client, state: State) -> tuple[Gate, Counts]:
    line = Counts(redis)
    verifier = Verifier(directory=settings.PERMIT_KEYS_DIR)
    return Gate(commands=line, blocking=blocking_client(block_s=1), verifier=verifier, state=state), line


@pytest.mark.parametrize(("age_ms", "calls"), [(0, 1), (5000, 3)], ids=["fresh", "waited in its lane"])
def test_a_pair_told_by_the_wake_up_is_spent_without_a_look_unless_the_hint_is_old(
    gate: Gate, redis: Client, state: State, age_ms: int, calls: int
) -> None:
    gate, line = counting(redis, state)
    plan = House.make()
    governor, p33 = permit(plan, GOVERNOR), permit(plan, P33)
    hint(redis, plan, governor=governor, p33=p33, age_ms=age_ms)
    lay(redis, plan, governor=governor, p33=p33)
    spent = outcome_of(gate, plan)
    assert isinstance(spent, SpentPair)
    assert (spent.governor.raw, spent.p33.raw) == (governor, p33)
    assert line.calls == calls


class Asked(Verifier):
    """Of whose signatures, in turn."""

    def __init__(self) -> None:
        super().__init__(directory=settings.PERMIT_KEYS_DIR)
        self.signers: list[str] = []

    def holds(self, *, signer: str, raw: bytes) -> bool:
        self.signers.append(signer)
        return super().holds(signer=signer, raw=raw)


class Waits:
    """Notes when a wait begins."""

    def __init__(self, client: Client, told: list[str]) -> None:
        self._client, self._told = client, told

    def blpop(self, *args: Any, **more: Any) -> Any:
        self._told.append("wait")
        return self._client.blpop(*args, **more)


def test_the_key_files_are_looked_at_before_a_wait_and_not_when_it_is_woken(
    gate: Gate, redis: Client, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, stamps = list[str](), signing._stamps

    def look(folder: Path) -> dict[str, signing.Stamp | None]:
        told.append("look")
        return stamps(folder)

    verifier = Verifier(directory=settings.PERMIT_KEYS_DIR)
    monkeypatch.setattr(signing, "_stamps", look)
    verifier._looked_s -= signing.LOOK_EVERY_S - 0.01  # due within the first step
    blocking = Waits(blocking_client(block_s=1), told)
    gate = Gate(commands=redis, blocking=blocking, verifier=verifier, state=state)
    plan = House.make()
    governor, p33 = permit(plan, GOVERNOR), permit(plan, P33)
    lay(redis, plan, governor=governor, p33=p33)
    hint(redis, plan, governor=governor, p33=p33)
    assert isinstance(outcome_of(gate, plan), SpentPair)
    assert told == ["look", "wait"]


def test_a_permit_whose_partner_is_late_is_verified_before_that_one_comes(
    gate: Gate, redis: Client, settings: Settings, state: State
) -> None:
    settings.APPLY_PERMIT_WAIT_MS = 5000
    asked = Asked()
    gate = Gate(commands=redis, blocking=blocking_client(block_s=1), verifier=asked, state=state)
    plan = House.make()
    governor, p33 = permit(plan, GOVERNOR), permit(plan, P33)
    keys = settings.KEYS
    redis.set(keys.governor_permit(plan.plan_id), governor, px=60_000)  # a lone grant wakes nobody
    with ThreadPoolExecutor() as waiters:
        wait = waiters.submit(outcome_of, gate, plan)
        # The look that covers a lost wake-up comes after 500 ms, too late to say so here.
        wait_for(lambda: asked.signers, what="a look at the permit that is there", within_s=0.4)
        assert (asked.signers, wait.done()) == ([GOVERNOR], False)
        redis.set(keys.p33_permit(plan.plan_id), p33, px=60_000)
        hint(redis, plan, governor=governor, p33=p33)
        assert isinstance(wait.result(5), SpentPair)
    assert asked.signers == [GOVERNOR, P33]


def test_a_hint_of_permits_that_are_gone_spends_nothing(gate: Gate, redis: Client) -> None:
    """Revoked, or run out, between the wake-up and us."""
    plan = House.make()
    hint(redis, plan, governor=permit(plan, GOVERNOR), p33=permit(plan, P33))
    outcome = outcome_of(gate, plan)
    assert isinstance(outcome, Blocked)
    assert outcome.reason == "missing_both"


def test_a_hint_of_better_permits_than_those_that_stand_spends_those_that_stand(
    gate: Gate, redis: Client
) -> None:
    plan = House.make()
    governor, standing = permit(plan, GOVERNOR), permit(plan, P33, safe="0.1")
    hint(redis, plan, governor=governor, p33=permit(plan, P33, safe="0.9"))
    lay(redis, plan, governor=governor, p33=standing)
    spent = outcome_of(gate, plan)
    assert isinstance(spent, SpentPair)
    assert spent.p33.raw == standing


@pytest.mark.parametrize("forged", [GOVERNOR, P33])
def test_a_hint_with_a_forged_permit_is_refused_where_it_stands_too(
    gate: Gate, redis: Client, forged: str
) -> None:
    plan = House.make()
    pair = {
        name: permit(plan, name, signer="operator" if name == forged else name) for name in (GOVERNOR, P33)
    }
    hint(redis, plan, governor=pair[GOVERNOR], p33=pair[P33])
    lay(redis, plan, **pair)
    outcome = outcome_of(gate, plan)
    assert isinstance(outcome, Blocked)
    assert outcome.reason == "bad_signature"


@pytest.mark.parametrize(
    "garbage", [b"", b"1", b"x y z", b"1 x ab", b"1 2", b"-5 -5 \xff\xff\xff", b"9" * 50 + b" 1 z"]
)
def test_a_wake_up_nobody_can_read_is_a_wake_up(gate: Gate, redis: Client, garbage: bytes) -> None:
    plan = House.make()
    redis.rpush(settings.KEYS.wake(plan.plan_id), garbage)
    lay(redis, plan, governor=permit(plan, GOVERNOR), p33=permit(plan, P33))
    assert isinstance(outcome_of(gate, plan), SpentPair)


def test_a_hint_never_passes_a_halt_that_everyone_agrees_on(
    gate: Gate, redis: Client, settings: Settings, state: State
) -> None:
    redis.set(settings.KEYS.trading_state, HALTED.raw)
    state.copy = state.now = HALTED
    plan = House.make()
    governor, p33 = permit(plan, GOVERNOR), permit(plan, P33)
    hint(redis, plan, governor=governor, p33=p33)
    lay(redis, plan, governor=governor, p33=p33)
    outcome = outcome_of(gate, plan)
    assert isinstance(outcome, Blocked)
    assert outcome.reason == "halted"
    assert not redis.exists(settings.KEYS.receipt(plan.plan_id))
