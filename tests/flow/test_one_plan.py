"""One plan travels the whole way, with real parts."""

from __future__ import annotations

from decimal import Decimal

from permits.models import Permit
from positions.models import Balance, SymbolLock
from quantum.plan import Action
from tests.house import House


def test_a_plan_becomes_one_order_a_fill_a_ledger_entry_and_one_result(house: House) -> None:
    house.start()
    plan = house.publish(house.make("BTCUSDT", Action.PARTIAL_75))
    row = house.ended(plan)
    assert row.state == "filled"
    assert len(house.orders(plan)) == 1
    [result] = house.results(plan)
    assert (result["executed"], result["error"], result["executed_qty"]) == ("True", "", "0.75")
    assert Balance.objects.get(symbol="BTCUSDT").amount == Decimal("0.25")
    assert not SymbolLock.objects.exists()
    assert {permit.fate for permit in Permit.objects.filter(plan_id=plan.plan_id)} == {"spent"}


def test_the_story_of_a_plan_has_every_step_with_its_offset(house: House) -> None:
    house.start()
    plan = house.publish()
    house.ended(plan)
    told = [mark["what"] for mark in house.story(plan)["timeline"]]
    for step in (
        "published",
        "governor granted",
        "p33 granted",
        "permits spent",
        "intent committed",
        "filled",
    ):
        assert step in told, f"{step} is missing in {told}"


def test_a_short_position_is_closed_by_buying(house: House) -> None:
    house.start()
    plan = house.publish(house.make("ETHUSDT", Action.FULL_CLOSE))
    assert house.ended(plan).state == "filled"
    assert Balance.objects.get(symbol="ETHUSDT").amount == 0
