"""Whether a symbol's exit is decided already, so that a person's own act would be a second order."""

from __future__ import annotations

import datetime as dt

from django.conf import settings
from django.db.models import Q, QuerySet

from apply.models import PENDING_STATES, Plan
from quantum import advice, clock
from quantum.reasons import ApplyReason

State = Plan.State

CLOSED_SOMETHING = (State.FILLED, State.PARTIALLY_FILLED, State.ALREADY_DONE)
JUST_S = 5
"""So long after an exit that closed something, another is more likely a second finger than a second thought."""
OPEN_AFTER_LIFE_S = 5
"""An open plan is refused once its life is over; an intent may follow a consume by 2 s. The janitor waits as long."""
LOOK_EVERY_S = 0.05


def newest_id(symbol: str) -> int:
    return _plans(symbol).values_list("pk", flat=True).first() or 0


def decided(symbol: str, *, after_id: int, since: dt.datetime) -> Plan | None:
    """A plan on its way or of unknown outcome; or one that closed something and that nobody can have seen who looked
    before `since` and saw `after_id` as the newest."""
    alive = clock.now() - dt.timedelta(seconds=OPEN_AFTER_LIFE_S)
    pending = _plans(symbol).filter(state__in=PENDING_STATES).exclude(state=State.OPEN, expires_at__lt=alive)
    just = since - dt.timedelta(seconds=JUST_S)
    closed = _plans(symbol).filter(Q(pk__gt=after_id) | Q(ended_at__gte=just), state__in=CLOSED_SOMETHING)
    return pending.first() or closed.first()


def ended(plan_id: str, *, within_s: float) -> Plan:
    """The plan with its end, or as it stands when the time is over."""
    end_s = clock.boot_s() + within_s
    while True:
        plan = Plan.objects.get(plan_id=plan_id)
        if plan.state not in PENDING_STATES or clock.boot_s() >= end_s:
            return plan
        clock.sleep_s(LOOK_EVERY_S)


def told(plan: Plan) -> str:
    """What became of it, and the next step where it did not close anything."""
    why = plan.gate_reason or plan.error
    head = f"Plan {plan.plan_id} of {plan.symbol}: {plan.state.replace('_', ' ')}"
    if plan.state in CLOSED_SOMETHING:
        return f"{head}."
    if plan.error == ApplyReason.DRY_RUN:
        return f"{head}, as in dry_run nothing is sent."
    if plan.state in PENDING_STATES:
        return f"{head}: it has no end yet. Its page tells what comes."
    found = advice.of(why)
    then = f" It means: {found.means}. Next: {found.next}." if found else " Its page tells more."
    return f"{head}{f', {why}' if why else ''}.{then}"


def _plans(symbol: str) -> QuerySet[Plan]:
    return Plan.objects.filter(account=settings.ACCOUNT, symbol=symbol)
