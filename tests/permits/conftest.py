"""A gate on a real server, and a hand that lays permits before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from pytest_django.fixtures import Settings

from permits.gate.gate import Gate
from permits.gate.outcome import Blocked, SpentPair
from permits.state.trading import Projection
from quantum.plan import ExitPlan
from quantum.redis import Client, blocking_client
from quantum.signing import Verifier
from tests.permits.governors import AtWork, Start, arm, snapshot
from tests.permits_by_hand import GOVERNOR, P33, permit

ACTIVE = Projection(raw=b'{"state":"ACTIVE","version":1}', version=1, active=True)
NEWER = Projection(raw=b'{"state":"ACTIVE","version":2}', version=2, active=True)
HALTED = Projection(raw=b'{"state":"HALTED","version":3}', version=3, active=False)

Judge = Callable[..., SpentPair | Blocked]


class State:
    """The database's state, as the gate's owner tells it."""

    def __init__(self) -> None:
        self.copy, self.now = ACTIVE, ACTIVE

    def __call__(self, *, fresh: bool) -> Projection:
        return self.now if fresh else self.copy


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def gate(redis: Client, keys: None, settings: Settings, state: State) -> Gate:
    settings.APPLY_PERMIT_WAIT_MS = 120
    redis.set(settings.KEYS.trading_state, ACTIVE.raw, px=6000)
    verifier = Verifier(directory=settings.PERMIT_KEYS_DIR)
    return Gate(commands=redis, blocking=blocking_client(block_s=1), verifier=verifier, state=state)


def outcome_of(gate: Gate, plan: ExitPlan) -> SpentPair | Blocked:
    outcome = gate.wait_and_consume(plan, stopping=lambda: False)
    assert isinstance(outcome, SpentPair | Blocked)
    return outcome


@pytest.fixture
def judged(gate: Gate, redis: Client, settings: Settings) -> Callable[..., str]:
    """Lays the permits, lets the gate look, and returns why it refused; nothing may have been spent."""

    def judge(plan: ExitPlan, *, governor: bytes | None = None, p33: bytes | None = None) -> str:
        laid = {
            settings.KEYS.governor_permit(plan.plan_id): governor or permit(plan, GOVERNOR),
            settings.KEYS.p33_permit(plan.plan_id): p33 or permit(plan, P33),
        }
        for key, raw in laid.items():
            redis.set(key, raw, px=60_000)
        redis.rpush(settings.KEYS.wake(plan.plan_id), "1")
        outcome = outcome_of(gate, plan)
        assert isinstance(outcome, Blocked), "it was spent"
        assert {key: redis.get(key) for key in laid} == laid, "a refused permit is gone"
        assert not redis.exists(settings.KEYS.receipt(plan.plan_id))
        return outcome.reason.value

    return judge


@pytest.fixture
def start(redis: Client, settings: Settings) -> Iterator[Start]:
    """Governors at work, as many as are asked for; the state is ACTIVE and every position is known."""
    arm(redis)
    for symbol in settings.APPLY_ALLOWLIST:
        snapshot(redis, symbol=symbol)
    started: list[AtWork] = []

    def one() -> AtWork:
        started.append(AtWork(redis))
        return started[-1]

    yield one
    for governor in started:
        governor.end()
