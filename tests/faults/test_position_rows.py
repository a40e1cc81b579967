"""D17 to D28 of the list of faults: what an exchange and its people may do to a position, and to the way there."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings as django_settings

from apply.models import Order, Plan
from permits.models import Permit
from positions.models import Balance, Fill, Incident, SymbolLock
from quantum.plan import Action, ExitPlan
from tests.faults.ends import (
    balance,
    exchange_holds,
    fills_are_the_exchanges_own,
    is_booked,
    ledger_agrees,
    told_once,
)
from tests.faults.unreachable import sending_to, untrusted_server
from tests.house import House, wait_for
from tests.permits_by_hand import GOVERNOR, P33, lay, permit


def denied(house: House, plan: ExitPlan, reason: str) -> dict[str, Any]:
    """By the Brain, with this reason, before anything was sent. Returns the numbers it compared."""
    row = told_once(house, plan, state="blocked", error="permit_denied:p33_denied", orders=0)
    assert row.gate_reason == reason
    found = wait_for(
        lambda: Permit.objects.filter(plan_id=plan.plan_id, gate="p33").first(), what="the denial's row"
    )
    said: dict[str, Any] = json.loads(found.raw, parse_float=Decimal).get("context", {})
    return said


def permitted(house: House, plan: ExitPlan) -> None:
    key = django_settings.KEYS.p33_permit(plan.plan_id)
    wait_for(lambda: house.redis.exists(key), what="the Brain's permit")


def test_d17_a_position_that_changed_after_its_permit_is_left_alone(row: House, settings: Any) -> None:
    """Closed, turned round and halved while the Governor still thinks: each permit speaks of what is gone."""
    settings.APPLY_PERMIT_WAIT_MS = 6000
    row.start("p33", "apply", "warden")
    plans = [row.publish(row.make(symbol, Action.PARTIAL_50)) for symbol in row.POSITIONS]
    for plan in plans:
        permitted(row, plan)
    row.play("d17_position_changed")
    for symbol, amount in {"SOLUSDT": "0", "ETHUSDT": "8", "BTCUSDT": "0.5"}.items():
        is_booked(symbol, amount)
    for plan in plans:
        lay(row.redis, plan, governor=permit(plan, GOVERNOR))
        told_once(row, plan, state="spent_unsent", error="position_changed", orders=0)
    ledger_agrees(row)


def test_d18_a_position_closed_by_hand_in_the_last_moment_is_not_turned_round(row: House) -> None:
    row.start()
    row.play("d18_moved_in_the_last_moment")
    plan = row.publish(row.make("SOLUSDT", Action.FULL_CLOSE))
    told_once(row, plan, state="already_done", error="rejected_conflict")
    assert Order.objects.get(plan_id=plan.plan_id).error_code == -2022
    assert exchange_holds(row, "SOLUSDT") == 0


def test_d19_what_was_read_too_long_ago_is_no_ground_for_a_permit(row: House, settings: Any) -> None:
    settings.P33_STALE_THRESHOLD_SEC = Decimal(1)
    row.start("p33", "apply", "warden")
    row.play("d19_stale_positions")
    time.sleep(1.1)
    plan = row.publish()
    lay(row.redis, plan, governor=permit(plan, GOVERNOR))
    said = denied(row, plan, "stale_exchange_state")
    assert said["age_s"] > said["limit_s"] == 1
    row.paper.clear_scenario()
    row.start("governor")
    wait_for(lambda: row.exit().state == "filled", what="an exit by a fresh read")


def test_d20_what_cannot_be_read_is_not_flat_and_is_not_adopted(row: House) -> None:
    row.play("d20_unreadable_positions")
    row.begin()
    wait_for(lambda: row.redis.exists(django_settings.KEYS.trading_state), what="the state to be armed")
    plan = row.publish(row.make("SOLUSDT", Action.FULL_CLOSE))
    ended = told_once(row, plan, state="blocked", error=row.ended(plan).error, orders=0)
    assert ended.gate_reason in ("no_exchange_snapshot", "inputs_unavailable"), ended.error
    assert not Balance.objects.exists(), "it was taken for flat"
    assert not row.redis.exists(django_settings.KEYS.snapshot("SOLUSDT"))
    row.paper.clear_scenario()
    wait_for(lambda: row.exit("SOLUSDT", Action.FULL_CLOSE).state == "filled", what="an exit by a good read")
    ledger_agrees(row)


def test_d21_a_flat_symbol_is_left_out_of_a_complete_answer_and_is_flat(row: House) -> None:
    row.start("p33", "apply", "warden")
    row.play("d21_flat_symbol_left_out")
    is_booked("SOLUSDT", "0")
    plan = row.publish(row.make("SOLUSDT", Action.FULL_CLOSE))
    lay(row.redis, plan, governor=permit(plan, GOVERNOR))
    said = denied(row, plan, "no_position")
    assert (said["exchange_amt"], said["ledger_amt"]) == (0, 0)
    snapshot = django_settings.KEYS.snapshot("SOLUSDT")
    wait_for(lambda: row.redis.hget(snapshot, "side") == b"FLAT", what="the snapshot to say so")
    assert not Incident.objects.exists()
    ledger_agrees(row)


def test_d22_hedge_mode_that_is_switched_on_stops_exits_with_its_name(row: House) -> None:
    row.play("d22_hedge_mode")
    row.start("p33", "apply", "warden")
    plan = row.publish()
    denied(row, plan, "hedge_mode_unsupported")
    assert balance("BTCUSDT") == 1


def test_d23_changed_filters_are_read_again_and_the_next_quantity_is_rounded_down(row: House) -> None:
    row.start()
    assert row.exit("SOLUSDT").state == "filled"
    row.play("d23_filters_changed")
    plan = row.publish()
    told_once(row, plan, state="rejected", error="rejected_request")
    after = row.publish()
    told_once(row, after, state="filled")
    order = Order.objects.get(plan_id=after.plan_id)
    assert (order.quantity, order.executed_quantity) == (Decimal("0.2"), Decimal("0.2"))
    [result] = row.results(after)
    assert (result["quantity"], result["executed_qty"]) == ("0.2", "0.2")
    ledger_agrees(row)


def test_d24_less_than_a_step_is_refused_by_the_brain_and_again_before_an_order(row: House) -> None:
    row.start("p33", "apply", "warden")
    row.play("d24_below_the_step")
    wait_for(
        Balance.objects.filter(symbol="BTCUSDT", amount=Decimal("0.003")).exists, what="the entry booked"
    )
    plan = row.publish()
    lay(row.redis, plan, governor=permit(plan, GOVERNOR))
    assert denied(row, plan, "below_min_quantity") == {"quantity": 0, "minimum": Decimal("0.001")}
    row.stop("p33")
    plan = row.publish()
    small = permit(plan, P33, safe="0.0005", position="0.003")
    lay(row.redis, plan, governor=permit(plan, GOVERNOR), p33=small)
    told_once(row, plan, state="spent_unsent", error="below_min", orders=0)
    assert balance("BTCUSDT") == Decimal("0.003")


def test_d25_a_stream_that_loses_doubles_and_shuffles_costs_nothing(row: House) -> None:
    """REST is the truth, and a trade id is booked once, whoever told of it and how often."""
    row.start()
    row.play("d25_stream_lost_doubled_disordered")
    plans = []
    for turn in range(2):
        for symbol in row.POSITIONS:
            plans.append(row.publish(row.make(symbol)))
            told_once(row, plans[-1], state="filled")
        amounts = {"BTCUSDT": f"1.{turn}00", "ETHUSDT": f"-8.{turn}00", "SOLUSDT": f"12{turn}.00"}
        for symbol, amount in amounts.items():
            row.paper.set_position(symbol=symbol, amount=amount, client_order_id=House.entry_id())
        for symbol, amount in amounts.items():
            is_booked(symbol, amount)
    row.paper.pull_stream("clear")
    ledger_agrees(row)
    fills_are_the_exchanges_own(row, plans)
    time.sleep(1.5)  # what would become an incident becomes one after a second
    assert not Incident.objects.exists()
    assert not Fill.objects.filter(booked=False).exists()


def test_d26_a_trade_in_the_exchanges_own_app_denies_with_both_numbers_and_freezes(row: House) -> None:
    row.start("p33", "apply", "warden")
    row.play("d26_manual_trade")
    wait_for(Fill.objects.filter(client_order_id__startswith="web_", booked=False).exists, what="the trade")
    plan = row.publish()
    lay(row.redis, plan, governor=permit(plan, GOVERNOR))
    said = denied(row, plan, "reconcile_required_qty_mismatch")
    numbers = [said[name] for name in ("exchange_amt", "ledger_amt", "diff", "tolerance")]
    assert numbers == [3, 1, 2, Decimal("0.03")]
    incident = wait_for(Incident.objects.first, what="the incident")
    assert (incident.symbol, incident.cause, incident.kind) == ("BTCUSDT", "manual_trade", "quantity")
    assert balance("BTCUSDT") == 1, "a stranger's trade moves the position, not the ledger"


def test_d27_liquidation_and_adl_are_incidents_of_that_name_and_freeze_their_symbols(row: House) -> None:
    row.start()
    row.play("d27_liquidation")
    for symbol, cause in {"SOLUSDT": "liquidation", "ETHUSDT": "adl"}.items():
        wait_for(Incident.objects.filter(symbol=symbol, cause=cause).exists, what=f"the incident of {symbol}")
        ended = row.exit(symbol)
        assert (ended.state, ended.gate_reason) == ("blocked", "reconcile_hold_active"), ended.error
        assert balance(symbol) == Decimal(row.POSITIONS[symbol])
    assert row.exit("BTCUSDT").state == "filled"
    assert Incident.objects.count() == 2


def refused_before_it_left(house: House, plan: ExitPlan, *, orders: int = 0) -> Plan:
    ended = told_once(house, plan, state="rejected", error="exchange_unreachable", orders=orders)
    assert not SymbolLock.objects.exists()
    return ended


def test_d28_a_name_a_port_or_a_certificate_that_fails_sends_nothing_and_frees_the_symbol(
    row: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    row.start("p33", "governor", "warden")
    with untrusted_server(tmp_path) as (tls_port, greeted):
        for url, told in (
            ("https://no-such-exchange.invalid/fapi", "NameResolutionError"),
            ("https://127.0.0.1:9/fapi", "NewConnectionError"),
            (f"https://localhost:{tls_port}/fapi", "SSLError"),
        ):
            with sending_to(url, monkeypatch):
                row.start("apply")
                plan = row.publish()
                refused_before_it_left(row, plan)
                row.stop("apply")
            assert told in Order.objects.get(plan_id=plan.plan_id).error_text
        assert greeted.is_set(), "the last one never came as far as the certificate"
    row.start("apply")
    row.play("d28_no_connection")
    told_once(row, row.publish(row.make("SOLUSDT")), state="rejected", error="rate_limited")
    assert row.exit().state == "filled"
    ledger_agrees(row)
