"""Stories of an exchange that misbehaves, beside the rows of the list (test_exchange_rows, test_position_rows)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from apply.models import Plan
from positions.models import Balance, SymbolLock
from quantum import clock
from quantum.plan import Action
from tests.house import House, wait_for
from tests.permits_by_hand import P33, lay, permit

ORDER: dict[str, Any] = {"next": "order"}


def test_while_the_fate_is_unknown_the_symbol_is_locked_and_others_are_not(house: House) -> None:
    house.start("p33", "governor", "apply")  # no warden: nobody resolves it
    house.paper.push_scenario(ORDER | {"do": "accept_then_cut"})
    plan = house.publish(house.make("BTCUSDT", Action.PARTIAL_25))
    wait_for(Plan.objects.filter(plan_id=plan.plan_id, state="unknown").exists, what="the unknown state")
    assert SymbolLock.objects.get().plan_id == plan.plan_id
    blocked = house.exit("BTCUSDT")
    assert (blocked.error, blocked.gate_reason) == ("permit_denied:p33_denied", "order_in_flight")
    assert house.exit("SOLUSDT").state == "filled"


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


def test_e23_a_symbol_our_ledger_does_not_know_denies_and_is_not_taken_for_flat(house: House) -> None:
    house.start()
    Balance.objects.filter(symbol="SOLUSDT").delete()
    row = house.exit("SOLUSDT")
    assert (row.error, row.gate_reason) == ("permit_denied:p33_denied", "ledger_missing")
    assert not [order for order in house.orders() if row.plan_id in order["client_id"]]
    assert house.exit("BTCUSDT").state == "filled"
