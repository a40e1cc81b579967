"""Every pair of states: the steps of the table move once and are recorded once, all others are refused."""

from __future__ import annotations

import datetime as dt
import os
from itertools import product

import pytest
from django.conf import settings
from django.db import IntegrityError, transaction

from apply.models import PENDING_STATES, Plan
from apply.plans.transitions import ALLOWED, IllegalTransition, move, move_all
from quantum import clock
from quantum.models import AuditEvent
from tests.house import House
from tests.orders_by_hand import reborn, recorded

State = Plan.State
PAIRS = list(product(State, State))
LEGAL = [(one, other) for one, other in PAIRS if other in ALLOWED.get(one, frozenset())]

pytestmark = pytest.mark.usefixtures("db")


def plan_in(state: Plan.State) -> str:
    plan = recorded(House.make())
    return reborn(plan.plan_id, state=state).plan_id


def events() -> list[str]:
    return list(AuditEvent.objects.exclude(kind="plan_recorded").values_list("kind", flat=True))


@pytest.mark.parametrize(("come_from", "to"), LEGAL)
def test_a_step_of_the_table_is_made_once_with_one_event(come_from: Plan.State, to: Plan.State) -> None:
    plan_id = plan_in(come_from)
    assert move(plan_id, come_from=(come_from,), to=to, actor="tests", error="why") is True
    assert move(plan_id, come_from=(come_from,), to=to, actor="tests") is False
    row = Plan.objects.get()
    assert (row.state, row.error) == (to, "why")
    assert (row.ended_at is None) == (to in PENDING_STATES)
    [event] = AuditEvent.objects.exclude(kind="plan_recorded")
    assert (event.kind, event.actor, event.reason) == (f"plan_{to.value}", "tests", "why")
    assert event.data == {"from": come_from.value, "worker": f"{settings.QUANTUM_HOST}/{os.getpid()}"}
    assert clock.now() - event.at < dt.timedelta(seconds=5)


@pytest.mark.parametrize(("come_from", "to"), [pair for pair in PAIRS if pair not in LEGAL])
def test_any_other_step_is_a_mistake_of_ours_and_changes_nothing(
    come_from: Plan.State, to: Plan.State
) -> None:
    plan_id = plan_in(come_from)
    with pytest.raises(IllegalTransition):
        move(plan_id, come_from=(come_from,), to=to, actor="tests")
    assert Plan.objects.get().state == come_from
    assert events() == []


@pytest.mark.parametrize(("come_from", "to"), LEGAL)
def test_a_plan_that_is_elsewhere_by_now_is_left_there(come_from: Plan.State, to: Plan.State) -> None:
    for elsewhere in State:
        if elsewhere is come_from:
            continue
        plan_id = plan_in(elsewhere)
        assert move(plan_id, come_from=(come_from,), to=to, actor="tests") is False
        assert Plan.objects.get(plan_id=plan_id).state == elsewhere
    assert events() == []


@pytest.mark.parametrize(("come_from", "to"), [pair for pair in PAIRS if pair[0] is not pair[1]])
def test_the_database_knows_the_same_table_whoever_writes(come_from: Plan.State, to: Plan.State) -> None:
    plan_id = plan_in(come_from)
    mine = Plan.objects.filter(plan_id=plan_id)
    if (come_from, to) in LEGAL:
        assert mine.update(state=to) == 1
        return
    with pytest.raises(IntegrityError, match="cannot make this step"), transaction.atomic():
        mine.update(state=to)
    assert Plan.objects.get().state == come_from


def test_many_are_moved_at_once_and_only_from_where_they_should_come() -> None:
    late = [plan_in(State.OPEN) for _ in range(3)]
    other = plan_in(State.INTENDED)
    with transaction.atomic():
        moved = move_all([*late, other], come_from=State.OPEN, to=State.EXPIRED, actor="tests", error="why")
    assert sorted(moved) == sorted(late)
    assert Plan.objects.get(plan_id=other).state == State.INTENDED
    assert events() == ["plan_expired"] * 3


def test_what_has_ended_never_moves_again() -> None:
    assert set(ALLOWED) == set(PENDING_STATES)
