"""The gate's two calls to the server: the wake-up, and the script that spends or says why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from msgspec import Struct
from redis.exceptions import ResponseError

from quantum import clock
from quantum.plan import ExitPlan
from quantum.redis import Client, Script

UNHEARD_STEP_MS = 100

_CONSUME = Script(Path(__file__).parent / "lua" / "consume-7.lua")


class Hint(Struct, frozen=True):
    """Both permits as the issuing script saw them when the second came, and the server's time then.

    Never an answer: whoever can write to Redis can write it. What is judged good is spent only where the
    very same bytes still stand, and whatever goes wrong with it is looked at anew.
    """

    now_ms: int
    governor: bytes
    p33: bytes


class Call(Struct, frozen=True):
    """What every call for one plan names: made while its permits are still to come."""

    keys: tuple[str, ...]
    wake_key: str
    expiry_ms: int


def call_for(plan: ExitPlan) -> Call:
    keys, plan_id = settings.KEYS, plan.plan_id
    wake_key = keys.wake(plan_id)
    return Call(
        keys=(
            keys.governor_permit(plan_id),
            keys.p33_permit(plan_id),
            keys.receipt(plan_id),
            keys.trading_state,
            keys.hold(plan.symbol),
            keys.slot(plan.symbol),
            wake_key,
        ),
        wake_key=wake_key,
        expiry_ms=int(plan.expiry_s(ttl_s=settings.APPLY_PLAN_TTL_SEC) * 1000),
    )


class Spending:
    """One per process: threads share it."""

    def __init__(self, *, commands: Client, blocking: Client) -> None:
        self._commands = commands
        self._blocking = blocking

    def wake(self, call: Call, *, within_ms: float) -> Hint | None:
        """Returns at the wake-up or when the time is over; what there is to see is looked at either way."""
        try:
            woken = self._blocking.blpop([call.wake_key], timeout=max(within_ms, 1) / 1000)
        except ResponseError:
            # A stranger's value of another type: it wakes nobody, and the look needs no wake-up. The spend removes it.
            clock.sleep_s(min(within_ms, UNHEARD_STEP_MS) / 1000)
            return None
        return _hint(woken[1]) if woken else None

    def consume(
        self,
        call: Call,
        *,
        token: str,
        pair: tuple[bytes, bytes],
        state: bytes,
        hold: bytes,
        not_after_ms: int,
    ) -> Any:
        args = (token, *pair, state, hold, call.expiry_ms, not_after_ms)
        return _CONSUME(self._commands, keys=call.keys, args=args)


def _hint(woken: bytes) -> Hint | None:
    """`<now ms> <length of the first> <governor bytes><p33 bytes>`; a bare wake-up carries nothing."""
    try:
        now_ms, length, both = woken.split(b" ", 2)
        cut = int(length)
        return Hint(now_ms=int(now_ms), governor=both[:cut], p33=both[cut:])
    except ValueError:
        return None
