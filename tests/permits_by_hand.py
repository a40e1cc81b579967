"""Permits as a gate would sign them, with any field bent: for tests of who must not be believed."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from django.conf import settings

from permits.desk import payloads
from quantum import clock
from quantum.plan import ExitPlan
from quantum.redis import Client
from quantum.signing import Signer

GOVERNOR, P33 = payloads.GOVERNOR, payloads.P33


def permit(
    plan: ExitPlan,
    gate: str,
    *,
    safe: str = "0.25",
    position: str = "1",
    signer: str | None = None,
    life_s: int = 60,
    age_s: int = 0,
    **bent: Any,
) -> bytes:
    """A valid, signed grant, except for what is bent. A value of ... leaves the member out."""
    now = Decimal(clock.now_ms()) / 1000 - age_s
    body = payloads.body(
        payloads.Answer(
            gate=gate,
            plan_id=plan.plan_id,
            symbol=plan.symbol,
            digest=plan.digest,
            mode=settings.APPLY_MODE,
            account=settings.ACCOUNT,
            issuer="test",
            verdict=True,
            reason="approved",
            created_at=now,
            expires_at=now + life_s,
            quantity=Decimal(safe) if gate == P33 else Decimal(0),
            exchange_amt=Decimal(position),
            ledger_amt=Decimal(position),
            observed_at=now if gate == P33 else None,  # as the Brain writes it
        )
    )
    if bent:
        members = json.loads(body) | bent
        body = json.dumps({name: value for name, value in members.items() if value is not ...}).encode()
    return Signer(name=signer or gate, directory=settings.PERMIT_KEYS_DIR).seal(body)


def lay(redis: Client, plan: ExitPlan, *, governor: bytes | None = None, p33: bytes | None = None) -> None:
    """Put permits where the gate looks and wake it, as the desk's script would."""
    keys = settings.KEYS
    if governor is not None:
        redis.set(keys.governor_permit(plan.plan_id), governor, px=60_000)
    if p33 is not None:
        redis.set(keys.p33_permit(plan.plan_id), p33, px=60_000)
    redis.rpush(keys.wake(plan.plan_id), "1")
    redis.expire(keys.wake(plan.plan_id), 10)


def lay_both(redis: Client, plan: ExitPlan) -> None:
    lay(redis, plan, governor=permit(plan, GOVERNOR), p33=permit(plan, P33))
