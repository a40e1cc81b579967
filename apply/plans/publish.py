"""Publishing a plan: the row first, then the stream, once. Whoever dies in between, the janitor goes on."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Model
from msgspec import Struct

from apply.models import Plan
from quantum import audit, clock, rows
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


class Published(Struct, frozen=True):
    plan: ExitPlan
    standing: Standing
    stream_id: str


def publish(client: Client, plan: ExitPlan, *, actor: str, along: Sequence[Model] = ()) -> Published:
    """Safe to call again with the same plan: one row, one stream entry, the same stream id.

    along: rows of whoever asked for the plan, written with its own or not at all.
    """
    row, made = _insert(plan, actor=actor, stream_id="", along=along)
    standing = Standing.NEW if made else Standing.KNOWN if row.digest == plan.digest else Standing.CONFLICT
    fault_point("plan_committed")
    if standing is Standing.CONFLICT:
        return Published(plan=plan, standing=standing, stream_id="")
    stream_id = row.stream_id or put_on_stream(client, plan)
    fault_point("plan_streamed")
    if not row.stream_id:  # apply writes it into the row with the plan's next step, which costs no commit
        steps = int(plan.step is not None)
        log.info(f"{plan.symbol}: Plan {plan.plan_id} published (decision={plan.decision}, steps={steps})")
    return Published(plan=plan, standing=standing, stream_id=stream_id)


def record(plan: ExitPlan, *, actor: str) -> None:
    """The row alone, inside the caller's transaction. publish() or the janitor puts it on the stream."""
    row, _ = _insert(plan, actor=actor, stream_id="")
    if row.digest != plan.digest:
        raise ValueError(f"plan {plan.plan_id} exists with other content")


def put_on_stream(client: Client, plan: ExitPlan) -> str:
    keys = settings.KEYS
    fields = [part for pair in plan.fields().items() for part in pair]
    stream_id: bytes = _PUBLISH(
        client,
        keys=(keys.stream_published(plan.plan_id), keys.plan_stream),
        args=(PUBLISH_ONCE_S, STREAM_AGE_MS, *fields),
    )
    return stream_id.decode()


class Row(Struct, frozen=True):
    """As much of a plan's row as apply needs to decide what an entry is worth."""

    state: Plan.State
    result_id: str
    standing: Standing


def ensure_row(plan: ExitPlan, *, actor: str, stream_id: str) -> Row:
    """The plan's row, made on first sight. The same id with other content is a conflict, never a change."""
    found = _look(plan)
    if found is None:
        _, made = _insert(plan, actor=actor, stream_id=stream_id)
        found = _look(plan)
        if found is None:
            raise RuntimeError(f"plan {plan.plan_id} has neither been found nor made")
        if made:
            return Row(found.state, found.result_id, Standing.NEW)
    return found


def ensure_rows(entries: dict[str, ExitPlan]) -> dict[str, Row]:
    """The same for many at once, by the ids of their entries: one transaction. Of two contents under one id the first
    makes the row; a writer who inserts one of them at this moment makes us look at each alone."""
    first: dict[str, tuple[ExitPlan, str]] = {}
    for entry_id, plan in entries.items():
        first.setdefault(plan.plan_id, (plan, entry_id))
    try:
        with transaction.atomic():
            known = set(Plan.objects.filter(plan_id__in=first).values_list("plan_id", flat=True))
            fresh = [made for made in first.values() if made[0].plan_id not in known]
            rows.insert(*(_row(plan, entry_id) for plan, entry_id in fresh))
            rows.insert(*(audit.event(**_event(plan, stream_actor(plan))) for plan, _ in fresh))
    except IntegrityError:
        for plan, entry_id in first.values():
            ensure_row(plan, actor=stream_actor(plan), stream_id=entry_id)
    found = {
        plan_id: (Plan.State(state), result_id, digest)
        for plan_id, state, result_id, digest in Plan.objects.filter(plan_id__in=first).values_list(
            "plan_id", "state", "result_id", "digest"
        )
    }
    stand = {}
    for entry_id, plan in entries.items():
        state, result_id, digest = found[plan.plan_id]
        stand[entry_id] = Row(state, result_id, _standing(plan, digest))
    return stand


def stream_actor(plan: ExitPlan) -> str:
    return f"stream:{plan.source[:40]}"


def _standing(plan: ExitPlan, digest: str) -> Standing:
    return Standing.KNOWN if digest == plan.digest else Standing.CONFLICT


_COUNT_AGAIN = """UPDATE apply_plan SET seen_again = COALESCE(seen_again, 0) + 1
WHERE plan_id = %s AND stream_id NOT IN ('', %s)"""


def count_again(plan_id: str, *, entry_id: str) -> None:
    """A further entry told it, which counts for nothing but this number. Its own one comes again where its
    acknowledgement was lost."""
    rows.run(_COUNT_AGAIN, (plan_id, entry_id))


def _look(plan: ExitPlan) -> Row | None:
    found = rows.first("SELECT state, result_id, digest FROM apply_plan WHERE plan_id = %s", (plan.plan_id,))
    if found is None:
        return None
    state, result_id, digest = found
    return Row(Plan.State(state), result_id, _standing(plan, digest))


class TriedAgain(Exception):
    """Somebody was faster: this parent has its next attempt."""


def record_attempt(plan: ExitPlan, *, parent: Plan, actor: str) -> None:
    """The row of the next attempt, inside the caller's transaction. Raises TriedAgain."""
    if not _insert(plan, actor=actor, stream_id="", parent=parent)[1]:
        raise TriedAgain(parent.plan_id)


def _insert(
    plan: ExitPlan, *, actor: str, stream_id: str, along: Sequence[Model] = (), parent: Plan | None = None
) -> tuple[Plan, bool]:
    """Two writers at once: the unique id lets one insert; the other reads what the first wrote."""
    row = _row(plan, stream_id, parent)
    with transaction.atomic():
        if rows.insert(row, skip_conflicts=True):
            pile = rows.Pile()
            audit.record(**_event(plan, actor), pile=pile)
            for each in along:
                rows.insert(each, pile=pile)
            pile.send(last=True)
            return row, True
    return Plan.objects.filter(plan_id=plan.plan_id).first() or row, False


def _row(plan: ExitPlan, stream_id: str, parent: Plan | None = None) -> Plan:
    return rows.new(
        Plan,
        plan_id=plan.plan_id,
        symbol=plan.symbol,
        action=plan.action.value,
        decision=plan.decision.value,
        kill_score=plan.kill_score_text,
        timestamp=plan.timestamp_text,
        digest=plan.digest,
        mode=settings.APPLY_MODE,
        account=settings.ACCOUNT,
        source=plan.source[:80],
        reason_codes=plan.reason_codes[:400],
        parent=parent.plan_id if parent else "",
        attempt=parent.attempt + 1 if parent else 1,
        expires_at=clock.from_ms(int(plan.expiry_s(ttl_s=settings.APPLY_PLAN_TTL_SEC) * 1000)),
        stream_id=stream_id,
    )


def _event(plan: ExitPlan, actor: str) -> dict[str, Any]:
    return {
        "kind": "plan_recorded",
        "actor": actor,
        "plan_id": plan.plan_id,
        "symbol": plan.symbol,
        "data": {"action": plan.action.value, "digest": plan.digest},
    }
