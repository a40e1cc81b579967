"""Another attempt at a plan that ended for want of time: a new plan that names its parent, with new permits.

Only ends that prove that no order of the plan exists and that time alone may mend are tried again; the table is
closed. Each parent has one next attempt at most: the database holds that, whoever asks at once.
"""

from __future__ import annotations

import datetime as dt

from django.conf import settings
from django.db import transaction

from apply.models import Order, Plan
from apply.plans import publish
from apply.plans.publish import TriedAgain
from quantum import audit, clock
from quantum import plan as plans
from quantum.log import log
from quantum.plan import Action, ExitPlan
from quantum.reasons import WORTH_WAITING_FOR, ApplyReason
from quantum.redis import Client, RedisError

State = Plan.State

WAIT_RAN_OUT = frozenset(f"permit_timeout_or_missing:{reason.value}" for reason in WORTH_WAITING_FOR)
BACK_OFF = frozenset({ApplyReason.RATE_LIMITED.value})
MAY_BE_TRIED_AGAIN: dict[str, frozenset[str]] = {
    **{state.value: frozenset() for state in State},
    State.BLOCKED.value: WAIT_RAN_OUT,
    State.REJECTED.value: BACK_OFF,
}
"""State -> the errors of it that time alone may mend. Whatever is not here needs a new decision, or proof."""
SOURCE = "retry"
RULE = "retry-rule"
AFTER_S = 2
"""By rule, the first attempt comes so long after the end, the second twice as long."""
YOUNG_S = 60
BATCH = 50


class NotRetried(Exception):
    """Nothing was made. One line for a person, with what to do."""


def refusal(plan: Plan) -> str:
    """Empty: it may be tried again."""
    if (plan.account, plan.mode) != (settings.ACCOUNT, settings.APPLY_MODE):
        here = f"{settings.APPLY_MODE} {settings.ACCOUNT}"
        return f"plan {plan.plan_id} is of {plan.mode} {plan.account}, and this is {here}."
    if plan.error not in MAY_BE_TRIED_AGAIN[plan.state]:
        what = f"{plan.state} {plan.error}".strip()
        return f"plan {plan.plan_id} is {what}: no wait that ran out, and no back-off. Look at plan_show."
    if Order.objects.filter(plan_id=plan.plan_id).exclude(status="REFUSED", executed_quantity=0).exists():
        return f"plan {plan.plan_id} has an order that may exist; it is never tried again."
    child = Plan.objects.filter(parent=plan.plan_id).values_list("plan_id", flat=True).first()
    return f"plan {plan.plan_id} was tried again already: {child}." if child else ""


def newer(plan: Plan) -> Plan | None:
    """The newest word on the symbol since then."""
    said = Plan.objects.filter(account=plan.account, symbol=plan.symbol, pk__gt=plan.pk)
    return said.order_by("-pk").first()


def retry(client: Client, plan: Plan, *, by: str, reason: str) -> ExitPlan:
    """Raises NotRetried, DatabaseError. A Redis that is down leaves the row to the janitor."""
    child = _next(plan)
    try:
        with transaction.atomic():
            why_not = refusal(plan)
            if why_not:
                raise NotRetried(why_not)
            publish.record_attempt(child, parent=plan, actor=by)
            audit.record(
                kind="plan_retried",
                actor=by,
                plan_id=child.plan_id,
                symbol=child.symbol,
                reason=reason,
                data={"parent": plan.plan_id, "attempt": plan.attempt + 1, "ended": plan.error},
            )
    except TriedAgain:
        raise NotRetried(f"plan {plan.plan_id} was tried again a moment ago.") from None
    log.info(
        f"{plan.symbol}: plan tried again",
        plan=child.plan_id,
        parent=plan.plan_id,
        attempt=plan.attempt + 1,
        by=by,
    )
    try:
        publish.publish(client, child, actor=by)
    except RedisError as error:
        log.warning("attempt not published yet", plan=child.plan_id, error=type(error).__name__)
    return child


def _next(plan: Plan) -> ExitPlan:
    """The same wish at a new time: the parent's own time is past, and its permits are its own."""
    return plans.make(
        symbol=plan.symbol,
        action=Action(plan.action),
        kill_score_text=plan.kill_score,
        timestamp_text=f"{clock.now_s():.3f}",
        mode=settings.APPLY_MODE,
        source=SOURCE,
        reason_codes=plan.reason_codes,
        attempt=plan.attempt + 1,
    )


class RetryByRule:
    """A duty of the warden where APPLY_RETRIES_MAX is above 0. Never past a newer plan of the symbol: who spoke since
    knows more than who spoke before."""

    def __init__(self, *, client: Client) -> None:
        self._client = client

    def tick(self) -> None:
        for plan in self._due():
            try:
                retry(self._client, plan, by=RULE, reason=f"rule: {plan.error}")
            except NotRetried:
                continue  # somebody else did it, or a state moved: both are told where they happen

    def _due(self) -> list[Plan]:
        now = clock.now()
        ended = Plan.objects.filter(
            created_at__gt=now - dt.timedelta(seconds=YOUNG_S),
            account=settings.ACCOUNT,
            state__in=[state for state, errors in MAY_BE_TRIED_AGAIN.items() if errors],
            error__in=WAIT_RAN_OUT | BACK_OFF,
            attempt__lte=settings.APPLY_RETRIES_MAX,
        ).exclude(result_id="")
        return [plan for plan in ended[:BATCH] if self._is_due(plan, now)]

    def _is_due(self, plan: Plan, now: dt.datetime) -> bool:
        if plan.ended_at is None or now < plan.ended_at + dt.timedelta(seconds=AFTER_S * plan.attempt):
            return False
        return newer(plan) is None
