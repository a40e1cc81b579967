"""What the exchange may do to an order, and what becomes of plan, ledger, lock and result."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from apply.models import Order, Plan
from positions.models import Balance, Fill, SymbolLock
from quantum import clock
from quantum.models import AuditEvent
from quantum.plan import Action
from tests.house import House, wait_for
from tests.permits_by_hand import P33, lay, permit

ORDER: dict[str, Any] = {"next": "order"}


def executed_orders(house: House, plan: Any) -> list[dict[str, Any]]:
    return house.paper.accepted(prefix=f"q-{plan.plan_id}")


@pytest.mark.parametrize(
    "fault",
    [
        {"do": "accept_then_cut"},
        {"do": "html_200", "accepted": True},
        {
            "do": "reply",
            "status": 503,
            "body": {"code": -1000, "msg": "Unknown error, please try again"},
            "accepted": True,
        },
        {"do": "late_accept", "after_ms": 700},
    ],
    ids=["cut_after_accept", "html_with_200", "503_unknown", "minus_1007_then_accepted"],
)
def test_an_order_of_unknown_fate_is_not_sent_again_and_the_exchange_proves_it(
    house: House, fault: dict[str, Any]
) -> None:
    house.start()
    house.paper.push_scenario(ORDER | fault)
    plan = house.publish(house.make("BTCUSDT", Action.PARTIAL_50))
    row = house.ended(plan, within_s=15)
    assert row.state == "filled"
    assert len(house.orders(plan)) == 1, "it was sent again"
    assert AuditEvent.objects.filter(plan_id=plan.plan_id, kind="plan_unknown").count() == 1
    assert Balance.objects.get(symbol="BTCUSDT").amount == Decimal("0.5")
    [result] = house.results(plan)
    assert result["executed"] == "True"
    assert not SymbolLock.objects.exists()


def test_while_the_fate_is_unknown_the_symbol_is_locked_and_others_are_not(house: House) -> None:
    house.start("p33", "governor", "apply")  # no warden: nobody resolves it
    house.paper.push_scenario(ORDER | {"do": "accept_then_cut"})
    plan = house.publish(house.make("BTCUSDT", Action.PARTIAL_25))
    wait_for(Plan.objects.filter(plan_id=plan.plan_id, state="unknown").exists, what="the unknown state")
    assert SymbolLock.objects.get().plan_id == plan.plan_id
    blocked = house.exit("BTCUSDT")
    assert (blocked.error, blocked.gate_reason) == ("permit_denied:p33_denied", "order_in_flight")
    assert house.exit("SOLUSDT").state == "filled"


def test_an_order_that_never_arrived_ends_as_not_at_exchange_and_frees_the_symbol(house: House) -> None:
    house.start()
    house.paper.push_scenario(ORDER | {"do": "cut_before_accept"})
    plan = house.publish()
    row = house.ended(plan, within_s=20)
    assert (row.state, row.error) == ("not_at_exchange", "not_at_exchange")
    assert executed_orders(house, plan) == []
    assert house.exit().state == "filled"


def test_not_found_proves_nothing_before_the_margin_has_passed(house: House) -> None:
    """-2013 at once, and the order executed two seconds later: it must still be found."""
    house.start()
    house.paper.push_scenario(ORDER | {"do": "late_accept", "after_ms": 2500})
    plan = house.publish()
    assert house.ended(plan, within_s=20).state == "filled"
    assert len(executed_orders(house, plan)) == 1


def test_a_partial_fill_is_recorded_and_not_topped_up(house: House) -> None:
    house.start()
    house.paper.push_scenario(ORDER | {"do": "partial", "percent": 50})
    plan = house.publish(house.make("BTCUSDT", Action.PARTIAL_50))
    row = house.ended(plan)
    assert row.state == "partially_filled"
    order = Order.objects.get(plan_id=plan.plan_id)
    assert (order.quantity, order.executed_quantity) == (Decimal("0.5"), Decimal("0.25"))
    assert Balance.objects.get(symbol="BTCUSDT").amount == Decimal("0.75")
    assert len(house.orders(plan)) == 1


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (-1111, "rejected_request"),
        (-2015, "rejected_account"),
        (-4131, "rejected_market"),
        (-1003, "rate_limited"),
    ],
)
def test_a_refused_order_is_final_with_its_reason_and_the_symbol_is_free(
    house: House, code: int, error: str
) -> None:
    house.start()
    status = 429 if code == -1003 else 400
    headers = {"Retry-After": "1"} if status == 429 else {}
    body = {"code": code, "msg": "no"}
    house.paper.push_scenario(ORDER | {"do": "reply", "status": status, "body": body, "headers": headers})
    plan = house.publish()
    row = house.ended(plan)
    assert (row.state, row.error) == ("rejected", error)
    assert not SymbolLock.objects.exists()
    [result] = house.results(plan)
    assert (result["executed"], result["error"]) == ("False", error)


def test_a_conflict_on_a_position_that_is_flat_by_now_is_already_done(house: House) -> None:
    """Closed by hand between the permits and the order: -2022, and the exchange holds nothing any more."""
    house.start("governor", "apply", "warden", "p33")
    house.stop("p33")
    house.paper.set_position(
        symbol="SOLUSDT", amount="0", client_order_id=house.entry_id().replace("entry", "web")
    )
    plan = house.publish(house.make("SOLUSDT", Action.FULL_CLOSE))
    lay(house.redis, plan, p33=permit(plan, P33, safe="120", position="120"))
    row = house.ended(plan)
    assert (row.state, row.error) == ("already_done", "rejected_conflict")


def test_an_entry_of_a_declared_bot_is_booked_and_the_next_exit_passes(house: House) -> None:
    house.start()
    house.paper.set_position(symbol="BTCUSDT", amount="3.000", client_order_id=House.entry_id())
    wait_for(Balance.objects.filter(symbol="BTCUSDT", amount="3").exists, what="the entry to be booked")
    row = house.exit("BTCUSDT", Action.PARTIAL_50)
    assert row.state == "filled", row.gate_reason
    assert Balance.objects.get(symbol="BTCUSDT").amount == Decimal("1.5")


def test_a_trade_of_a_stranger_is_drift_and_denies(house: House) -> None:
    house.start()
    by_hand = house.entry_id().replace("entry", "web")
    house.paper.set_position(symbol="BTCUSDT", amount="3.000", client_order_id=by_hand)
    wait_for(Fill.objects.filter(client_order_id=by_hand, booked=False).exists, what="the trade to be seen")
    row = house.exit("BTCUSDT")
    assert (row.error, row.gate_reason) == ("permit_denied:p33_denied", "reconcile_required_qty_mismatch")
    assert Balance.objects.get(symbol="BTCUSDT").amount == Decimal(1)


def test_positions_that_cannot_be_read_any_more_deny_and_are_not_flat(house: House) -> None:
    house.start()
    body = {"code": -1000, "msg": "x"}
    house.paper.push_scenario(
        {"next": "positionRisk", "do": "reply", "status": 500, "body": body, "times": 1000}
    )
    house.paper.set_position(symbol="SOLUSDT", amount="90.00", client_order_id=House.entry_id())
    Balance.objects.filter(symbol="SOLUSDT").update(moved_ms=clock.now_ms() + 1000)  # newer than any snapshot
    row = house.exit("SOLUSDT", Action.FULL_CLOSE)
    house.paper.clear_scenario()
    assert row.gate_reason != "no_position"
    assert row.state != "filled", "acted on a snapshot that is older than our own record"
