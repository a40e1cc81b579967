"""Approvals: what policy wants a person to see first. Asked once per plan, answered by people, one vote each.

A yes makes a new plan, because the asked one is over by then: same symbol, action and score, a new
time, and its parent named. The Governor knows it again by `is_approved`. This floor does not know how
plans are made or published: apply registers both (register), and `vote` calls them - the row inside
the transaction of the decision, the stream after its commit. A death between the two leaves a plan row
that is on no stream yet, which the janitor publishes like any other: nothing is lost, nothing is made twice.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Protocol

from django.conf import settings
from django.db import IntegrityError, transaction
from msgspec import Struct

from permits.models import Approval, ApprovalVote
from quantum import amounts, audit, clock
from quantum.fault import fault_point
from quantum.plan import ExitPlan

LIFE_S = 3600
"""Long enough for a person who is not at the screen; prices of an hour ago deserve a new question."""
ALONE_DELAY_S = 5
"""Where one person's yes is enough nobody else looks: the pause is for reading the number a second time,
and it keeps a script from asking and approving in one breath."""
ACTOR = "approvals"

State = Approval.State


class VoteRefused(Exception):
    """This vote does not count. One line for a person, with what to do."""


class VoteIncomplete(VoteRefused):
    """Something that the person has to type is missing: asked rightly, it may count."""


class Publisher(Protocol):
    """What apply does for a yes."""

    def record(self, *, approval: Approval, by: str) -> ExitPlan:
        """The new plan and its row, inside the caller's transaction; touches nothing but the database."""

    def publish(self, *, plan: ExitPlan, by: str) -> None:
        """After the commit. Safe to call again; may fail: the row is found by the janitor."""


_publishers: list[Publisher] = []


def register(publisher: Publisher) -> None:
    """From AppConfig.ready()."""
    if _publishers:
        raise ValueError("somebody already publishes what was approved")
    _publishers.append(publisher)


# ---- the Governor's side


def question(*, plan: ExitPlan, rule: str, compared: Mapping[str, Decimal | str]) -> Approval:
    """The unsaved row: the Governor makes it on the path, its recorder parks it beside the denial's row."""
    now = clock.now()
    return Approval(
        asked_plan_id=plan.plan_id,
        symbol=plan.symbol,
        fields=plan.fields(),
        rule=rule[:60],
        compared={
            name: amounts.plain(value) if isinstance(value, Decimal) else value
            for name, value in compared.items()
        },
        asked_at=now,
        expires_at=now + dt.timedelta(seconds=LIFE_S),
    )


def park(asked: Approval) -> Approval:
    """Once per plan, whoever asks how often: an entry that is delivered again finds its question standing.

    A brain that repeats itself asks one question, not one every few seconds: while the same step of the
    symbol waits, that one is answered, and a yes is one exit.
    """
    with transaction.atomic():
        known = Approval.objects.filter(asked_plan_id=asked.asked_plan_id).first() or _same_step(asked)
        if known is not None:
            return known
        try:
            with transaction.atomic():  # two Governors at once: one insert takes, the other reads what stands
                asked.save(force_insert=True)
        except IntegrityError:
            return Approval.objects.get(asked_plan_id=asked.asked_plan_id)
        _tell(asked, kind="approval_asked", actor=ACTOR, reason=asked.rule)
    return asked


def _same_step(asked: Approval) -> Approval | None:
    waiting = Approval.objects.filter(symbol=asked.symbol, state=State.WAITING, expires_at__gt=asked.asked_at)
    return waiting.filter(fields__action=asked.fields["action"]).first()


def ask(*, plan: ExitPlan, rule: str, compared: Mapping[str, Decimal | str]) -> Approval:
    return park(question(plan=plan, rule=rule, compared=compared))


def is_approved(*, plan: ExitPlan) -> bool:
    """Whether people said yes to exactly this plan. One read of the database, asked only where the rule applies."""
    return Approval.objects.filter(
        plan_id=plan.plan_id, plan_digest=plan.digest, state=State.APPROVED
    ).exists()


# ---- the people's side


class Voted(Struct, frozen=True):
    approval: Approval
    yes_votes: int
    needed: int


def waiting() -> list[Approval]:
    """What waits for an answer, oldest first; what waited too long is ended here."""
    expire_overdue()
    return list(Approval.objects.filter(state=State.WAITING).order_by("id"))


def expire_overdue() -> int:
    """Safe to call from anywhere and often; a vote at the same moment wins or loses as a whole."""
    overdue = Approval.objects.filter(state=State.WAITING, expires_at__lte=clock.now())
    return sum(_expire(approval.pk) for approval in overdue.order_by("expires_at"))


def vote(*, approval_id: int, by: str, yes: bool, reason: str, confirm: str = "") -> Voted:
    """One person's answer. A no ends it; APPROVERS_REQUIRED different people's yes makes a new plan."""
    person = _person(by)
    if len(reason.strip()) < audit.REASON_MIN:
        raise VoteIncomplete(f"a reason of at least {audit.REASON_MIN} characters is needed")
    _expire(approval_id)
    with transaction.atomic():
        # The row's lock puts two people in a row: whoever comes second sees the first one's vote.
        approval = Approval.objects.select_for_update().filter(pk=approval_id).first()
        if approval is None:
            raise VoteRefused(f"there is no approval {approval_id}; `approve` without an id lists what waits")
        _check(approval, yes=yes, confirm=confirm)
        _cast(approval, person, yes=yes, reason=reason)
        said_yes = approval.votes.filter(yes=True).count()
        if not yes:
            _end(approval, State.REFUSED, by=person, reason=reason)
        elif said_yes >= settings.APPROVERS_REQUIRED:
            _approve(approval, by=person, reason=reason)
    return Voted(approval=approval, yes_votes=said_yes, needed=settings.APPROVERS_REQUIRED)


def _person(by: str) -> str:
    """One person has one spelling: Alice and alice are not two people."""
    person = by.strip().casefold()[:80]
    if not person:
        raise VoteIncomplete("who are you? a vote without a name does not count")
    return person


def _check(approval: Approval, *, yes: bool, confirm: str) -> None:
    if approval.state != State.WAITING:
        raise VoteRefused(f"approval {approval.pk} is {approval.state} since {approval.decided_at}")
    if approval.expires_at <= clock.now():
        raise VoteRefused(f"approval {approval.pk} waited too long; a new plan asks anew")
    if not yes or settings.APPROVERS_REQUIRED > 1:
        return
    if confirm.strip() != approval.symbol:
        raise VoteIncomplete(f"one yes is enough here, so type the symbol: --confirm {approval.symbol}")
    age_s = (clock.now() - approval.asked_at).total_seconds()
    if age_s < ALONE_DELAY_S:
        raise VoteRefused(
            f"one yes is enough here, so it counts {ALONE_DELAY_S} s after the question at the earliest; "
            f"look at it again and repeat in {ALONE_DELAY_S - age_s:.0f} s"
        )


def _cast(approval: Approval, person: str, *, yes: bool, reason: str) -> None:
    try:
        with transaction.atomic():  # so that a refused vote does not end the outer transaction
            ApprovalVote.objects.create(approval=approval, by=person, yes=yes, reason=reason[:400])
    except IntegrityError:
        raise VoteRefused(f"{person} has already answered approval {approval.pk}") from None
    kind = "approval_yes" if yes else "approval_no"
    _tell(approval, kind=kind, actor=person, reason=reason)


def _approve(approval: Approval, *, by: str, reason: str) -> None:
    if not _publishers:
        raise VoteRefused("nobody here publishes plans; vote where apply is installed")
    [publisher] = _publishers
    plan = publisher.record(approval=approval, by=by)
    approval.plan_id, approval.plan_digest = plan.plan_id, plan.digest
    _end(approval, State.APPROVED, by=by, reason=reason)

    def publish() -> None:
        fault_point("approval_committed")
        publisher.publish(plan=plan, by=by)

    transaction.on_commit(publish)


def _end(approval: Approval, state: Approval.State, *, by: str, reason: str) -> None:
    approval.state, approval.decided_at = state, clock.now()
    approval.save(update_fields=["state", "decided_at", "plan_id", "plan_digest"])
    _tell(approval, kind=f"approval_{state.value}", actor=by, reason=reason)


def _expire(approval_id: int) -> bool:
    with transaction.atomic():
        ended = Approval.objects.filter(
            pk=approval_id, state=State.WAITING, expires_at__lte=clock.now()
        ).update(state=State.EXPIRED, decided_at=clock.now())
        if ended:
            approval = Approval.objects.get(pk=approval_id)
            _tell(approval, kind="approval_expired", actor=ACTOR, reason=f"nobody decided within {LIFE_S} s")
    return bool(ended)


def _tell(approval: Approval, *, kind: str, actor: str, reason: str) -> None:
    audit.record(
        kind=kind,
        actor=actor,
        plan_id=approval.asked_plan_id,
        symbol=approval.symbol,
        reason=reason,
        data={"approval": approval.pk, "rule": approval.rule, "new_plan": approval.plan_id},
    )
