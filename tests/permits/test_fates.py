"""What becomes of each permit in the end: late, duplicate, issued again, swept."""

from __future__ import annotations

import datetime as dt
from typing import Any, cast

import pytest
from django.db import connection

from apply.acting import settle
from apply.acting.executor import Executor
from apply.models import Plan
from apply.plans import publish
from apply.proving.janitor import Janitor
from permits.desk import records
from permits.desk.desk import Issued, NotIssued
from permits.desk.sweep import PermitSweep
from permits.gate.gate import Gate
from permits.gate.outcome import SpentPair
from permits.models import Permit
from quantum import clock
from quantum.plan import ExitPlan
from quantum.redis import Client
from quantum.stream import Entry
from tests.house import House
from tests.orders_by_hand import intended
from tests.permits.conftest import outcome_of
from tests.permits.desk_by_hand import (
    BOTH,
    Fate,
    fates,
    issue,
    issued_both,
    row,
)
from tests.permits_by_hand import GOVERNOR

pytestmark = pytest.mark.django_db


def test_a_spent_plan_gets_no_permit(gate: Gate, redis: Client) -> None:
    plan = issued_both(redis)
    assert isinstance(outcome_of(gate, plan), SpentPair)
    for name in BOTH:
        assert issue(redis, plan, name) == NotIssued(reason="already_consumed")


def test_a_duplicate_is_answered_with_the_permit_that_stands(redis: Client, keys: None) -> None:
    plan = House.make()
    first, second = issue(redis, plan, GOVERNOR), issue(redis, plan, GOVERNOR, verdict=False, reason="mode")
    assert isinstance(first, Issued) and isinstance(second, Issued)
    assert (second.raw, second.fresh) == (first.raw, False)


def test_the_sweep_tells_expired_superseded_and_revoked_apart_and_leaves_the_living(
    redis: Client, keys: None
) -> None:
    plans = {name: House.make() for name in ("expired", "superseded", "renewed", "asked", "young", "live")}
    row(plans["expired"], age_s=100)
    row(plans["superseded"], age_s=200)
    row(plans["superseded"], age_s=180)
    row(plans["renewed"], age_s=200)
    row(plans["renewed"], age_s=100)
    row(plans["asked"], age_s=100, fate_by="nina", fate_reason="no answer came")
    row(plans["young"], age_s=65)  # over, but its outcome may still be on its way into the database
    row(plans["live"], age_s=5)
    assert records.sweep() == 6
    told = {
        name: list(Permit.objects.filter(plan_id=plan.plan_id).order_by("id").values_list("fate", flat=True))
        for name, plan in plans.items()
    }
    assert told == {
        "expired": ["expired"],
        "superseded": ["superseded", "expired"],
        "renewed": ["expired", "expired"],
        "asked": ["revoked"],
        "young": ["live"],
        "live": ["live"],
    }
    ended = Permit.objects.get(plan_id=plans["expired"].plan_id)
    assert ended.fate_at == ended.expires_at
    for name, plan in plans.items():
        history = list(Permit.objects.filter(plan_id=plan.plan_id))
        Permit.objects.filter(plan_id=plan.plan_id).update(fate="live")
        again = [
            records.fate_at(each, now=clock.now(), history=history)
            for each in Permit.objects.filter(plan_id=plan.plan_id).order_by("id")
        ]
        if name != "young":
            assert again == told[name], "what a person is told before the sweep is what it will say"
        else:
            assert again == ["expired"]


def test_what_was_spent_after_all_wins_over_the_sweep(redis: Client, keys: None) -> None:
    plan = House.make()
    made = row(plan, age_s=100)
    records.sweep()
    records.record_spent(plan.plan_id, {GOVERNOR: made.raw.encode()})
    assert fates(plan) == {GOVERNOR: "spent"}
    assert records.sweep() == 0
    assert fates(plan) == {GOVERNOR: "spent"}


def test_the_sweep_asks_the_index_of_the_living(db: None) -> None:
    explain = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
    with connection.cursor() as cursor:
        if connection.vendor != "sqlite":
            cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(explain + records._SWEEP, ("2026-01-01 00:00:00", 5))
        assert "permit_live_by_expiry" in str(cursor.fetchall())


def test_a_backlog_is_worked_off_turn_by_turn(
    redis: Client, keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "SWEEP_BATCH", 2)
    for _ in range(5):
        row(House.make(), age_s=100)
    duty = PermitSweep()
    left = []
    for _ in range(4):
        duty.tick()
        left.append(Permit.objects.filter(fate="live").count())
    assert left == [3, 1, 0, 0]
    row(House.make(), age_s=100)
    duty.tick()
    assert Permit.objects.filter(fate="live").count() == 1, "it looks every ten seconds, not every turn"


def spent_long_ago(redis: Client, gate: Gate) -> ExitPlan:
    """Spent by an attempt that ended there, and recorded by nobody: swept, it would be called expired."""
    plan = issued_both(redis)
    publish.ensure_row(plan, actor="tests", stream_id="1-1")
    assert isinstance(outcome_of(gate, plan), SpentPair)
    over = clock.now() - dt.timedelta(seconds=60)
    Permit.objects.update(expires_at=over)
    Plan.objects.update(expires_at=over, created_at=over)
    assert records.sweep() == 2
    return plan


def test_a_pair_that_was_spent_for_nothing_ends_as_spent(gate: Gate, redis: Client) -> None:
    plan = spent_long_ago(redis, gate)
    Janitor(client=redis).tick()
    assert Plan.objects.get().state == "spent_unsent"
    assert fates(plan) == dict.fromkeys(BOTH, Fate.SPENT)


def test_apply_that_finds_a_pair_spent_for_nothing_records_it(gate: Gate, redis: Client) -> None:
    plan = spent_long_ago(redis, gate)
    executor = Executor(gate=gate, desk=cast("Any", None), rules={}, client=redis, stopping=lambda: True)
    entry = Entry(entry_id="1-1", fields={})
    executor._end_unsent(plan, entry, to=Plan.State.SPENT_UNSENT, error="spent_unsent")
    executor.drain()
    assert fates(plan) == dict.fromkeys(BOTH, Fate.SPENT)


def test_the_pair_of_an_order_of_unknown_fate_is_spent(keys: None) -> None:
    order = intended()
    assert settle.unknown(order, text="no answer", actor="tests")
    Permit.objects.update(expires_at=clock.now() - dt.timedelta(seconds=60))
    assert records.sweep() == 0
    assert set(Permit.objects.values_list("fate", flat=True)) == {Fate.SPENT}
