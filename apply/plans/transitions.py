"""The plan's life as compare-and-set steps. Each writes its audit event in the same transaction."""

from __future__ import annotations

from django.db import transaction

from apply.models import PENDING_STATES, Plan
from quantum import audit, clock

State = Plan.State

ALLOWED: dict[str, frozenset[str]] = {
    State.OPEN: frozenset(
        {State.INTENDED, State.BLOCKED, State.SKIPPED, State.EXPIRED, State.SPENT_UNSENT, State.REJECTED}
    ),
    State.INTENDED: frozenset(
        {
            State.UNKNOWN,
            State.FILLED,
            State.PARTIALLY_FILLED,
            State.REJECTED,
            State.ALREADY_DONE,
            State.NOT_AT_EXCHANGE,
        }
    ),
    State.UNKNOWN: frozenset(
        {State.FILLED, State.PARTIALLY_FILLED, State.REJECTED, State.ALREADY_DONE, State.NOT_AT_EXCHANGE}
    ),
}


class IllegalTransition(Exception):
    """A step that the table does not know: a mistake in our code, never a matter of data."""


def move(
    plan_id: str,
    *,
    come_from: tuple[Plan.State, ...],
    to: Plan.State,
    actor: str,
    error: str = "",
    changes: dict[str, object] | None = None,
) -> bool:
    """True when this call made the step. Inside a transaction of the caller's, or in one of its own."""
    for state in come_from:
        if to not in ALLOWED.get(state, frozenset()):
            raise IllegalTransition(f"{state} -> {to}")
    fields: dict[str, object] = {"state": to, "error": error, **(changes or {})}
    if to not in PENDING_STATES:
        fields["ended_at"] = clock.now()
    with transaction.atomic(savepoint=False):
        if not Plan.objects.filter(plan_id=plan_id, state__in=come_from).update(**fields):
            return False
        audit.record(kind=f"plan_{to.value}", actor=actor, plan_id=plan_id, reason=error)
    return True
