"""Publishing a plan: the row first, then the stream, once. Whoever dies in between, the janitor goes on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from django.conf import settings
from django.db import transaction

from apply.models import Plan
from quantum import audit, clock
from quantum.fault import fault_point
from quantum.log import log
from quantum.plan import ExitPlan
from quantum.redis import Client, Script

PUBLISH_ONCE_S = 300
STREAM_AGE_MS = 3_600_000

_PUBLISH = Script(Path(__file__).parent / "lua" / "publish-2.lua")


class Standing(Enum):
    """How a plan stands to the row of its id."""

    NEW = "new"
    KNOWN = "known"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Published:
    plan: ExitPlan
    standing: Standing
    stream_id: str


def publish(client: Client, plan: ExitPlan, *, actor: str) -> Published:
    """Safe to call again with the same plan: one row, one stream entry, the same stream id."""
    row, standing = ensure_row(plan, actor=actor)
    fault_point("plan_committed")
    if standing is Standing.CONFLICT:
        return Published(plan=plan, standing=standing, stream_id="")
    stream_id = row.stream_id or put_on_stream(client, plan)
    fault_point("plan_streamed")
    if not row.stream_id:
        Plan.objects.filter(plan_id=plan.plan_id).update(stream_id=stream_id)
        steps = int(plan.step is not None)
        log.info(f"{plan.symbol}: Plan {plan.plan_id} published (decision={plan.decision}, steps={steps})")
    return Published(plan=plan, standing=standing, stream_id=stream_id)


def put_on_stream(client: Client, plan: ExitPlan) -> str:
    keys = settings.KEYS
    fields = [part for pair in plan.fields().items() for part in pair]
    stream_id: bytes = _PUBLISH(
        client,
        keys=(keys.stream_published(plan.plan_id), keys.plan_stream),
        args=(PUBLISH_ONCE_S, STREAM_AGE_MS, *fields),
    )
    return stream_id.decode()


def ensure_row(plan: ExitPlan, *, actor: str, stream_id: str = "") -> tuple[Plan, Standing]:
    """The plan's row, made on first sight. The same id with other content is a conflict, never a change."""
    row = Plan.objects.filter(plan_id=plan.plan_id).first()
    if row is None:
        row = _insert(plan, actor=actor, stream_id=stream_id)
        if row.digest == plan.digest:
            return row, Standing.NEW
    return row, Standing.KNOWN if row.digest == plan.digest else Standing.CONFLICT


def _insert(plan: ExitPlan, *, actor: str, stream_id: str) -> Plan:
    """Two writers at once: the unique id lets one insert; the other reads what the first wrote."""
    with transaction.atomic():
        row, made = Plan.objects.get_or_create(
            plan_id=plan.plan_id,
            defaults={
                "symbol": plan.symbol,
                "action": plan.action.value,
                "decision": plan.decision.value,
                "kill_score": plan.kill_score_text,
                "timestamp": plan.timestamp_text,
                "digest": plan.digest,
                "mode": settings.APPLY_MODE,
                "account": settings.ACCOUNT,
                "source": plan.source[:80],
                "reason_codes": plan.reason_codes[:400],
                "expires_at": clock.from_ms(int(plan.expiry_s(ttl_s=settings.APPLY_PLAN_TTL_SEC) * 1000)),
                "stream_id": stream_id,
            },
        )
        if made:
            audit.record(
                kind="plan_recorded",
                actor=actor,
                plan_id=plan.plan_id,
                symbol=plan.symbol,
                data={"action": plan.action.value, "digest": plan.digest},
            )
    return row
