"""Break-glass: one act makes a new plan and, signed with the operator's key, the permit of the gate that stands in the
way. Consume, sender and bounds are those of every plan; what the policy's operator rule does not name is not signed.

The permits are laid before the plan is told: under a halt apply gives up at its first look, and at a hold p33's denial
would end the wait. A row that is WAITING or ACTING keeps every other act of its symbol out, so of two people, two tabs
or one form sent twice one makes the plan, and the others are told what became of it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from msgspec import Struct
from msgspec.structs import asdict

from apply.models import BreakGlass, Plan
from apply.operators import decided
from apply.operators.preview import Preview, Stood, Wanted, look
from apply.plans import publish
from permits import operators
from permits.desk import payloads
from permits.operators import Draft, NotSigned, Wish
from quantum import amounts, audit, clock, people
from quantum import plan as plans
from quantum.fault import fault_point
from quantum.log import log
from quantum.plan import Action, ExitPlan
from quantum.redis import Client, RedisError
from quantum.signing import KeyUnusable

REQUEST_LIFE_S = 300
OTHER_ACT_S = 2.0
KILL_SCORE = "1"
SOURCE = "break_glass"
ACTOR = "break_glass"
State = BreakGlass.State


class CannotBreak(Exception):
    """No plan was made. One line for a person, with what to do."""


class Answer(Struct, frozen=True):
    """What came of it: a plan of this act, the plan that had decided the exit before it, or a request that waits."""

    plan_id: str = ""
    before: Plan | None = None
    request: BreakGlass | None = None


def act(
    client: Client, wanted: Wanted, *, stood: Stood, by: str, reason: str, confirm: str, within_s: float
) -> Answer:
    """Raises CannotBreak; Unreadable, RedisError and DatabaseError before anything was signed."""
    expire_overdue()
    shown = look(client, wanted, within_s=within_s)
    found = shown.decided or _decided_since(wanted.symbol, stood)
    if found is not None:
        return Answer(before=found)
    _still_so(shown, stood)
    if shown.second_person:
        return _claim(shown, stood, state=State.WAITING, by=by, reason=reason)
    if confirm != wanted.symbol:
        raise CannotBreak(f"Nothing was signed. To go on, type the symbol: {wanted.symbol}")
    answer = _claim(shown, stood, state=State.ACTING, by=by, reason=reason)
    if answer.request is None:
        return answer
    return _go_on(client, answer.request, shown, stood)


def waiting(symbol: str | None = None) -> list[BreakGlass]:
    """Oldest first; what waited too long is ended here."""
    expire_overdue()
    rows = BreakGlass.objects.filter(account=settings.ACCOUNT, state=State.WAITING).order_by("id")
    return [row for row in rows if symbol in (None, row.symbol)]


def approve(client: Client, *, request_id: int, by: str, reason: str, within_s: float) -> Answer:
    """Another person's yes, on top of exactly what the request stood on. Raises what act does."""
    row = _asked(request_id)
    if people.is_same_person(by, row.asked_by):
        raise CannotBreak(f"{row.asked_by} asked for it: another person has to say yes.")
    stood = stood_on(row)
    shown = look(client, wanted_of(row), within_s=within_s)
    found = shown.decided or _decided_since(row.symbol, stood)
    if found is not None:
        return _answered(row, State.WAITING, found)
    _still_so(shown, stood)
    with transaction.atomic():
        if not _move(row, State.WAITING, State.ACTING, by=by, reason=reason, life_s=settings.PERMIT_TTL_SEC):
            raise CannotBreak(f"Request {row.pk} was decided meanwhile.")
        _tell(row, kind="break_glass_approved", actor=by, reason=reason)
    return _go_on(client, row, shown, stood)


def refuse(*, request_id: int, by: str, reason: str) -> BreakGlass:
    """Anybody's who may break it; of the one who asked, it takes his request back. Raises CannotBreak."""
    row = _asked(request_id)
    with transaction.atomic():
        if not _move(row, State.WAITING, State.REFUSED, by=by, reason=reason):
            raise CannotBreak(f"Request {row.pk} was decided meanwhile.")
        _tell(row, kind="break_glass_refused", actor=by, reason=reason)
    return row


def wanted_of(row: BreakGlass) -> Wanted:
    return Wanted(symbol=row.symbol, action=Action(row.action), gates=tuple(row.gates.split("+")))


def stood_on(row: BreakGlass) -> Stood:
    return Stood.read(row.stands_on)


def expire_overdue() -> None:
    """Requests that nobody answered, and acts whose process died: their permits end with their own life."""
    overdue = BreakGlass.objects.filter(state__in=(State.WAITING, State.ACTING), expires_at__lte=clock.now())
    for row in overdue:
        with transaction.atomic():
            why = "nobody decided in time" if row.state == State.WAITING else "it began and made no plan"
            if _move(row, State(row.state), State.EXPIRED):
                _tell(row, kind="break_glass_expired", actor=ACTOR, reason=why)


def _asked(request_id: int) -> BreakGlass:
    expire_overdue()
    row = BreakGlass.objects.filter(pk=request_id, account=settings.ACCOUNT).first()
    if row is None:
        raise CannotBreak(f"There is no request {request_id}.")
    if row.state != State.WAITING or row.mode != settings.APPLY_MODE:
        raise CannotBreak(f"Request {request_id} is {row.state}; ask anew.")
    return row


def _decided_since(symbol: str, stood: Stood) -> Plan | None:
    return decided.decided(symbol, after_id=stood.last_plan, since=stood.looked_at)


def _answered(row: BreakGlass, state: BreakGlass.State, found: Plan) -> Answer:
    with transaction.atomic():
        if _move(row, state, State.ANSWERED, plan_id=found.plan_id):
            _tell(row, kind="break_glass_answered", actor=ACTOR, reason=row.reason, plan_id=found.plan_id)
    return Answer(before=found)


def _still_so(shown: Preview, stood: Stood) -> None:
    """Against a page that was left open, and a request that was asked for in another situation."""
    if shown.stood.changed_from(stood):
        raise CannotBreak(
            f"{shown.wanted.symbol} is not any more what was shown: {shown.stood.changed_from(stood)}. "
            "Nothing was signed. Look again, then decide."
        )
    if shown.refusal:
        raise CannotBreak(f"{shown.refusal} Nothing was signed.")


# ---- the row


def _claim(shown: Preview, stood: Stood, *, state: BreakGlass.State, by: str, reason: str) -> Answer:
    life_s = REQUEST_LIFE_S if state == State.WAITING else settings.PERMIT_TTL_SEC
    now = clock.now()
    row = BreakGlass(
        account=settings.ACCOUNT,
        mode=settings.APPLY_MODE,
        symbol=shown.wanted.symbol,
        action=shown.wanted.action.value,
        gates="+".join(shown.wanted.gates),
        quantity=shown.quantity,
        stands_on=asdict(stood),
        state=state,
        asked_by=by,
        reason=reason,
        asked_at=now,
        expires_at=now + dt.timedelta(seconds=life_s),
    )
    try:
        with transaction.atomic():
            row.save()
            _tell(row, kind="break_glass_asked", actor=by, reason=reason)
    except IntegrityError:
        return _of_the_other(row, stood)
    return Answer(request=row)


def _of_the_other(mine: BreakGlass, stood: Stood) -> Answer:
    """Somebody was faster by a moment: his outcome is the answer, as soon as there is one."""
    end_s = clock.boot_s() + OTHER_ACT_S
    while True:
        # In this order: an act ends with its plan, so of one that has ended by the first question the second finds it.
        other = BreakGlass.objects.filter(
            account=mine.account, symbol=mine.symbol, state__in=(State.WAITING, State.ACTING)
        ).first()
        found = _decided_since(mine.symbol, stood)
        if found is not None:
            return Answer(before=found)
        if other is None or other.state == State.WAITING or clock.boot_s() >= end_s:
            break
        clock.sleep_s(decided.LOOK_EVERY_S)
    if other is None:
        raise CannotBreak(f"Another act on {mine.symbol} has just ended. Look again, then decide.")
    if other.state == State.ACTING:
        raise CannotBreak(
            f"{other.asked_by} is breaking the glass of {mine.symbol} now. If that died, it ends at "
            f"{other.expires_at:%H:%M:%S} UTC."
        )
    if (other.action, other.gates, other.asked_by) == (mine.action, mine.gates, mine.asked_by):
        return Answer(request=other)
    raise CannotBreak(
        f"Request {other.pk} of {other.asked_by} waits for {mine.symbol}: approve it, or refuse it and ask anew."
    )


def _move(
    row: BreakGlass,
    before: BreakGlass.State,
    after: BreakGlass.State,
    *,
    by: str = "",
    reason: str = "",
    plan_id: str = "",
    life_s: int | None = None,
) -> bool:
    """Compare-and-set. An act that took longer than its life has lost its row, and publishes nothing."""
    said: dict[str, Any] = {"state": after}
    if by:
        said |= {"decided_by": by, "decided_reason": reason[:400], "decided_at": clock.now()}
    if plan_id:
        said |= {"plan_id": plan_id}
    if life_s is not None:
        said |= {"expires_at": clock.now() + dt.timedelta(seconds=life_s)}
    rows = BreakGlass.objects.filter(pk=row.pk, state=before)
    if after != State.EXPIRED:
        rows = rows.filter(expires_at__gt=clock.now())
    if not rows.update(**said):
        return False
    for name, value in said.items():
        setattr(row, name, value)
    return True


def _tell(row: BreakGlass, *, kind: str, actor: str, reason: str, plan_id: str = "", **more: str) -> None:
    data = {
        "request": row.pk,
        "action": row.action,
        "gates": row.gates,
        "most": amounts.plain(Decimal(row.quantity)),
        "stands_on": row.stands_on,
        **more,
    }
    audit.record(kind=kind, actor=actor, symbol=row.symbol, plan_id=plan_id, reason=reason[:400], data=data)


# ---- permits, then the plan


def _go_on(client: Client, row: BreakGlass, shown: Preview, stood: Stood) -> Answer:
    """The row is ours. Between the look and the row another act may have begun and ended: look once more."""
    found = _decided_since(row.symbol, stood)
    if found is not None:
        return _answered(row, State.ACTING, found)
    plan = plans.make(
        symbol=row.symbol,
        action=Action(row.action),
        kill_score_text=KILL_SCORE,
        timestamp_text=f"{shown.line.seen_s:.3f}",
        mode=settings.APPLY_MODE,
        source=SOURCE,
        reason_codes=f"break_glass={row.pk},gates={row.gates}",
    )
    try:
        _sign(client, _drafts(client, row, shown, plan))
    except (CannotBreak, RedisError) as failed:
        _give_up(
            row,
            f"Redis gave no answer ({type(failed).__name__})"
            if isinstance(failed, RedisError)
            else str(failed),
        )
        raise
    fault_point("glass_signed")
    _publish(client, row, shown, plan)
    return Answer(plan_id=plan.plan_id)


def _drafts(client: Client, row: BreakGlass, shown: Preview, plan: ExitPlan) -> list[Draft]:
    """All of them before one is signed: half a pair is of no use."""
    reason = (
        f"{row.reason}; approved by {row.decided_by}: {row.decided_reason}" if row.decided_by else row.reason
    )
    drafts = []
    for gate in shown.wanted.gates:
        wish = Wish(
            gate=gate,
            verdict=True,
            by=row.asked_by,
            reason=reason[:400],
            quantity=shown.quantity,
            through_hold=gate == payloads.P33 and shown.stood.hold_id is not None,
            approved_by=row.decided_by,
        )
        drafted = operators.draft(client, plan_id=plan.plan_id, wish=wish, plan=plan)
        if isinstance(drafted, NotSigned):
            raise CannotBreak(f"Nothing was signed: {drafted.text} ({drafted.reason}).")
        if gate == payloads.P33 and drafted.finding.hold_id != shown.stood.hold_id:
            raise CannotBreak(f"{row.symbol}: another hold stands there by now. Look again, then decide.")
        drafts.append(drafted)
    return drafts


def _sign(client: Client, drafts: Sequence[Draft]) -> None:
    for drafted in drafts:
        try:
            done = operators.sign(client, drafted)
        except KeyUnusable as unusable:
            raise CannotBreak(f"The operator's key cannot be used: {unusable}. See permit_keys.") from None
        if isinstance(done, NotSigned):
            raise CannotBreak(f"{done.text} ({done.reason}). No plan was made of it.")
        fault_point("glass_signed_one")


def _give_up(row: BreakGlass, why: str) -> None:
    with transaction.atomic():
        if _move(row, State.ACTING, State.REFUSED, by=row.decided_by or row.asked_by, reason=why):
            _tell(row, kind="break_glass_refused", actor=ACTOR, reason=why)


def _publish(client: Client, row: BreakGlass, shown: Preview, plan: ExitPlan) -> None:
    with transaction.atomic():
        if not _move(row, State.ACTING, State.ACTED, plan_id=plan.plan_id):
            raise CannotBreak("It took too long: this act has ended, and no plan was made. Look again.")
        publish.record(plan, actor=row.asked_by)
        _tell(
            row,
            kind="break_glass_acted",
            actor=row.asked_by,
            reason=row.reason,
            plan_id=plan.plan_id,
            approved_by=row.decided_by,
            before=amounts.plain(shown.line.exchange),
            after=f"{amounts.plain(shown.after)} at the least",
        )
    fault_point("glass_recorded")
    try:
        publish.publish(client, plan, actor=row.asked_by)
    except RedisError as error:
        # The plan stands with its permits; the janitor publishes it while it is fresh.
        log.warning("break-glass plan not published yet", plan=plan.plan_id, error=type(error).__name__)
