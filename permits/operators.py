"""An operator as issuer: grants or denies for a gate that policy leaves to people, signed with the operator key."""

from __future__ import annotations

from decimal import Decimal

from django.conf import settings
from msgspec import Struct
from msgspec.structs import replace

from permits.desk import payloads, records
from permits.desk.desk import Desk, Finding, Issued
from permits.desk.peek import Peek, peek
from permits.models import Hold, Permit
from permits.policy import inputs
from permits.policy.operator_rules import Operators
from quantum import amounts, audit, clock, people
from quantum.models import AuditEvent
from quantum.plan import ExitPlan, MalformedPlan, parse
from quantum.redis import Client
from quantum.signing import Signer

LOOKED_THROUGH = 5000
"""Entries of the plan stream. A plan lives 30 s; older ones are not worth a permit."""


class Wish(Struct, frozen=True):
    """What a person wants to sign, and as whom."""

    gate: str
    verdict: bool
    by: str
    reason: str
    quantity: Decimal | None = None
    """Of p33: how much may be closed. Of the Governor: no more than this of what p33 allows; None bounds nothing."""
    through_hold: bool = False
    """Name the hold that freezes the symbol now, and no other, as the one this permit passes."""
    approved_by: str = ""
    """Another person, who said yes to this very act before."""


class NotSigned(Struct, frozen=True):
    """Nothing was signed. `text` is for the person who asked."""

    reason: str
    text: str


class Signed(Struct, frozen=True):
    raw: bytes
    row: Permit


class Draft(Struct, frozen=True):
    """What would be signed."""

    plan: ExitPlan
    wish: Wish
    finding: Finding
    before: Peek


def draft(client: Client, *, plan_id: str, wish: Wish, plan: ExitPlan | None = None) -> Draft | NotSigned:
    """Every reason why not, before anything is written. A yes here is asked again by the issuing script.

    plan: one that its maker publishes after this permit lies there; else it is looked for in the stream."""
    before = peek(client, plan_id)
    late = _too_late(before, wish.gate)
    if late is not None:
        return late
    plan = plan or find_plan(client, plan_id)
    if plan is None:
        return NotSigned(
            "unknown_plan", f"no plan {plan_id} stands in the stream within its life; propose it again"
        )
    alone = _alone(plan, wish)
    if alone is not None:
        return alone
    refusal = _rule_against(client, plan, wish, before)
    if refusal is not None:
        return NotSigned("not_allowed", refusal)
    hold_id = Hold.objects.filter(symbol=plan.symbol, lifted_at=None).values_list("pk", flat=True).first()
    if wish.through_hold and hold_id is None:
        return NotSigned("no_hold", f"{plan.symbol} is not frozen: there is no hold to pass")
    finding = _finding(client, plan, wish)
    if isinstance(finding, NotSigned):
        return finding
    named = hold_id if wish.through_hold and wish.verdict else None
    return Draft(plan, wish, replace(finding, hold_id=named), before)


def sign(client: Client, drafted: Draft) -> Signed | NotSigned:
    """Asked in the database, issued through the desk, recorded. A death in between leaves who asked and why."""
    plan, wish = drafted.plan, drafted.wish
    kind = "permit_grant" if wish.verdict else "permit_denial"
    who = {"by": wish.by, "reason": wish.reason, "gate": wish.gate}
    records.record_asked(plan.plan_id, [], kind=kind, symbol=plan.symbol, **who)
    alone = _alone(plan, wish)
    if alone is not None:  # both were asked at the same moment: whoever looks second sees both
        audit.record(kind="permit_grant_refused", actor=wish.by, plan_id=plan.plan_id, symbol=plan.symbol,
                     reason=wish.reason, data={"gate": wish.gate, "why": alone.reason})  # fmt: skip
        return alone
    signer = Signer(name=payloads.OPERATOR, directory=settings.PERMIT_KEYS_DIR)
    issuer = f"{payloads.OPERATOR}:{wish.by}@{settings.ACCOUNT}"[:80]
    issued = Desk(gate=wish.gate, signer=signer, client=client, issuer=issuer).issue(plan, drafted.finding)
    if not isinstance(issued, Issued):
        return NotSigned(issued.reason, f"the desk refused: {issued.reason}")
    if not issued.fresh:
        return NotSigned("standing", f"a permit of {wish.gate} stands already; it was left as it is")
    row = records.row_of(issued.raw, gate=wish.gate, plan_id=plan.plan_id, fate=Permit.Fate.LIVE)
    records.record_issued([row])
    return Signed(raw=issued.raw, row=row)


def find_plan(client: Client, plan_id: str) -> ExitPlan | None:
    """The plan as it was published first: what comes later under the same id is a conflict, never executed."""
    oldest_ms = clock.now_ms() - int(settings.APPLY_PLAN_TTL_SEC * 1000) - 5000
    entries = client.xrange(settings.KEYS.plan_stream, min=str(oldest_ms), count=LOOKED_THROUGH)
    for _, fields in entries:
        if fields.get(b"plan_id") != plan_id.encode():
            continue
        try:
            plan = parse(fields)
        except MalformedPlan:
            continue
        alive = Decimal(clock.now_ms()) / 1000 < plan.expiry_s(ttl_s=settings.APPLY_PLAN_TTL_SEC)
        return plan if alive else None
    return None


def _too_late(before: Peek, gate: str) -> NotSigned | None:
    if before.receipt is not None:
        return NotSigned("already_consumed", "the permits of this plan were spent; it gets no other")
    if before.ended:
        return NotSigned("plan_ended", "this plan has its result; a permit would never be looked at")
    if before.revoked:
        return NotSigned("revoked", "a permit of this plan was revoked; propose again as a new plan")
    if before.of(gate) is not None:
        return NotSigned("standing", f"a permit of {gate} stands already; it is left as it is")
    return None


def _alone(plan: ExitPlan, wish: Wish) -> NotSigned | None:
    """Where two people are asked for, one signs for one gate of a plan. What was asked counts, signed or not: it is
    committed before anything is signed, so of two grants at the same moment at least one sees the other."""
    if settings.APPROVERS_REQUIRED < 2 or not wish.verdict or wish.approved_by:
        return None
    for asked in AuditEvent.objects.filter(plan_id=plan.plan_id, kind="permit_grant_asked"):
        other = asked.data.get("gate")
        if other != wish.gate and people.is_same_person(asked.actor, wish.by):
            return NotSigned(
                "second_person",
                f"{asked.actor} signs for {other} of this plan, and two people are asked for (APPROVERS_REQUIRED=2): "
                f"let another person sign for {wish.gate}, or ask for break-glass, which another person approves",
            )
    return None


def _rule_against(client: Client, plan: ExitPlan, wish: Wish, before: Peek) -> str | None:
    """Whether policy leaves this gate and size to a person; the gate asks the same again before it spends.
    To deny is always allowed."""
    if not wish.verdict:
        return None
    # For the Governor's side the size is p33's, where that stands already.
    p33 = before.of(payloads.P33)
    said = p33.permit.quantity if p33 and p33.permit and p33.permit.verdict else None
    quantity = wish.quantity if wish.gate == payloads.P33 else said
    return Operators(client=client).refusal(gates=[wish.gate], symbol=plan.symbol, quantity=quantity)


def _finding(client: Client, plan: ExitPlan, wish: Wish) -> Finding | NotSigned:
    reason = "operator_granted" if wish.verdict else "operator_denied"
    why: dict[str, Decimal | str] = {"by": wish.by, "why": wish.reason}
    if not wish.verdict:
        return Finding(verdict=False, reason=reason, context=why)
    if wish.gate == payloads.GOVERNOR:
        # p33 judges after this, by the position of then: what is bought between must not be closed on this word.
        return Finding(verdict=True, reason=reason, quantity=wish.quantity or Decimal(0), context=why)
    if wish.quantity is None or wish.quantity <= 0:
        return NotSigned("usage", "a permit of p33 says how much may be closed: give a quantity above zero")
    position = _position(client, plan.symbol)
    if position is None:
        return NotSigned("position_unknown", f"no fresh snapshot of {plan.symbol}: its position is unknown")
    if wish.quantity > abs(position):
        return NotSigned(
            "too_large", f"{wish.quantity} is more than the position of {amounts.plain(position)}"
        )
    ledger = _ledger(client, plan.symbol)
    if ledger is None:
        why["ledger"] = "unknown"
    return Finding(
        verdict=True,
        reason=reason,
        quantity=wish.quantity,
        exchange_amt=position,
        ledger_amt=ledger or Decimal(0),
        context=why,
    )


def _position(client: Client, symbol: str) -> Decimal | None:
    """As the feed last told it. Too old, or unreadable, is unknown and not zero (I12)."""
    said = client.hmget(settings.KEYS.snapshot(symbol), "position_amt", "seen_epoch", "ts_epoch")
    position, seen_s, told_s = (amounts.parse((text or b"").decode("ascii", "replace")) for text in said)
    age_s = inputs.age_of(seen_s, told_s)
    return position if age_s is not None and age_s <= settings.P33_STALE_THRESHOLD_SEC else None


def _ledger(client: Client, symbol: str) -> Decimal | None:
    """For the record only. A person may sign although the ledger is unknown; the permit then says so."""
    told = client.hget(settings.KEYS.ledger(symbol), "last_known_amt")
    return amounts.parse(told.decode("ascii", "replace")) if told else None
