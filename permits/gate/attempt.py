"""One wait for one plan: look, judge, spend exactly the bytes that were judged, or say why not."""

from __future__ import annotations

import secrets
from typing import Protocol

from django.conf import settings
from msgspec import Struct
from msgspec.structs import replace
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from permits.desk import payloads
from permits.desk.peek import fingerprint
from permits.gate.judge import Judge, said
from permits.gate.outcome import Blocked, SpentPair, Verified
from permits.gate.spending import Hint, Spending, call_for
from permits.state import trading
from permits.state.trading import Projection
from quantum import clock
from quantum.plan import ExitPlan
from quantum.reasons import WORTH_WAITING_FOR, GateReason
from quantum.redis import RedisError

LIFE_CAP_MS = 60_000
LAST_MOMENT_MS = 50
"""The end that the script is given counts from its answer to the look: judging and a busy machine come off it."""
BUSY_STEP_MS = 50
"""Nobody wakes us when the symbol's slot is free: its owner is another process."""
AGAIN_MS, REFUSED_AGAIN_MS = 20, 100
"""After a call that had no answer, and after one that was refused: of 256 waits none asks a busy server fifty times a
second."""


class StateSource(Protocol):
    """The state as the database has it: a copy at most two seconds old, or read anew."""

    def __call__(self, *, fresh: bool) -> Projection: ...


class HoldSource(Protocol):
    """The bytes of that symbol's open hold, if it is the one of that id; empty otherwise. From the database."""

    def __call__(self, *, hold_id: int, symbol: str) -> bytes: ...


Judged = dict[str, payloads.Permit | GateReason]


class Refusal(Struct, frozen=True):
    """One answer of the script, taken apart."""

    reason: str
    gov_ttl: int
    p33_ttl: int
    governor: bytes
    p33: bytes
    now_ms: int
    state: bytes


class Attempt:
    """One wait for one plan, with its own token."""

    def __init__(
        self, plan: ExitPlan, *, spending: Spending, judge: Judge, state: StateSource, hold: HoldSource
    ) -> None:
        self._plan = plan
        self._call = call_for(plan)
        self._spending = spending
        self._judge_against = judge
        self._state_of = state
        self._hold_of = hold
        self._hold_allowed = (0, b"")
        self._spends = settings.APPLY_MODE != "dry_run"
        self._token = secrets.token_hex(16)
        self._started_ms = clock.monotonic_ms()
        self._deadline_ms = self._started_ms + settings.APPLY_PERMIT_WAIT_MS
        self._state = state(fresh=False)
        self._state_was_read_again = False
        self._look_at_once = False
        self._busy = False
        self._trouble: GateReason | None = None
        self._spend_boot_s: float | None = None
        self._answer_was_lost = False
        self._judged: dict[tuple[str, bytes], payloads.Permit | GateReason] = {}
        self._found: dict[str, int] = {}
        self._last = Refusal("missing_both", -2, -2, b"", b"", 0, b"")

    def turn(self, step_ms: float) -> SpentPair | Verified | Blocked | None:
        """Wait for a wake-up at most one step, then look once. None: go on waiting."""
        step_ms, hint = BUSY_STEP_MS if self._busy else step_ms, None
        self._judge_against.before_waiting(within_ms=step_ms)
        left_ms = self._left_ms()
        try:
            # Of a server that did not answer the look nothing is awaited: a BLPOP is given up a second later still.
            if left_ms > 0 and not self._look_at_once and self._trouble is None:
                hint = self._spending.wake(self._call, within_ms=min(step_ms, left_ms))
            self._look_at_once = False
            return self._spent_as_hinted(hint) or self._look()
        except RedisError as error:
            return self._unreachable(error)

    def _look(self) -> SpentPair | Verified | Blocked | None:
        left_when_asked_ms = self._left_ms()
        seen = self._ask(pair=(b"", b""), hold=self._hold_allowed[1], not_after_ms=0)
        if isinstance(seen, SpentPair):
            return seen
        self._last = seen
        # The server stood still over what was left of the wait.
        if left_when_asked_ms > LAST_MOMENT_MS and self._left_ms() <= 0:
            self._trouble = self._trouble or GateReason.REDIS_UNAVAILABLE
        verdict = self._verdict(seen)
        if isinstance(verdict, Blocked):
            return verdict
        if verdict is None:
            return self._timed_out(seen)
        if not self._spends:
            return self._verified(seen, *verdict)
        if self._left_ms() <= 0:
            # The look was answered late: an end counted from the time it tells would lie behind our own.
            return self._blocked(self._trouble or GateReason.EXPIRED_PERMIT, seen)
        spent = self._spend(seen.now_ms, *verdict)
        if isinstance(spent, SpentPair):
            return spent
        if spent.reason == "unverified":
            self._look_at_once = True  # other bytes stand there by now
            return None
        return self._refused(spent)

    def _verified(
        self, seen: Refusal, governor: payloads.Permit, p33: payloads.Permit
    ) -> Verified | Blocked | None:
        """What the script would still look at, but for the slot, which only a spend can find taken."""
        if seen.now_ms >= self._not_after_ms(seen.now_ms, governor, p33):
            return self._blocked(GateReason.EXPIRED_PERMIT, seen)
        return Verified(self._plan, governor, p33, wait_ms=self._waited_ms(), found_ms=self._found)

    def _spent_as_hinted(self, hint: Hint | None) -> SpentPair | None:
        """The common case, one round trip shorter. None: whatever was wrong, the look says it."""
        if hint is None or not self._state.active or not self._spends:
            return None
        governor = self._judge(hint.governor, payloads.GOVERNOR)
        p33 = self._judge(hint.p33, payloads.P33)
        if isinstance(governor, GateReason) or isinstance(p33, GateReason):
            return None
        if governor.by_operator or p33.by_operator:
            return None  # the look asks the policy first
        if self._left_ms() <= 0:
            return None
        for gate in (payloads.GOVERNOR, payloads.P33):
            self._found.setdefault(gate, self._waited_ms())
        spent = self._spend(hint.now_ms, governor, p33)
        return spent if isinstance(spent, SpentPair) else None

    def _spend(self, now_ms: int, governor: payloads.Permit, p33: payloads.Permit) -> SpentPair | Refusal:
        # Before the first call that may spend: what froze between its answer and us must count as time.
        if self._spend_boot_s is None:
            self._spend_boot_s = clock.boot_s()
        # The look was allowed past a hold for the permits it saw then; these may be others by now.
        hold_id, hold = self._hold_allowed
        spent = self._ask(
            pair=(governor.raw, p33.raw),
            hold=hold if payloads.named_hold(governor, p33) == hold_id else b"",
            not_after_ms=self._not_after_ms(now_ms, governor, p33),
        )
        if isinstance(spent, Refusal) and not self._answer_was_lost:
            self._spend_boot_s = (
                None  # nothing was spent, and no call of ours is on its way that may still spend
            )
        return spent

    def _ask(self, *, pair: tuple[bytes, bytes], hold: bytes, not_after_ms: int) -> SpentPair | Refusal:
        answer = self._spending.consume(
            self._call,
            token=self._token,
            pair=pair,
            state=self._state.raw,
            hold=hold,
            not_after_ms=not_after_ms,
        )
        spent, *rest = answer
        if spent == 1:
            at_ms, *of_the_receipt = rest
            return self._spent(*(of_the_receipt or pair), at_ms=at_ms)
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
        judged = self._judged_of(seen)
        was_spent = seen.reason == GateReason.ALREADY_CONSUMED.value  # the script looks at the receipt first
        if not was_spent and not self._state.lets_pass(by_operator=_by_operator(judged)):
            # The bytes there are those we know, and they forbid: equality alone must never pass a HALTED.
            return self._blocked(GateReason.HALTED, seen)
        for gate, permit in judged.items():
            if isinstance(permit, GateReason):
                raw = seen.governor if gate == payloads.GOVERNOR else seen.p33
                blocked = self._blocked(permit, seen, gate_reason=said(raw, gate))
                return replace(blocked, accused=gate, claimed=fingerprint(raw))
        if seen.reason == "hold":
            return self._held(seen, judged)
        if seen.reason == "unverified":
            return self._pair(seen, judged)
        if GateReason(seen.reason) in WORTH_WAITING_FOR:
            return None
        return self._blocked(GateReason(seen.reason), seen)

    def _judged_of(self, seen: Refusal) -> Judged:
        judged: Judged = {}
        for gate, raw in ((payloads.GOVERNOR, seen.governor), (payloads.P33, seen.p33)):
            if raw:
                self._found.setdefault(gate, self._waited_ms())
                judged[gate] = self._judge(raw, gate)
        return judged

    def _pair(self, seen: Refusal, judged: Judged) -> tuple[payloads.Permit, payloads.Permit] | Blocked:
        """Both are there and good one by one; an operator's is also held against what the policy gives him."""
        governor, p33 = judged.get(payloads.GOVERNOR), judged.get(payloads.P33)
        if not isinstance(governor, payloads.Permit) or not isinstance(p33, payloads.Permit):
            malformed_p33 = isinstance(governor, payloads.Permit)  # a key that holds the empty text
            reason = GateReason.MALFORMED_P33 if malformed_p33 else GateReason.MALFORMED_GOVERNOR
            return self._blocked(reason, seen)
        refused = self._judge_against.policy_refuses(self._plan, governor, p33)
        return self._blocked(refused, seen) if refused else (governor, p33)

    def _held(self, seen: Refusal, judged: Judged) -> Blocked | None:
        """Frozen. An operator's permit passes the one hold it names, by the bytes the database has for it."""
        named = payloads.named_hold(*(each for each in judged.values() if isinstance(each, payloads.Permit)))
        already, raw = self._hold_allowed
        if named is not None and not already:
            raw = self._hold_of(hold_id=named, symbol=self._plan.symbol)
            self._hold_allowed = (named, raw)
            self._look_at_once = bool(raw)
        return None if self._look_at_once else self._blocked(GateReason.HOLD, seen)

    def _judge(self, raw: bytes, gate: str) -> payloads.Permit | GateReason:
        """The same bytes are judged once; what a receipt gives back is other bytes until proved the same."""
        known = self._judged.get((gate, raw))
        if known is None:
            known = self._judged[gate, raw] = self._judge_against(self._plan, raw, gate)
        return known

    def _state_differs(self, seen: Refusal) -> Blocked | None:
        """HALTED there is halted. Otherwise our copy may be old: read the database once more."""
        by_operator = _by_operator(self._judged_of(seen))
        if trading.is_halted(seen.state) and not by_operator:
            return self._blocked(GateReason.HALTED, seen)
        if self._state_was_read_again:
            return self._blocked(GateReason.NOT_ARMED, seen)
        self._state_was_read_again = True
        self._state = self._state_of(fresh=True)
        if not self._state.lets_pass(by_operator=by_operator):
            return self._blocked(GateReason.HALTED, seen)
        self._look_at_once = True
        return None

    def _refused(self, refusal: Refusal) -> Blocked | None:
        if refusal.reason == "state_differs":
            return self._state_differs(refusal) or self._timed_out(refusal)
        if refusal.reason == "hold":
            # Told to Redis between the look and the spend: it may be the one that is named.
            return self._held(refusal, self._judged_of(refusal)) or self._timed_out(refusal)
        reason = GateReason(refusal.reason)
        self._busy = reason is GateReason.SYMBOL_BUSY
        if reason is GateReason.EXPIRED_PERMIT and self._trouble and self._left_ms() < LAST_MOMENT_MS:
            reason = (
                self._trouble
            )  # it was the wait that ended, and the server that had refused us until then
        return self._timed_out(refusal) if reason in WORTH_WAITING_FOR else self._blocked(reason, refusal)

    def _timed_out(self, seen: Refusal) -> Blocked | None:
        if clock.monotonic_ms() < self._deadline_ms:
            self._trouble = None  # it answers again
            return None
        if self._trouble:  # until now: what is missing may be so because nobody could write it
            return self._blocked(self._trouble, seen)
        if seen.reason == "state_differs":  # read anew just now, and no time left to look again
            return self._blocked(GateReason.NOT_ARMED, seen)
        if seen.reason == "hold":  # the same
            return self._blocked(GateReason.HOLD, seen)
        reason = GateReason(seen.reason)
        return Blocked(reason, seen.gov_ttl, seen.p33_ttl, wait_ms=self._waited_ms(), timed_out=True)

    def _unreachable(self, error: RedisError) -> Blocked | None:
        """Same token again until the deadline: if the first call did spend, its receipt answers."""
        unreachable = isinstance(error, (RedisConnectionError, RedisTimeoutError))
        self._trouble = GateReason.REDIS_UNAVAILABLE if unreachable else GateReason.REDIS_REFUSED
        self._answer_was_lost |= self._spend_boot_s is not None
        left_ms = self._left_ms()
        if left_ms > 0:
            clock.sleep_s(min(AGAIN_MS if unreachable else REFUSED_AGAIN_MS, left_ms) / 1000)
            return None
        return self._blocked(self._trouble, self._last)

    def _blocked(self, reason: GateReason, seen: Refusal, *, gate_reason: str = "") -> Blocked:
        return Blocked(reason, seen.gov_ttl, seen.p33_ttl, wait_ms=self._waited_ms(), gate_reason=gate_reason)

    def _not_after_ms(self, now_ms: int, governor: payloads.Permit, p33: payloads.Permit) -> int:
        """In Redis' time, as learnt from the look or the wake-up: no permit lives longer than it says or than 60 s,
        and a script that runs late on the server finds this attempt's own deadline passed."""
        left_ms = max(self._left_ms(), 1)
        ends = [now_ms + int(left_ms)]
        for permit in (governor, p33):
            if permit.expires_at is not None:
                ends.append(int(permit.expires_at * 1000))
            if permit.created_at is not None:
                ends.append(int(permit.created_at * 1000) + LIFE_CAP_MS)
        return min(ends)

    def _left_ms(self) -> float:
        return self._deadline_ms - clock.monotonic_ms()

    def _waited_ms(self) -> int:
        return int(clock.monotonic_ms() - self._started_ms)


def _by_operator(judged: Judged) -> bool:
    """By the operator's verified signature, never by what a plan says of its source."""
    return any(isinstance(permit, payloads.Permit) and permit.by_operator for permit in judged.values())
