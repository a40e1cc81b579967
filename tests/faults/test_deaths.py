"""A process dies at a named line (kill -9), another takes over: at most one order, exactly one result."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.conf import settings

from apply.models import Plan
from permits.models import Permit
from positions.models import Balance, SymbolLock
from quantum.plan import Action, ExitPlan
from tests.house import House, wait_for

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


def test_death_after_the_intent_and_before_the_send_is_proved_by_the_exchange_and_not_sent(
    house: House,
) -> None:
    house.start("p33", "governor", "warden")
    plan = house.make()
    died(house, plan, "apply", "order_intended")
    row = house.ended(plan, within_s=20)
    assert row.state == "not_at_exchange"
    assert_told_once(house, plan, orders=0, executed="False")
    assert house.exit().state == "filled"


def test_death_after_the_answer_is_recorded_from_the_exchange(house: House) -> None:
    house.start("p33", "governor", "warden")
    plan = house.make("BTCUSDT", Action.PARTIAL_50)
    died(house, plan, "apply", "order_answered")
    assert house.ended(plan, within_s=20).state == "filled"
    assert_told_once(house, plan, orders=1, executed="True")
    assert Balance.objects.get(symbol="BTCUSDT").amount == Decimal("0.5")


@pytest.mark.parametrize("point", ["order_settled", "result_published"])
def test_death_before_or_after_the_result_tells_it_exactly_once(house: House, point: str) -> None:
    house.start("p33", "governor", "warden")
    plan = house.make()
    died(house, plan, "apply", point)
    assert house.ended(plan, within_s=20).state == "filled"
    assert_told_once(house, plan, orders=1, executed="True")


def test_death_between_consume_and_intent_sends_nothing_and_says_so(house: House) -> None:
    house.start("p33", "governor", "warden")
    plan = house.make()
    died(house, plan, "apply", "pair_spent")
    row = house.ended(plan, within_s=40)
    assert row.state == "spent_unsent"
    assert_told_once(house, plan, orders=0, executed="False")
    assert house.exit().state == "filled"


def test_death_while_waiting_leaves_the_permits_and_the_next_process_goes_on(house: House) -> None:
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
def test_a_gate_that_dies_after_its_permit_and_before_its_row_records_it_later(
    house: House, gate: str
) -> None:
    others = {"governor", "p33", "apply", "warden"} - {gate}
    house.start(*sorted(others)) if gate == "governor" else house.start("governor", "apply", "warden")
    plan = house.make()
    died(house, plan, gate, f"{gate}_issued")
    assert house.ended(plan, within_s=20).state == "filled"
    wait_for(Permit.objects.filter(plan_id=plan.plan_id, gate=gate).exists, what="the permit's row")
    assert len(house.orders(plan)) == 1


@pytest.mark.parametrize("point", ["plan_committed", "plan_streamed"])
def test_a_publisher_that_dies_half_way_is_finished_by_the_janitor(house: House, point: str) -> None:
    house.start()
    publisher = house.spawn("propose", "BTCUSDT", "PARTIAL_25", fault=f"{point}:kill")
    assert publisher.wait(10) == -9
    row = Plan.objects.get()
    wait_for(Plan.objects.filter(pk=row.pk, state="filled").exists, what="the exit", within_s=15)
    assert len([entry for entry in house.orders() if row.plan_id in entry["client_id"]]) == 1
    assert house.redis.xlen(settings.KEYS.plan_stream) == 1


def test_a_frozen_sender_that_wakes_up_late_cannot_fire(house: House) -> None:
    """SIGSTOP between intent and send for longer than recvWindow: the exchange refuses the old timestamp."""
    house.start("p33", "governor", "warden")
    frozen = house.spawn_role("apply", fault="order_intended:sleep:4")
    plan = house.publish()
    row = house.ended(plan, within_s=25)
    assert row.state in ("not_at_exchange", "rejected")
    assert [order for order in house.orders(plan) if order["verdict"] == "accepted"] == []
    assert frozen.poll() is None
