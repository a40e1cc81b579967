"""A1 to A10 and A17: a process dies (kill -9) or freezes (SIGSTOP) at a named line and another takes over.

At most one order, exactly one result. A11 to A14 are in test_booking_deaths.py, A15, A16 and A18 in
test_running_system.py, test_processes.py and test_handing_over.py.
"""

from __future__ import annotations

import functools
import signal
from decimal import Decimal

import pytest
from django.conf import settings

from apply.acting.executor import RECEIPT_GRACE_MS
from apply.models import Order, Plan
from apply.plans import publish, timeline
from permits.models import Permit
from positions.models import Balance, SymbolLock
from quantum import clock
from quantum.plan import Action, ExitPlan
from tests.house import House, wait_for
from tests.processes_by_hand import frozen

pytestmark = pytest.mark.slow


def died(house: House, plan: ExitPlan, role: str, point: str) -> None:
    """Run one role as a process that kills itself at the point, give it the plan, see it die, start it again."""
    victim = house.spawn_role(role, fault=f"{point}:kill")
    house.publish(plan)
    assert victim.wait(10) == -9, f"it did not die at {point}"
    house.spawn_role(role)


def assert_told_once(house: House, plan: ExitPlan, *, orders: int, executed: str) -> None:
    assert len(house.orders(plan)) == orders
    [result] = house.results(plan)
    assert result["executed"] == executed
    assert not SymbolLock.objects.exists()


def test_a8_death_after_the_intent_and_before_the_send_is_proved_by_the_exchange_and_not_sent(
    house: House,
) -> None:
    house.start("p33", "governor", "warden")
    plan = house.make()
    died(house, plan, "apply", "order_intended")
    row = house.ended(plan, within_s=20)
    assert row.state == "not_at_exchange"
    assert_told_once(house, plan, orders=0, executed="False")
    assert house.exit().state == "filled"


def test_a10_death_after_the_answer_is_recorded_from_the_exchange(house: House) -> None:
    house.start("p33", "governor", "warden")
    plan = house.make("BTCUSDT", Action.PARTIAL_50)
    died(house, plan, "apply", "order_answered")
    assert house.ended(plan, within_s=20).state == "filled"
    assert_told_once(house, plan, orders=1, executed="True")
    assert Balance.objects.get(symbol="BTCUSDT").amount == Decimal("0.5")


def test_a7_death_between_consume_and_intent_sends_nothing_and_says_so(house: House) -> None:
    house.start("p33", "governor", "warden")
    victim = house.spawn_role("apply", fault="pair_spent:kill")
    plan = house.publish()
    assert victim.wait(10) == -9
    receipt = settings.KEYS.receipt(plan.plan_id)
    spent_ms = int(house.redis.hget(receipt, "at") or 0)
    wait_for(
        lambda: clock.now_ms() - spent_ms > RECEIPT_GRACE_MS - 1000, what="nobody to be writing its intent"
    )
    house.spawn_role("apply")
    row = house.ended(plan, within_s=40)
    assert row.state == "spent_unsent"
    assert_told_once(house, plan, orders=0, executed="False")
    assert house.exit().state == "filled"


def test_a6_death_while_waiting_leaves_the_permits_and_the_next_process_goes_on(house: House) -> None:
    house.start("p33", "warden")
    victim = house.spawn_role("apply")
    plan = house.publish()
    wait_for(lambda: house.redis.exists(settings.KEYS.p33_permit(plan.plan_id)), what="the Brain's permit")
    victim.kill()
    victim.wait(5)
    assert house.redis.exists(settings.KEYS.p33_permit(plan.plan_id))
    house.start("governor")
    house.spawn_role("apply")
    assert house.ended(plan, within_s=20).state == "filled"
    assert len(house.orders(plan)) == 1


@pytest.mark.parametrize("gate", ["governor", "p33"])
def test_a4_a_gate_that_dies_after_its_permit_and_before_its_row_records_it_later(
    house: House, gate: str
) -> None:
    others = {"governor", "p33", "apply", "warden"} - {gate}
    house.start(*sorted(others)) if gate == "governor" else house.start("governor", "apply", "warden")
    plan = house.make()
    died(house, plan, gate, f"{gate}_issued")
    assert house.ended(plan, within_s=20).state == "filled"
    wait_for(Permit.objects.filter(plan_id=plan.plan_id, gate=gate).exists, what="the permit's row")
    assert len(house.orders(plan)) == 1


def dead_publisher(house: House, *, point: str) -> Plan:
    """The row of a plan whose publisher died at this point."""
    publisher = house.spawn("propose", "BTCUSDT", "PARTIAL_25", fault=f"{point}:kill")
    assert publisher.wait(10) == -9, f"it did not die at {point}"
    return Plan.objects.get()


def is_finished_by_the_janitor(house: House, row: Plan) -> None:
    wait_for(
        Plan.objects.filter(pk=row.pk, state="filled").exclude(result_id="").exists,
        what="the exit",
        within_s=15,
    )
    assert len([entry for entry in house.orders() if row.plan_id in entry["client_id"]]) == 1
    assert house.redis.xlen(settings.KEYS.plan_stream) == house.redis.xlen(settings.KEYS.result_stream) == 1


def test_a1_a_death_before_the_plan_was_told_leaves_it_recorded_and_it_is_told_later(house: House) -> None:
    """Nobody runs yet: what people see meanwhile is a plan that is recorded and not published."""
    row = dead_publisher(house, point="plan_committed")
    assert (row.state, row.stream_id) == ("open", "")
    assert not house.redis.exists(settings.KEYS.plan_stream)
    assert [mark.what for mark in timeline.Timeline(row, None, [], [], [], []).marks()] == ["plan recorded"]
    house.start("p33", "governor", "apply")
    house.start("warden")  # the janitor tells it at once: nobody may lack what it needs
    is_finished_by_the_janitor(house, row)


def test_a2_a_death_after_the_plan_was_told_tells_it_no_second_time(house: House) -> None:
    house.start()
    row = dead_publisher(house, point="plan_streamed")
    is_finished_by_the_janitor(house, row)
    again = Plan.objects.filter(plan_id=row.plan_id)
    assert again.get().seen_again is None
    [(_, fields)] = house.redis.xrange(settings.KEYS.plan_stream)
    for number in (1, 2):  # whoever tells it once more
        house.redis.xadd(settings.KEYS.plan_stream, fields)
        wait_for(again.filter(seen_again=number).exists, what="the further entry to be counted")
    publish.count_again(row.plan_id, entry_id=again.get().stream_id)
    assert again.get().seen_again == 2, "its own entry, delivered once more, is no further one"
    marks = timeline.of(row.plan_id).marks()  # type: ignore[union-attr]
    assert [mark.detail["seen_again"] for mark in marks if mark.what == "published"] == [2]
    results = [fields[b"plan_id"].decode() for _, fields in house.redis.xrange(settings.KEYS.result_stream)]
    assert results == [row.plan_id]


def test_a3_a_governor_that_dies_before_its_permit_blocks_by_name_and_no_late_permit_orders(
    house: House,
) -> None:
    house.start("p33", "apply", "warden")
    plan = house.make()
    died(house, plan, "governor", "governor_decided")
    row = house.ended(plan)
    assert (row.state, row.error) == ("blocked", "permit_timeout_or_missing:missing_governor")
    left = functools.partial(house.redis.xpending, settings.KEYS.plan_stream, "governor")
    wait_for(lambda: left()["pending"] == 0, what="its entry to be answered after all")
    assert house.exit("SOLUSDT").state == "filled"
    assert_told_once(house, plan, orders=0, executed="False")


def test_a5_a_brain_that_dies_before_its_permit_blocks_by_name_and_denies_the_stale_plan_later(
    house: House,
) -> None:
    house.start("governor", "apply", "warden")
    victim = house.spawn_role("p33", fault="p33_decided:kill")
    plan = house.publish(house.make(timestamp_text=f"{clock.now_s() - 27:.3f}"))
    assert victim.wait(10) == -9
    row = house.ended(plan)
    assert (row.state, row.error) == ("blocked", "permit_timeout_or_missing:missing_p33")
    wait_for(lambda: plan.expiry_s(ttl_s=settings.APPLY_PLAN_TTL_SEC) <= clock.now_s(), what="its end")
    house.spawn_role("p33")
    denied = Permit.objects.filter(plan_id=plan.plan_id, gate="p33", verdict=False, reason="stale_plan")
    wait_for(denied.exists, what="the Brain's late denial")
    assert_told_once(house, plan, orders=0, executed="False")
    assert house.exit().state == "filled"


def test_a9_death_between_the_order_and_its_answer_is_recorded_from_the_exchange(
    house: House, quick: None
) -> None:
    """The exchange has it; the answer is still on its way when its reader dies."""
    house.start("p33", "governor", "warden")
    victim = house.spawn_role("apply")
    house.paper.push_scenario({"next": "order", "do": "latency", "ms": 3000})
    plan = house.publish()
    wait_for(lambda: house.paper.accepted(prefix=f"q-{plan.plan_id}"), what="the exchange to take it")
    assert Order.objects.get().answered_at is None
    victim.kill()
    house.spawn_role("apply")
    assert house.ended(plan, within_s=20).state == "filled"
    assert_told_once(house, plan, orders=1, executed="True")


@pytest.mark.parametrize(
    ("point", "end"), [("order_intended", "not_at_exchange"), ("pair_spent", "spent_unsent")]
)
def test_a17_a_frozen_process_that_wakes_up_late_cannot_fire_and_leaves(
    house: House, quick: None, point: str, end: str
) -> None:
    """SIGSTOP before the send, or before the intent; another has its lease by then, and has ended the plan."""
    house.start("p33", "governor", "warden")
    first = house.spawn_role("apply", fault=f"{point}:stop")
    plan = house.publish(house.make(timestamp_text=f"{clock.now_s() - 20:.3f}"))
    try:
        wait_for(lambda: frozen(first), what=f"apply to freeze at {point}")
        house.spawn_role("apply")
        assert house.ended(plan, within_s=25).state == end
    finally:
        first.send_signal(signal.SIGCONT)
    assert first.wait(10) != 0, "it lost its lease and must not stay"
    assert [order for order in house.orders(plan) if order["verdict"] == "accepted"] == []
    assert_told_once(house, plan, orders=len(house.orders(plan)), executed="False")
    assert house.exit().state == "filled"
