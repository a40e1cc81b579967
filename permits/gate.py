"""The gate: wait for both permits, look at them, spend exactly those bytes. Never less.

Everything a permit says is judged here, in Python, with nothing spent; the script then spends the
bytes that were judged or refuses. Every refusal is a value that names its reason and both TTLs.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from django.conf import settings
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from permits import payloads, trading
from permits.trading import Projection
from quantum import clock
from quantum.log import log
from quantum.plan import ExitPlan
from quantum.reasons import WORTH_WAITING_FOR, GateReason
from quantum.redis import Client, RedisError, Script
from quantum.signing import Verifier

SLOT_MS = 5000
RECEIPT_MS = 300_000
LIFE_CAP_MS = 60_000
SLOW_STEP_MS = 400
"""Where every permit comes from the desk each one wakes us; this step only covers a lost wake-up."""

_CONSUME = Script(Path(__file__).parent / "lua" / "consume-7.lua")


class StateSource(Protocol):
    """The state as the database has it: a copy at most two seconds old, or read anew."""

    def __call__(self, *, fresh: bool) -> Projection: ...


@dataclass(frozen=True, slots=True)
class SpentPair:
    """Both permits, spent by this very attempt. The only thing apply.orders accepts."""

    plan: ExitPlan
    token: str
    governor: payloads.Permit
    p33: payloads.Permit
    consumed_ms: int
    consumed_boot_s: float
    wait_ms: int
    found_ms: dict[str, int]
    """When each permit was first seen: for the log."""

    @property
    def safe_quantity(self) -> Decimal:
        if self.p33.quantity is None:
            raise ValueError("a spent pair always has a safe quantity")
        return self.p33.quantity


@dataclass(frozen=True, slots=True)
class Blocked:
    """Nothing was spent. The gate's own reason stands in gate_reason where a gate said no."""

    reason: GateReason
    gov_ttl: int
    p33_ttl: int
    wait_ms: int = 0
    gate_reason: str = ""
    timed_out: bool = False

    @property
    def error(self) -> str:
        if self.reason in (GateReason.GOVERNOR_DENIED, GateReason.P33_DENIED):
            return f"permit_denied:{self.reason}"
        return f"permit_timeout_or_missing:{self.reason}" if self.timed_out else self.reason.value


@dataclass(frozen=True, slots=True)
class Refusal:
    """One answer of the script, taken apart."""

    reason: str
    gov_ttl: int
    p33_ttl: int
    governor: bytes
    p33: bytes
    now_ms: int
    state: bytes


class Gate:
    """One per process: threads share it."""

    def __init__(self, *, commands: Client, blocking: Client, verifier: Verifier, state: StateSource) -> None:
        self._commands = commands
        self._blocking = blocking
        self._verifier = verifier
        self._state = state
        self._required = settings.PERMIT_SIGNATURES == "required"

    def wait_and_consume(self, plan: ExitPlan, *, stopping: Callable[[], bool]) -> SpentPair | Blocked | None:
        """None: told to stop while waiting; permits and entry are left as they are for the next process."""
        attempt = _Attempt(self, plan)
        log.info(
            "[PERMIT_WAIT] Polling for permits",
            plan=plan.plan_id,
            max_wait=f"{settings.APPLY_PERMIT_WAIT_MS}ms",
            symbol=plan.symbol,
        )
        step_ms = SLOW_STEP_MS if self._required else settings.APPLY_PERMIT_STEP_MS
        while not stopping():
            outcome = attempt.turn(step_ms)
            if outcome is not None:
                return outcome
        return None

    # ---- used by _Attempt

    def call(
        self, plan: ExitPlan, *, token: str, pair: tuple[bytes, bytes], state: bytes, not_after_ms: int
    ) -> Any:
        keys = settings.KEYS
        expiry_ms = int(plan.expiry_s(ttl_s=settings.APPLY_PLAN_TTL_SEC) * 1000)
        return _CONSUME(
            self._commands,
            keys=(
                keys.governor_permit(plan.plan_id),
                keys.p33_permit(plan.plan_id),
                keys.receipt(plan.plan_id),
                keys.trading_state,
                keys.hold(plan.symbol),
                keys.slot(plan.symbol),
                keys.wake(plan.plan_id),
            ),
            args=(token, *pair, state, b"", expiry_ms, not_after_ms, SLOT_MS, RECEIPT_MS),
        )

    def wake(self, plan: ExitPlan, *, within_ms: float) -> None:
        """Returns at the wake-up or when the time is over; what there is to see is looked at either way."""
        self._blocking.blpop([settings.KEYS.wake(plan.plan_id)], timeout=max(within_ms, 1) / 1000)

    def expected_state(self, *, fresh: bool) -> Projection:
        return self._state(fresh=fresh)

    def judge(self, plan: ExitPlan, raw: bytes, gate: str) -> payloads.Permit | GateReason:
        """Every field of a permit against the plan; the gate's verdict comes last."""
        malformed = GateReason.MALFORMED_GOVERNOR if gate == payloads.GOVERNOR else GateReason.MALFORMED_P33
        try:
            permit = payloads.read(raw, gate=gate, all_fields=self._required)
        except payloads.Malformed:
            return malformed
        if self._required and not self._verifier.holds(signer=gate, raw=raw):
            return GateReason.BAD_SIGNATURE
        if permit.symbol not in (None, plan.symbol):
            return GateReason.SYMBOL_MISMATCH
        if permit.digest not in (None, plan.digest) or permit.plan_id not in (None, plan.plan_id):
            return GateReason.DIGEST_MISMATCH
        if permit.mode not in (None, settings.APPLY_MODE):
            return GateReason.MODE_MISMATCH
        if permit.account not in (None, settings.ACCOUNT):
            return GateReason.ACCOUNT_MISMATCH
        if permit.consumed:
            return GateReason.ALREADY_CONSUMED
        if not permit.verdict:
            return GateReason.GOVERNOR_DENIED if gate == payloads.GOVERNOR else GateReason.P33_DENIED
        return permit


class _Attempt:
    """One wait for one plan, with its own token."""

    def __init__(self, gate: Gate, plan: ExitPlan) -> None:
        self._gate = gate
        self._plan = plan
        self._token = secrets.token_hex(16)
        self._started_ms = clock.monotonic_ms()
        self._deadline_ms = self._started_ms + settings.APPLY_PERMIT_WAIT_MS
        self._state = gate.expected_state(fresh=False)
        self._state_was_read_again = False
        self._look_at_once = False
        self._spend_boot_s: float | None = None
        self._judged: dict[tuple[str, bytes], payloads.Permit | GateReason] = {}
        self._found: dict[str, int] = {}
        self._last = Refusal("missing_both", -2, -2, b"", b"", 0, b"")

    def turn(self, step_ms: float) -> SpentPair | Blocked | None:
        """Wait for a wake-up at most one step, then look once. None: go on waiting."""
        left_ms = self._deadline_ms - clock.monotonic_ms()
        try:
            if left_ms > 0 and not self._look_at_once:
                self._gate.wake(self._plan, within_ms=min(step_ms, left_ms))
            self._look_at_once = False
            return self._look()
        except RedisError as error:
            return self._unreachable(error)

    def _look(self) -> SpentPair | Blocked | None:
        seen = self._ask(pair=(b"", b""), not_after_ms=0)
        if isinstance(seen, SpentPair):
            return seen
        self._last = seen
        verdict = self._verdict(seen)
        if isinstance(verdict, Blocked):
            return verdict
        if verdict is None:
            return self._timed_out(seen)
        governor, p33 = verdict
        # Before the first call that may spend: what froze between its answer and us must count as time.
        if self._spend_boot_s is None:
            self._spend_boot_s = clock.boot_s()
        spent = self._ask(pair=(governor.raw, p33.raw), not_after_ms=self._not_after_ms(seen, governor, p33))
        if isinstance(spent, SpentPair):
            return spent
        self._spend_boot_s = None  # a refusal: nothing was spent
        if spent.reason == "unverified":
            self._look_at_once = True  # other bytes stand there by now
            return None
        return self._refused(spent)

    def _ask(self, *, pair: tuple[bytes, bytes], not_after_ms: int) -> SpentPair | Refusal:
        answer = self._gate.call(
            self._plan, token=self._token, pair=pair, state=self._state.raw, not_after_ms=not_after_ms
        )
        spent, *rest = answer
        if spent == 1:
            governor, p33, at_ms = rest
            return self._spent(governor, p33, at_ms=at_ms)
        reason, gov_ttl, p33_ttl, governor, p33, now_ms, state = rest
        return Refusal(reason.decode(), gov_ttl, p33_ttl, governor, p33, now_ms, state)

    def _spent(self, governor_raw: bytes, p33_raw: bytes, *, at_ms: int) -> SpentPair | Refusal:
        """Also on a receipt: what comes back is judged like everything else."""
        governor = self._judge(governor_raw, payloads.GOVERNOR)
        p33 = self._judge(p33_raw, payloads.P33)
        if isinstance(governor, GateReason):
            return Refusal(governor.value, -2, -2, b"", b"", at_ms, b"")
        if isinstance(p33, GateReason):
            return Refusal(p33.value, -2, -2, b"", b"", at_ms, b"")
        return SpentPair(
            plan=self._plan,
            token=self._token,
            governor=governor,
            p33=p33,
            consumed_ms=at_ms,
            consumed_boot_s=self._spend_boot_s or 0.0,
            wait_ms=self._waited_ms(),
            found_ms=self._found,
        )

    def _verdict(self, seen: Refusal) -> tuple[payloads.Permit, payloads.Permit] | Blocked | None:
        """Judge whatever bytes are there: a lone denial ends the wait. None: not enough is there yet."""
        if seen.reason == "state_differs":
            return self._state_differs(seen)
        if not self._state.active:
            # The bytes there are those we know, and they forbid: equality alone must never pass a HALTED.
            return self._blocked(GateReason.HALTED, seen)
        judged = {}
        for gate, raw in ((payloads.GOVERNOR, seen.governor), (payloads.P33, seen.p33)):
            if not raw:
                continue
            self._found.setdefault(gate, self._waited_ms())
            permit = self._judge(raw, gate)
            if isinstance(permit, GateReason):
                return self._blocked(permit, seen, gate_reason=_said(raw, gate))
            judged[gate] = permit
        if seen.reason == "unverified" and len(judged) == 2:
            return judged[payloads.GOVERNOR], judged[payloads.P33]
        if GateReason(seen.reason) in WORTH_WAITING_FOR:
            return None
        return self._blocked(GateReason(seen.reason), seen)

    def _judge(self, raw: bytes, gate: str) -> payloads.Permit | GateReason:
        """The same bytes are judged once; what a receipt gives back is other bytes until proved the same."""
        known = self._judged.get((gate, raw))
        if known is None:
            known = self._judged[gate, raw] = self._gate.judge(self._plan, raw, gate)
        return known

    def _state_differs(self, seen: Refusal) -> Blocked | None:
        """HALTED there is halted. Otherwise our copy may be old: read the database once more."""
        if trading.is_halted(seen.state):
            return self._blocked(GateReason.HALTED, seen)
        if self._state_was_read_again:
            return self._blocked(GateReason.NOT_ARMED, seen)
        self._state_was_read_again = True
        self._state = self._gate.expected_state(fresh=True)
        if not self._state.active:
            return self._blocked(GateReason.HALTED, seen)
        self._look_at_once = True
        return None

    def _refused(self, refusal: Refusal) -> Blocked | None:
        if refusal.reason == "state_differs":
            return self._state_differs(refusal) or self._timed_out(refusal)
        reason = GateReason(refusal.reason)
        return self._timed_out(refusal) if reason in WORTH_WAITING_FOR else self._blocked(reason, refusal)

    def _timed_out(self, seen: Refusal) -> Blocked | None:
        if clock.monotonic_ms() < self._deadline_ms:
            return None
        if seen.reason == "state_differs":  # read anew just now, and no time left to look again
            return self._blocked(GateReason.NOT_ARMED, seen)
        reason = GateReason(seen.reason)
        return Blocked(reason, seen.gov_ttl, seen.p33_ttl, wait_ms=self._waited_ms(), timed_out=True)

    def _unreachable(self, error: RedisError) -> Blocked | None:
        """Same token again until the deadline: if the first call did spend, its receipt answers."""
        if clock.monotonic_ms() < self._deadline_ms:
            clock.sleep_s(0.02)
            return None
        unreachable = isinstance(error, (RedisConnectionError, RedisTimeoutError))
        reason = GateReason.REDIS_UNAVAILABLE if unreachable else GateReason.REDIS_REFUSED
        return self._blocked(reason, self._last)

    def _blocked(self, reason: GateReason, seen: Refusal, *, gate_reason: str = "") -> Blocked:
        return Blocked(reason, seen.gov_ttl, seen.p33_ttl, wait_ms=self._waited_ms(), gate_reason=gate_reason)

    def _not_after_ms(self, seen: Refusal, governor: payloads.Permit, p33: payloads.Permit) -> int:
        """In Redis' time, as learnt from the look: no permit lives longer than it says or than 60 s,
        and a script that runs late on the server finds this attempt's own deadline passed."""
        left_ms = max(self._deadline_ms - clock.monotonic_ms(), 1)
        ends = [seen.now_ms + int(left_ms)]
        for permit in (governor, p33):
            if permit.expires_at is not None:
                ends.append(int(permit.expires_at * 1000))
            if permit.created_at is not None:
                ends.append(int(permit.created_at * 1000) + LIFE_CAP_MS)
        return min(ends)

    def _waited_ms(self) -> int:
        return int(clock.monotonic_ms() - self._started_ms)


def _said(raw: bytes, gate: str) -> str:
    """The gate's own reason, where the bytes can be read at all."""
    try:
        return payloads.read(raw, gate=gate, all_fields=False).reason
    except payloads.Malformed as wrong:
        return str(wrong)


def tell(plan: ExitPlan, outcome: SpentPair | Blocked) -> None:
    """The log lines of a wait. Told by the caller once the order is on its way: a line costs 50 us."""
    if isinstance(outcome, Blocked):
        _tell_block(plan, outcome)
        return
    for gate, name in ((payloads.GOVERNOR, "Governor"), (payloads.P33, "P3.3")):
        log.info(
            f"[PERMIT_WAIT] {name} permit found", plan=plan.plan_id, wait=f"{outcome.found_ms.get(gate, 0)}ms"
        )
    log.info(
        "[PERMIT_WAIT] OK",
        plan=plan.plan_id,
        wait_ms=outcome.wait_ms,
        safe_qty=f"{outcome.safe_quantity:f}",
        symbol=plan.symbol,
    )


def _tell_block(plan: ExitPlan, blocked: Blocked) -> None:
    log.warning(
        "[PERMIT_WAIT] BLOCK",
        plan=plan.plan_id,
        reason=blocked.reason.value,
        gov_ttl=blocked.gov_ttl,
        p33_ttl=blocked.p33_ttl,
        wait_ms=blocked.wait_ms,
        symbol=plan.symbol,
        gate_reason=blocked.gate_reason,
    )
