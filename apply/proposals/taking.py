"""The one way in: whatever proposes an exit, by whichever way, ends in take().

A proposal that says the same as one before makes nothing new: the plan's id follows from symbol, action, score, stop
and the moment it was computed, and its row is unique. A refused one is kept with its reason, once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import StrEnum

from django.conf import settings
from django.db import transaction
from msgspec import Struct
from prometheus_client import Counter

from apply.models import Proposal as Row
from apply.plans import publish
from apply.plans.publish import Standing
from apply.proposals import proposal as proposals
from apply.proposals.proposal import AMOUNTS, FIELDS, QUIET, Proposal, Refused
from permits.policy import policies
from quantum import audit, clock, rows
from quantum.log import log, safe
from quantum.plan import ExitPlan
from quantum.reasons import ProposalReason
from quantum.redis import Client, RedisError

MARKED = frozenset(FIELDS) - {"last_update_epoch"}
"""A brain that stamps its hash anew each second has not said anything new."""
TAKEN = Counter("quantum_proposal_total", "Proposals that came in", ["way", "came_to"])


class CameTo(StrEnum):
    PLAN = "plan"
    KNOWN = "known"
    """The same was proposed before; its plan stands."""
    NOTHING = "nothing"
    """HOLD and NONE."""
    REFUSED = "refused"


class Origin(Struct, frozen=True):
    """Where a proposal came from and who answers for it."""

    way: str
    actor: str
    why: str = ""
    client: str = ""
    idempotency_key: str = ""
    body_digest: str = ""


class Taken(Struct, frozen=True):
    came_to: CameTo
    plan: ExitPlan | None = None
    mark: str = ""
    """Of its row in Proposal; empty where none was written."""
    published: bool = False
    """False with a plan: Redis gave no answer, and the janitor publishes it while it is fresh."""
    reason: ProposalReason | None = None
    text: str = ""


def take(client: Client, proposal: Proposal, *, origin: Origin) -> Taken:
    """Raises DatabaseError, with nothing done."""
    try:
        plan = proposal.plan(mode=settings.APPLY_MODE)
    except Refused as refused:
        return refuse(_told(proposal), refused, origin=origin)
    if proposal.action in QUIET:
        return _counted(Taken(CameTo.NOTHING), origin)
    try:
        proposals.judge(
            proposal,
            now_s=Decimal(f"{clock.now_s():.6f}"),
            ttl_s=Decimal(settings.APPLY_PLAN_TTL_SEC),
            allowed=policies.allows(proposal.symbol),
        )
        return _counted(_planned(client, proposal, plan, origin), origin)
    except Refused as refused:
        if Row.objects.filter(mark=plan.plan_id).exists():  # taken in its time, and said again too late
            return _counted(Taken(CameTo.KNOWN, plan=plan, mark=plan.plan_id, published=True), origin)
        return refuse(_told(proposal), refused, origin=origin)


def take_fields(client: Client, said: Mapping[bytes, bytes], *, origin: Origin, symbol: str = "") -> Taken:
    """The same for bytes of a stranger."""
    try:
        proposal = proposals.read_bytes(said, symbol=symbol)
    except Refused as refused:
        told = {safe(repr(name)[2:-1]): safe(repr(value)[2:-1]) for name, value in said.items()}
        return refuse({"symbol": symbol, **told}, refused, origin=origin)
    return take(client, proposal, origin=origin)


def refuse(said: Mapping[str, str], refused: Refused, *, origin: Origin) -> Taken:
    """Recorded once: the same words again, read each second or delivered again, add nothing."""
    heard = sorted((name, text) for name, text in said.items() if name in MARKED)
    content = json.dumps([origin.way, origin.client, origin.idempotency_key, heard])
    mark = hashlib.sha256(content.encode()).hexdigest()
    row = Row(
        mark=mark,
        symbol=said.get("symbol", "")[:40],
        action=said.get("harvest_action", "")[:24],
        kill_score=said.get("kill_score", "")[:40],
        computed_at=said.get("computed_at_utc", "")[:40],
        reason_codes=said.get("reason_codes", "")[:400],
        source=said.get("source", "")[:80],
        refusal=refused.reason.value,
        refusal_text=refused.text[:400],
        **_origin_fields(origin),
    )
    with transaction.atomic():
        if rows.insert(row, skip_conflicts=True):
            log.warning(
                "[INTAKE] proposal refused",
                symbol=row.symbol,
                reason=refused.reason.value,
                because=refused.text,
                way=origin.way,
            )
            rows.insert(
                audit.event(
                    kind="proposal_refused",
                    actor=origin.actor,
                    symbol=row.symbol,
                    reason=refused.reason.value,
                    data={"way": origin.way, "because": refused.text, "mark": mark},
                )
            )
    return _counted(Taken(CameTo.REFUSED, mark=mark, reason=refused.reason, text=refused.text), origin)


def refuse_late(entry_ids: Sequence[str], *, origin: Origin) -> None:
    """What lay longer than any plan lives, whatever it says: one event with the count. Raises DatabaseError."""
    reason, many = ProposalReason.STALE_PROPOSAL, len(entry_ids)
    data = {"way": origin.way, "count": many, "first": entry_ids[0], "last": entry_ids[-1]}
    rows.insert(audit.event(kind="proposals_refused", actor=origin.actor, reason=reason.value, data=data))
    log.warning("[INTAKE] proposals refused in bulk", reason=reason.value, **data)
    TAKEN.labels(way=origin.way, came_to=CameTo.REFUSED.value).inc(many)


def _planned(client: Client, proposal: Proposal, plan: ExitPlan, origin: Origin) -> Taken:
    row = Row(mark=plan.plan_id, plan_id=plan.plan_id, **_row_fields(proposal), **_origin_fields(origin))
    try:
        published = publish.publish(client, plan, actor=origin.actor, along=(row,))
    except RedisError as error:
        log.warning(
            "[INTAKE] plan recorded, not published yet", plan=plan.plan_id, error=type(error).__name__
        )
        return Taken(CameTo.PLAN, plan=plan, mark=plan.plan_id)
    if published.standing is Standing.CONFLICT:
        raise Refused(ProposalReason.MALFORMED_PROPOSAL, f"plan {plan.plan_id} exists with other content")
    came_to = CameTo.PLAN if published.standing is Standing.NEW else CameTo.KNOWN
    return Taken(came_to, plan=plan, mark=plan.plan_id, published=True)


def _counted(taken: Taken, origin: Origin) -> Taken:
    TAKEN.labels(way=origin.way, came_to=taken.came_to.value).inc()
    return taken


def _row_fields(proposal: Proposal) -> dict[str, object]:
    numbers = {name.lower(): getattr(proposal, name) for name in AMOUNTS}
    return {
        "symbol": proposal.symbol,
        "action": proposal.action.value,
        "kill_score": proposal.kill_score_text,
        "computed_at": proposal.computed_at_text,
        "reason_codes": proposal.reason_codes[:400],
        "source": proposal.source[:80],
        **numbers,
    }


def _origin_fields(origin: Origin) -> dict[str, str]:
    return {
        "way": origin.way,
        "actor": origin.actor[:80],
        "why": origin.why[:400],
        "client": origin.client,
        "idempotency_key": origin.idempotency_key,
        "body_digest": origin.body_digest,
    }


def _told(proposal: Proposal) -> dict[str, str]:
    return {
        "symbol": proposal.symbol,
        "harvest_action": proposal.action.value,
        "kill_score": proposal.kill_score_text,
        "computed_at_utc": proposal.computed_at_text,
        "reason_codes": proposal.reason_codes,
        "source": proposal.source,
        **{name: str(getattr(proposal, name)) for name in AMOUNTS if getattr(proposal, name) is not None},
    }
