"""D1 to D16 of the list of faults: what an exchange may do to an order. One row, one scenario, one test."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest

from apply.models import Order, Plan
from positions.models import SymbolLock
from quantum.exchange import connect
from quantum.plan import Action
from tests.faults.ends import balance, becomes_unknown, exchange_holds, ledger_agrees, told_once
from tests.house import House, wait_for

PAUSE_S = 2.1
"""As long as d08 and d09 ask for silence."""


def exit_under(house: House, scenario: str) -> Plan:
    """One exit of a quarter of BTC, proved by the exchange although its answer never said so."""
    house.start()
    house.play(scenario)
    plan = house.publish()
    becomes_unknown(plan)
    row = told_once(house, plan, state="filled")
    assert balance("BTCUSDT") == Decimal("0.75")
    ledger_agrees(house)
    return row


def test_d01_cut_after_accept_is_unknown_then_filled_and_never_sent_again(row: House) -> None:
    exit_under(row, "d01_cut_after_accept")


def test_d02_cut_before_accept_is_unknown_then_not_at_the_exchange_and_frees_the_symbol(row: House) -> None:
    row.start()
    row.play("d02_cut_before_accept")
    plan = row.publish()
    becomes_unknown(plan)
    told_once(row, plan, state="not_at_exchange", error="not_at_exchange")
    assert row.paper.accepted(prefix=f"q-{plan.plan_id}") == []
    assert "-2013 twice" in Order.objects.get(plan_id=plan.plan_id).error_text
    assert balance("BTCUSDT") == exchange_holds(row, "BTCUSDT") == 1
    assert row.exit().state == "filled"


def test_d03_an_answer_later_than_the_limit_is_as_good_as_none(
    row: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "HTTP_TIMEOUT_S", 1.0)
    exit_under(row, "d03_answer_too_late")


def test_d04_a_timeout_of_the_exchange_that_executed_is_unknown_then_filled(row: House) -> None:
    exit_under(row, "d04_timeout_and_accepted")


def test_d05_not_found_proves_nothing_while_the_order_may_still_be_taken(row: House) -> None:
    """-2013 for two seconds, and then it is there."""
    exit_under(row, "d05_timeout_accepted_later")


def test_d06_an_answer_that_is_none_is_an_unknown_fate_until_the_exchange_proves_it(row: House) -> None:
    row.start()
    row.play("d06_no_answer_at_all")
    plans = [row.publish(row.make(symbol)) for symbol in row.POSITIONS]
    for plan in plans:
        becomes_unknown(plan)
    for plan in plans:
        told_once(row, plan, state="filled")
    ledger_agrees(row)


def test_d07_a_fate_that_cannot_even_be_asked_for_stays_unknown_and_locked(row: House) -> None:
    row.start()
    row.play("d07_cannot_even_be_asked")
    plan = row.publish()
    becomes_unknown(plan)
    assert row.exit().gate_reason == "order_in_flight"
    assert row.exit("SOLUSDT").state == "filled"
    assert SymbolLock.objects.get().plan_id == plan.plan_id
    assert Plan.objects.get(plan_id=plan.plan_id).state == "unknown"
    assert row.results(plan) == []
    row.paper.clear_scenario()
    told_once(row, plan, state="filled")
    ledger_agrees(row)


def test_d08_a_rate_limit_is_one_attempt_a_silent_client_and_a_time_to_read(row: House) -> None:
    row.start()
    row.play("d08_rate_limited")
    plan = row.publish()
    told_once(row, plan, state="rejected", error="rate_limited")
    told = Order.objects.get(plan_id=plan.plan_id).error_text
    assert "HTTP 429, code -1003" in told
    assert "silent until 20" in told, "when it goes on"
    other = row.publish(row.make("SOLUSDT"))
    told_once(row, other, state="rejected", error="rate_limited", orders=0)
    time.sleep(PAUSE_S)
    assert row.exit("SOLUSDT").state == "filled"
    ledger_agrees(row)


def test_d09_a_ban_silences_every_call_until_its_time(row: House) -> None:
    row.start()
    row.play("d09_banned")
    plan = row.publish()
    told_once(row, plan, state="rejected", error="rate_limited")
    assert "HTTP 418" in Order.objects.get(plan_id=plan.plan_id).error_text
    sent = len(row.orders())
    assert row.exit("SOLUSDT").state != "filled", "it went out under the ban"
    assert len(row.orders()) == sent
    time.sleep(PAUSE_S)
    assert row.exit("SOLUSDT").state == "filled"


def refused(house: House, scenario: str, *wanted: tuple[str, int]) -> None:
    """One attempt each, final with its cause, nothing executed, and the symbol is free."""
    house.start()
    house.play(scenario)
    for symbol, (error, code) in zip([*house.POSITIONS, *house.POSITIONS], wanted, strict=False):
        plan = house.publish(house.make(symbol))
        told_once(house, plan, state="rejected", error=error)
        order = Order.objects.get(plan_id=plan.plan_id)
        assert (order.error_code, order.executed_quantity) == (code, 0)
        assert exchange_holds(house, symbol) == Decimal(house.POSITIONS[symbol])
    ledger_agrees(house)


def test_d10_a_throttled_order_is_surely_not_executed_and_a_new_plan_passes(row: House) -> None:
    refused(row, "d10_throttled", ("rate_limited", -1008))
    assert row.exit().state == "filled"


def test_d11_a_clock_that_is_off_refuses_once_and_is_set_for_the_next_plan(row: House) -> None:
    refused(row, "d11_clock_skew", ("clock_skew", -1021))
    assert row.exit().state == "filled"


def test_d12_reduce_only_refused_with_a_position_is_rejected_and_not_turned_round(row: House) -> None:
    refused(row, "d12_reduce_only_refused", ("rejected_conflict", -2022))
    assert row.exit().state == "filled", "the position was read again and stands"


def test_d13_what_no_second_attempt_can_mend_is_rejected_with_its_cause(row: House) -> None:
    refused(
        row,
        "d13_refused_for_good",
        ("rejected_market", -2019),
        ("rejected_request", -1111),
        ("rejected_request", -4061),
        ("rejected_account", -2015),
    )


def test_d14_a_duplicate_id_is_looked_up_by_that_id_and_no_new_one_is_made(row: House) -> None:
    ended = exit_under(row, "d14_duplicate_id")
    assert [order["client_id"] for order in row.orders()[-1:]] == [f"q-{ended.plan_id}-25"]


def test_d15_a_fill_in_pieces_that_ends_half_way_moves_the_ledger_by_what_was_executed(row: House) -> None:
    row.start()
    row.play("d15_partial_fill")
    plan = row.publish(row.make("BTCUSDT", Action.PARTIAL_50))
    told_once(row, plan, state="partially_filled")
    order = Order.objects.get(plan_id=plan.plan_id)
    assert (order.quantity, order.executed_quantity) == (Decimal("0.5"), Decimal("0.25"))
    [result] = row.results(plan)
    assert (result["safe_qty"], result["executed_qty"]) == ("0.5", "0.25")
    assert balance("BTCUSDT") == Decimal("0.75")
    ledger_agrees(row)


def test_d16_an_order_that_stays_new_keeps_its_symbol_and_is_settled_when_it_fills(row: House) -> None:
    row.start()
    row.play("d16_stays_new")
    plan = row.publish()
    wait_for(SymbolLock.objects.filter(plan_id=plan.plan_id).exists, what="the order in flight")
    wait_for(
        Order.objects.filter(plan_id=plan.plan_id, status="NEW").exists, what="the order to be seen open"
    )
    assert row.exit().gate_reason == "order_in_flight"
    assert balance("BTCUSDT") == 1
    told_once(row, plan, state="filled")
    assert balance("BTCUSDT") == Decimal("0.75")
    ledger_agrees(row)
