"""The gate: wait for both permits, look at them, spend exactly those bytes. Never less.

Everything a permit says is judged here, in Python, with nothing spent; the script then spends the
bytes that were judged or refuses. Every refusal is a value that names its reason and both TTLs.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from django.conf import settings

from permits.gate.attempt import Attempt, HoldSource, StateSource
from permits.gate.judge import Judge
from permits.gate.outcome import Blocked, SpentPair, Verified
from permits.gate.spending import Spending
from permits.policy.operator_rules import Operators
from permits.state import holds
from quantum.log import log
from quantum.plan import ExitPlan
from quantum.redis import Client
from quantum.signing import Verifier

SLOW_STEP_LEAST_MS, SLOW_STEP_MS = 500, 850
"""Where every permit comes from the desk each one wakes us; this step only covers a lost wake-up. It is another each
time: 256 waits that look at the same moment delay each other's wake-ups (p99 114 ms; spread out 4 ms)."""
FIRST_STEP_LEAST_MS, FIRST_STEP_MS = 15, 30
"""A pair that is not there by then has a gate that is late. What the other gate wrote is verified meanwhile: a third
less to do when the wake-up comes. Not earlier: both usually come within a few milliseconds, and would find us busy.
A server at rest looks at the ends of waits ten times a second: each step may take 100 ms longer. Both together still
end before the wait does, or its last look would be the one that covers a lost wake-up, and that one spends nothing."""


class Gate:
    """One per process: threads share it."""

    def __init__(
        self,
        *,
        commands: Client,
        blocking: Client,
        verifier: Verifier,
        state: StateSource,
        hold: HoldSource = holds.allowed,
        operators: Operators | None = None,
    ) -> None:
        self._spending = Spending(commands=commands, blocking=blocking)
        self._judge = Judge(verifier, operators=operators or Operators(client=commands))
        self._state = state
        self._hold = hold
        required = settings.PERMIT_SIGNATURES == "required"
        as_set = (settings.APPLY_PERMIT_STEP_MS,) * 2
        self._first_step_ms = (FIRST_STEP_LEAST_MS, FIRST_STEP_MS) if required else as_set
        self._steps_ms = (SLOW_STEP_LEAST_MS, SLOW_STEP_MS) if required else as_set

    def wait_and_consume(
        self, plan: ExitPlan, *, stopping: Callable[[], bool]
    ) -> SpentPair | Verified | Blocked | None:
        """None: told to stop while waiting; permits and entry are left as they are for the next process.
        Verified: in dry_run only, where nothing is spent."""
        attempt = Attempt(
            plan, spending=self._spending, judge=self._judge, state=self._state, hold=self._hold
        )
        log.info(
            "[PERMIT_WAIT] Polling for permits",
            plan=plan.plan_id,
            max_wait=f"{settings.APPLY_PERMIT_WAIT_MS}ms",
            symbol=plan.symbol,
        )
        step_ms = self._first_step_ms
        while not stopping():
            outcome = attempt.turn(random.uniform(*step_ms))  # noqa: S311  no secret
            if outcome is not None:
                return outcome
            step_ms = self._steps_ms
        return None
