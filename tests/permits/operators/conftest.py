"""A gate whose policy knows operators, and permits that an operator signs."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from permits.gate.gate import Gate
from permits.gate.outcome import Blocked
from permits.policy.mandate import OperatorRule
from permits.policy.operator_rules import Operators
from permits.state.trading import Projection
from quantum.plan import ExitPlan
from quantum.redis import Client, blocking_client
from quantum.signing import Verifier
from tests.house import House
from tests.permits.conftest import ACTIVE, State, outcome_of
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
