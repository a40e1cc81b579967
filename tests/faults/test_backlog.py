"""E17: what waited too long is refused together, with a count, and does not keep a fresh plan waiting."""

from __future__ import annotations

import time

import pytest
from django.conf import settings
from msgspec.structs import replace

from apply.acting import late as late_module
from apply.acting.late import Late
from apply.models import Order, Plan
from apply.plans import publish
from permits.models import Permit
from quantum import clock
from quantum.models import AuditEvent
from quantum.redis import Client, RedisError
from tests.house import House, wait_for
from tests.orders_by_hand import intended, reborn

STALE = 200


def test_e17_a_backlog_of_200_is_refused_quickly_and_a_fresh_plan_passes(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    house.start("p33")  # the others find it waiting
    before = len(house.orders())
    for number in range(STALE):
        stale = house.make(timestamp_text=f"{clock.now_s() - 40 - number:.3f}")
        house.redis.xadd(settings.KEYS.plan_stream, stale.fields())
    fresh = house.publish()
    began = time.monotonic()
    house.start("governor", "apply", "warden")
    assert house.ended(fresh).state == "filled"
    fresh_s = time.monotonic() - began
    late = Plan.objects.filter(state="expired", error="stale_plan").exclude(result_id="")
    wait_for(lambda: late.count() == STALE, what="every stale plan to be told")
    assert fresh_s < 10, f"the fresh plan took {fresh_s:.1f} s"
    assert time.monotonic() - began < 12
    assert len(house.orders()) == before + 1
    assert len(house.orders(fresh)) == 1
    assert house.redis.xlen(settings.KEYS.result_stream) == STALE + 1
    assert AuditEvent.objects.filter(kind="plan_expired", actor="apply").count() == STALE
    told = [line for line in capsys.readouterr().err.splitlines() if "past their life refused" in line]
    counts = [int(line.partition("count=")[2].split()[0]) for line in told]
    assert sum(counts) == STALE
    assert len(told) <= 8, "one line for each batch"
    wait_for(
        lambda: house.redis.xpending(settings.KEYS.plan_stream, "apply")["pending"] == 0, what="all acked"
    )


@pytest.mark.usefixtures("db", "keys")
def test_among_late_plans_each_gets_the_end_that_is_its_own(redis: Client) -> None:
    """In one batch: never seen, known, told already, spent by a process that died, other content, and in flight."""
    ago = f"{clock.now_s() - 60:.3f}"
    fresh, known, told, spent, flying = (House.make(timestamp_text=ago) for _ in range(5))
    for plan in (known, told, spent, flying):
        publish.ensure_row(plan, actor="tests", stream_id="")
    other = House.make(timestamp_text=ago)
    publish.ensure_row(other, actor="tests", stream_id="")
    Plan.objects.filter(plan_id=other.plan_id).update(digest="0" * 64)
    Plan.objects.filter(plan_id=told.plan_id).update(state="blocked", result_id="7-7", ended_at=clock.now())
    Plan.objects.filter(plan_id=flying.plan_id).update(state="intended")
    redis.hset(settings.KEYS.receipt(spent.plan_id), "token", "of a process that died")
    late, plans = Late(client=redis, actor="apply"), (fresh, known, told, spent, other, flying)
    for number, plan in enumerate(plans):
        late.put(plan, f"9-{number}")
        assert late.holds(f"9-{number}")
    assert late.end_some() == [f"9-{number}" for number in range(len(plans))]
    assert [Plan.objects.get(plan_id=plan.plan_id).state for plan in plans] == [
        *("expired", "expired", "blocked", "spent_unsent", "open", "intended")
    ]
    assert AuditEvent.objects.get(kind="plan_conflict").plan_id == other.plan_id
    assert Plan.objects.get(plan_id=known.plan_id).stream_id == "9-1"
    assert redis.xlen(settings.KEYS.result_stream) == 3
    assert late.end_some() == []
    assert not Permit.objects.exists()


@pytest.mark.usefixtures("db", "keys")
def test_two_contents_under_one_id_in_one_batch_are_one_plan_and_one_conflict(redis: Client) -> None:
    plan = House.make(timestamp_text=f"{clock.now_s() - 60:.3f}")
    late = Late(client=redis, actor="apply")
    for entry_id, each in (("9-1", plan), ("9-2", plan), ("9-3", replace(plan, digest="0" * 64))):
        late.put(each, entry_id)
    assert late.end_some() == ["9-1", "9-2", "9-3"]
    assert Plan.objects.get().digest == plan.digest
    assert AuditEvent.objects.filter(kind="plan_conflict").count() == 1
    assert redis.xlen(settings.KEYS.result_stream) == 1


@pytest.mark.usefixtures("db", "keys")
def test_a_late_entry_of_a_plan_that_filled_tells_what_it_came_to(redis: Client) -> None:
    """Dead before its result, and its entry comes again after the plan's life."""
    plan = House.make(timestamp_text=f"{clock.now_s() - 60:.3f}")
    order = intended(plan)
    reborn(plan.plan_id, state="filled")
    Order.objects.update(executed_quantity=order.quantity)
    late = Late(client=redis, actor="apply")
    late.put(plan, "9-1")
    late.end_some()
    [(_, result)] = redis.xrange(settings.KEYS.result_stream)
    assert (result[b"executed"], result[b"executed_qty"]) == (b"True", b"0.25")


@pytest.mark.usefixtures("db", "keys")
def test_thousands_of_late_plans_do_not_cost_apply_its_lease(
    redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What this consumer had in its hands comes before any turn of its loop: it must be worked off in portions."""
    late, put, left = Late(client=redis, actor="apply"), 3 * late_module.TOGETHER, 0
    for number in range(put):
        late.put(House.make(timestamp_text=f"{clock.now_s() - 60:.3f}"), f"9-{number}")
    monkeypatch.setattr(late_module, "ONE_TURN_S", 0.000_001)
    first = late.end_some()
    assert len(first) == late_module.TOGETHER
    assert not late.holds(first[0])
    left = put - len(first)
    assert Plan.objects.filter(state="expired").count() == put - left
    monkeypatch.setattr(late_module, "ONE_TURN_S", 60)
    assert len(late.end_some()) == left
    assert Plan.objects.filter(state="expired").exclude(result_id="").count() == put


@pytest.mark.usefixtures("db", "keys")
def test_late_plans_are_let_go_while_the_server_is_away_and_come_again(
    redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, plan = Late(client=redis, actor="apply"), House.make(timestamp_text=f"{clock.now_s() - 60:.3f}")

    def away(*_: object, **__: object) -> None:
        raise RedisError("away")

    monkeypatch.setattr(late_module, "end", away)
    monkeypatch.setattr(late_module, "close_old_connections", lambda: None)
    late.put(plan, "9-1")
    assert late.end_some() == []
    assert not late.holds("9-1"), "or it would never be claimed again"
    monkeypatch.undo()
    late.put(plan, "9-1")
    assert late.end_some() == ["9-1"]
    assert Plan.objects.get().state == "expired"
