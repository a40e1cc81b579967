"""One plan travels the whole way, with real parts."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

import pytest
from django.conf import settings
from django.core.management import call_command

from permits.models import Permit, TradingState
from permits.state import holds, trading
from positions.models import Balance, SymbolLock
from quantum import clock
from quantum.plan import Action
from tests.house import House, wait_for


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
        "waiting for permits",
        "permitted",
        "order sent",
        "governor granted",
        "p33 granted",
        "permits spent",
        "intent committed",
        "filled",
    ):
        assert step in told, f"{step} is missing in {told}"


def test_an_exit_from_the_command_line_is_told_from_published_to_ended_in_milliseconds(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    house.start()
    capsys.readouterr()
    began_ms = clock.now_ms()
    with pytest.raises(SystemExit) as left:
        call_command("publish_plan", "BTCUSDT", "PARTIAL_75", "--json", "--wait")
    told = json.loads(capsys.readouterr().out)
    assert (left.value.code, told["state"], told["published"]) == (0, "filled", True)
    wait_for(lambda: Permit.objects.filter(fate="spent").count() == 2, what="the permits' rows")

    call_command("plan_show", told["plan_id"], "--json")
    story = json.loads(capsys.readouterr().out)
    lasted_ms = clock.now_ms() - began_ms
    assert (story["plan"]["plan_id"], story["plan"]["action"]) == (told["plan_id"], "PARTIAL_75")
    [order] = [each for each in house.orders() if told["plan_id"] in each["client_id"]]
    assert order["client_id"] == story["order"]["client_order_id"]
    assert {permit["gate"] for permit in story["permits"]} == {"governor", "p33"}
    assert story["fills"] and story["ledger"] and story["audit"]
    marks = story["timeline"]
    steps = {mark["what"]: mark["offset_ms"] for mark in marks}
    way = ("published", "permits spent", "intent committed", "order sent", "order answered", "ended: filled")
    offsets = [steps[step] for step in way]
    assert offsets == sorted(offsets), offsets
    assert [mark["offset_ms"] for mark in marks] == sorted(mark["offset_ms"] for mark in marks)
    assert offsets[0] == 0 < offsets[-1] <= lasted_ms
    at = {mark["what"]: dt.datetime.fromisoformat(mark["at"]) for mark in marks}
    for what, offset_ms in steps.items():
        since = at[what] - at["published"]
        assert offset_ms == pytest.approx(since / dt.timedelta(milliseconds=1), abs=0.001), what


def test_a_short_position_is_closed_by_buying(house: House) -> None:
    house.start()
    plan = house.publish(house.make("ETHUSDT", Action.FULL_CLOSE))
    assert house.ended(plan).state == "filled"
    assert Balance.objects.get(symbol="ETHUSDT").amount == 0


def test_readers_in_redis_see_the_ledger_and_the_position(house: House) -> None:
    house.start()
    plan = house.publish(house.make("BTCUSDT", Action.PARTIAL_75))
    house.ended(plan)
    key = settings.KEYS.ledger("BTCUSDT")
    wait_for(
        lambda: house.redis.hget(key, "last_result_plan_id") == plan.plan_id.encode(), what="the projection"
    )
    told = {name.decode(): value.decode() for name, value in house.redis.hgetall(key).items()}
    assert (told["last_known_amt"], told["last_executed_qty"], told["last_side"]) == ("0.25", "0.75", "SELL")
    snapshot = settings.KEYS.snapshot("BTCUSDT")
    wait_for(
        lambda: house.redis.hget(snapshot, "position_amt") == b"0.25", what="the snapshot after the exit"
    )


def test_a_hand_edit_of_the_ledgers_copy_in_redis_moves_nothing(house: House) -> None:
    house.start()
    house.redis.hset(settings.KEYS.ledger("BTCUSDT"), "last_known_amt", "77")
    row = house.exit("BTCUSDT", Action.PARTIAL_25)
    assert row.state == "filled"
    assert Balance.objects.get(symbol="BTCUSDT").amount == Decimal("0.75")


def test_a_halt_stops_an_exit_that_both_gates_have_allowed(house: House) -> None:
    house.start()
    house.exit()
    trading.change(state=TradingState.State.HALTED, by="tests", reason="somebody pulled the cord")
    wait_for(
        lambda: b"HALTED" in (house.redis.get(settings.KEYS.trading_state) or b""), what="the projection"
    )
    row = house.exit()
    assert row.state == "blocked"
    assert row.error in ("halted", "permit_denied:governor_denied")
    trading.change(state=TradingState.State.ACTIVE, by="tests", reason="it was a false alarm")
    wait_for(
        lambda: b"ACTIVE" in (house.redis.get(settings.KEYS.trading_state) or b""), what="the projection"
    )
    wait_for(lambda: house.exit().state == "filled", what="exits to flow again")


def test_a_hold_on_a_symbol_stops_that_symbol_only(house: House) -> None:
    house.start()
    holds.place(house.redis, symbol="BTCUSDT", by="tests", reason="looks odd")
    held = house.exit("BTCUSDT")
    assert held.error in ("hold", "permit_denied:p33_denied")
    assert house.exit("SOLUSDT").state == "filled"
    holds.lift(house.redis, symbol="BTCUSDT", by="tests", reason="it was fine")
    assert house.exit("BTCUSDT").state == "filled"


def test_an_exit_stamped_by_a_clock_that_was_an_hour_ahead_stops_no_exit(house: House) -> None:
    """The clock was set back: for an hour each exit would have come before the one before it."""
    house.start()
    assert house.exit().state == "filled"
    Balance.objects.update(exit_ms=clock.now_ms() + 3_600_000)
    assert house.exit().state == "filled"
