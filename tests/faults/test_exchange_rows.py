"""Faults of the exchange by their number in the list of faults, each through the whole house."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from apply.models import Order, Plan
from positions.models import Balance, Incident, SymbolLock
from quantum.plan import Action
from tests.house import House, wait_for

ORDER: dict[str, Any] = {"next": "order"}


@pytest.mark.parametrize(
    "fault", [{"do": "unknown_503"}, {"do": "html", "status": 502}, {"do": "html", "status": 200}]
)
def test_d6_an_answer_that_is_none_is_an_unknown_fate_until_the_exchange_proves_it(
    house: House, fault: dict[str, Any]
) -> None:
    house.start()
    house.paper.push_scenario(ORDER | fault | {"accepted": True})
    plan = house.publish()
    assert house.ended(plan, within_s=15).state == "filled"
    assert len(house.orders(plan)) == 1


def test_d7_a_fate_that_cannot_even_be_asked_for_stays_unknown_and_locked(house: House) -> None:
    house.start()
    broken = {"do": "reply", "status": 500, "body": {"code": -1000, "msg": "no"}, "times": 1000}
    house.paper.push_scenario(ORDER | {"do": "accept_then_cut"}, {"next": "getOrder"} | broken)
    plan = house.publish()
    wait_for(Plan.objects.filter(plan_id=plan.plan_id, state="unknown").exists, what="the unknown state")
    assert house.exit().gate_reason == "order_in_flight"
    assert SymbolLock.objects.get().plan_id == plan.plan_id
    house.paper.clear_scenario()
    assert house.ended(plan, within_s=20).state == "filled"
    assert len(house.orders(plan)) == 1


def test_d9_a_ban_silences_every_call_until_its_time(house: House) -> None:
    house.start()
    house.paper.push_scenario(ORDER | {"do": "banned", "for_s": 3})
    assert house.exit().error == "rate_limited"
    sent = len(house.orders())
    assert house.exit("SOLUSDT").state != "filled", "it went out under the ban"
    assert len(house.orders()) == sent
    wait_for(lambda: house.exit("SOLUSDT").state == "filled", what="an exit after the ban", within_s=20)


@pytest.mark.parametrize(
    ("code", "error"),
    [(-1008, "rate_limited"), (-1021, "clock_skew"), (-2019, "rejected_market"), (-4061, "rejected_request")],
    ids=["d10_throttled", "d11_clock", "d13_margin", "d13_position_side"],
)
def test_a_refusal_by_its_code_is_final_and_sent_once(house: House, code: int, error: str) -> None:
    house.start()
    house.paper.push_scenario(ORDER | {"do": "refuse", "code": code})
    plan = house.publish()
    row = house.ended(plan)
    assert (row.state, row.error) == ("rejected", error)
    assert len(house.orders(plan)) == 1
    assert Balance.objects.get(symbol="BTCUSDT").amount == 1


def test_d15_a_fill_in_pieces_that_ends_half_way_moves_the_ledger_by_what_was_executed(house: House) -> None:
    house.start()
    house.paper.push_scenario(ORDER | {"do": "partial", "percent": 50, "pieces": 3})
    plan = house.publish(house.make("BTCUSDT", Action.PARTIAL_50))
    assert house.ended(plan).state == "partially_filled"
    assert Order.objects.get(plan_id=plan.plan_id).executed_quantity == Decimal("0.25")
    assert Balance.objects.get(symbol="BTCUSDT").amount == Decimal("0.75")


def test_d16_an_order_that_stays_new_is_settled_when_it_fills(house: House) -> None:
    house.start()
    house.paper.push_scenario(ORDER | {"do": "rest", "after_ms": 3000})
    plan = house.publish()
    wait_for(SymbolLock.objects.filter(plan_id=plan.plan_id).exists, what="the order in flight")
    assert house.exit().state == "blocked"
    assert house.ended(plan, within_s=20).state == "filled"
    assert Balance.objects.get(symbol="BTCUSDT").amount == Decimal("0.75")
    assert len(house.orders(plan)) == 1


def test_d18_a_position_closed_by_hand_in_the_last_moment_is_not_turned_round(house: House) -> None:
    house.start()
    house.paper.push_scenario(ORDER | {"do": "move_first", "amount": "0"})
    plan = house.publish(house.make("SOLUSDT", Action.FULL_CLOSE))
    row = house.ended(plan, within_s=15)
    assert (row.state, row.error) == ("already_done", "rejected_conflict")
    assert house.paper.control("GET", "/paper/position?symbol=SOLUSDT")["amount"] in ("0", "0.00")


def test_d22_hedge_mode_that_is_switched_on_stops_exits_with_its_name(house: House) -> None:
    house.paper.set_hedge_mode(on=True)
    try:
        house.start()
        assert house.exit().gate_reason == "hedge_mode_unsupported"
    finally:
        house.paper.set_hedge_mode(on=False)


def test_d27_a_liquidation_is_an_incident_of_that_name_and_freezes_its_symbol(house: House) -> None:
    house.start()
    house.paper.seize(symbol="SOLUSDT", kind="liquidation")
    wait_for(Incident.objects.filter(symbol="SOLUSDT", cause="liquidation").exists, what="the incident")
    assert house.exit("SOLUSDT").state == "blocked"
    assert house.exit("BTCUSDT").state == "filled"
    assert Incident.objects.count() == 1
