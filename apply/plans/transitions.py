"""The plan's life as compare-and-set steps. Each writes its audit event in the same transaction.

The table below is the law twice: for our own code, which is refused before it writes, and for the database, which
refuses whoever comes past our code (triggers.py installs it there).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.db import transaction

from apply.models import PENDING_STATES, Plan
from quantum import audit, clock, rows
from quantum.models import AuditEvent

State = Plan.State

PROVED = frozenset(
    {State.FILLED, State.PARTIALLY_FILLED, State.REJECTED, State.ALREADY_DONE, State.NOT_AT_EXCHANGE}
)
UNSENT = frozenset({State.BLOCKED, State.SKIPPED, State.EXPIRED, State.SPENT_UNSENT})
ALLOWED: dict[str, frozenset[str]] = {
    State.OPEN: frozenset({State.INTENDED, *UNSENT}),
    State.INTENDED: frozenset({State.UNKNOWN, *PROVED}),
    State.UNKNOWN: PROVED,
}
"""Whatever is not a key here has ended, and never moves again."""


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
    told: dict[str, str] | None = None,
    pile: rows.Pile | None = None,
) -> bool:
    """True when this call made the step. Inside a transaction of the caller's, or in one of its own; then without a
    pile, which is the caller's to send. What is `told` stands in the event."""
    _refuse_illegal(come_from, to)
    with transaction.atomic(savepoint=False):
        for state in come_from:  # one after the other, so that the event can say where it came from
            stands = {"plan_id": plan_id, "state": state}
            if rows.change(Plan, {**_fields(to, error), **(changes or {})}, where=stands):
                audit.record(**_event(plan_id, state, to, actor, error, told), pile=pile)
                return True
    return False


def move_all(
    plan_ids: Iterable[str], *, come_from: Plan.State, to: Plan.State, actor: str, error: str
) -> list[str]:
    """Those that this call moved, each with its event. Inside the caller's transaction."""
    _refuse_illegal((come_from,), to)
    mine = Plan.objects.select_for_update().filter(plan_id__in=list(plan_ids), state=come_from)
    moved = list(mine.values_list("plan_id", flat=True))
    Plan.objects.filter(plan_id__in=moved, state=come_from).update(**_fields(to, error))
    events = [audit.event(**_event(plan_id, come_from, to, actor, error)) for plan_id in moved]
    AuditEvent.objects.bulk_create(events)
    return moved


def worker() -> str:
    """Which process made a step: host and pid, for the event."""
    return f"{settings.QUANTUM_HOST}/{os.getpid()}"


def _refuse_illegal(come_from: tuple[Plan.State, ...], to: Plan.State) -> None:
    for state in come_from:
        if to not in ALLOWED.get(state, frozenset()):
            raise IllegalTransition(f"{state} -> {to}")


def _fields(to: Plan.State, error: str) -> dict[str, object]:
    ended = {} if to in PENDING_STATES else {"ended_at": clock.now()}
    return {"state": to, "error": error, **ended}


def _event(
    plan_id: str,
    state: Plan.State,
    to: Plan.State,
    actor: str,
    error: str,
    told: dict[str, str] | None = None,
) -> dict[str, Any]:
    data = {"from": state.value, "worker": worker(), **(told or {})}
    return {
        "kind": f"plan_{to.value}",
        "actor": actor,
        "plan_id": plan_id,
        "reason": error,
        "data": data,
    }
