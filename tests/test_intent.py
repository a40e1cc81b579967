"""The intent: one transaction between a spent pair and an order. Anything wrong, and nothing is written."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from msgspec.structs import replace

from apply.acting import intent
from apply.models import Order, Plan
from apply.plans import transitions
from permits.models import Hold, TradingState
from positions.models import SymbolLock
from quantum import clock, rows
from quantum.models import AuditEvent
from quantum.plan import ExitPlan
from tests.house import House
from tests.orders_by_hand import SIZE, activate, intend, pair_for, recorded, state_of

pytestmark = pytest.mark.usefixtures("db", "keys")


def nothing_was_written(state: str = "open") -> None:
    assert not Order.objects.exists()
    assert not SymbolLock.objects.exists()
    assert not AuditEvent.objects.filter(kind="order_intended").exists()
    assert set(Plan.objects.values_list("state", flat=True)) == {state}


def test_the_intent_is_plan_lock_order_and_event_with_both_permits_in_full() -> None:
    activate()
    plan = recorded()
    made = intend(plan)
    assert isinstance(made, Order)
    order, pair = Order.objects.get(), pair_for(plan)
    assert state_of(plan) == "intended"
    assert (order.client_order_id, order.side, str(order.quantity)) == (
        f"q-{plan.plan_id}-25",
        "SELL",
        "0.25",
    )
    assert order.governor_permit.encode()[:40] == pair.governor.raw[:40]
    assert '"sig":"' in order.governor_permit
    assert '"sig":"' in order.p33_permit
    assert SymbolLock.objects.get().plan_id == plan.plan_id
    assert AuditEvent.objects.get(kind="order_intended").plan_id == plan.plan_id


def test_a_second_intent_for_a_plan_is_a_duplicate() -> None:
    activate()
    plan = recorded()
    intend(plan)
    SymbolLock.objects.all().delete()
    assert intend(plan) == "duplicate"
    assert Order.objects.count() == 1


@pytest.mark.parametrize("end", ["expired", "spent_unsent", "blocked"])
def test_a_plan_that_ended_meanwhile_gets_no_order(end: str) -> None:
    """The janitor ended it while the pair was being spent: no order row stands in the way, only its state."""
    activate()
    plan = recorded()
    transitions.move(plan.plan_id, come_from=(Plan.State.OPEN,), to=Plan.State(end), actor="janitor")
    assert intend(plan) == "duplicate"
    nothing_was_written(state=end)


def test_a_second_order_row_for_a_plan_is_impossible() -> None:
    """The last guard, whatever the states say: the row's own uniqueness."""
    activate()
    plan = recorded()
    intend(plan)
    first = Order.objects.get()
    second = Order(
        **{f.attname: getattr(first, f.attname) for f in Order._meta.concrete_fields if f.name != "id"}
    )
    second.client_order_id = "q-another"
    with pytest.raises(IntegrityError), transaction.atomic():
        rows.insert(second)


def test_a_locked_symbol_gets_no_second_order() -> None:
    activate()
    intend(recorded())
    second = recorded()
    assert intend(second) == "symbol_locked"
    assert state_of(second) == "open", "the plan's step was not rolled back"
    assert Order.objects.count() == 1


def test_another_symbol_is_not_locked_by_it() -> None:
    activate()
    intend(recorded())
    assert isinstance(intend(recorded(House.make("ETHUSDT"))), Order)


def test_the_lock_is_taken_before_anything_is_read_that_it_guards() -> None:
    """On PostgreSQL the insert waits for a settlement that is being committed; read before it, the amount is old."""
    activate()
    plan = recorded()
    with CaptureQueriesContext(connection) as asked:
        intend(plan)
    at = {
        table: next(place for place, query in enumerate(asked.captured_queries) if table in query["sql"])
        for table in ("positions_symbollock", "positions_balance")
    }
    assert at["positions_symbollock"] < at["positions_balance"]


def test_a_halt_after_the_consume_stops_the_intent() -> None:
    activate()
    plan = recorded()
    TradingState.objects.create(version=2, state=TradingState.State.HALTED, by="op", reason="stop")
    assert intend(plan) == "halted"
    nothing_was_written()


def test_no_trading_state_at_all_is_halted() -> None:
    plan = recorded()
    assert intend(plan) == "halted"
    nothing_was_written()


def test_the_newest_state_decides_not_the_last_written() -> None:
    TradingState.objects.create(version=10, state=TradingState.State.HALTED, by="op", reason="stop")
    TradingState.objects.create(version=9, state=TradingState.State.ACTIVE, by="op", reason="older")
    assert intend(recorded()) == "halted"


def test_a_hold_after_the_consume_stops_the_intent() -> None:
    activate()
    plan = recorded()
    Hold.objects.create(symbol="BTCUSDT", reason="drift", by="op")
    assert intend(plan) == "hold"
    nothing_was_written()


def test_a_lifted_hold_and_a_hold_of_another_symbol_stop_nothing() -> None:
    activate()
    Hold.objects.create(symbol="BTCUSDT", reason="drift", by="op", lifted_at=clock.now())
    Hold.objects.create(symbol="ETHUSDT", reason="drift", by="op")
    assert isinstance(intend(recorded()), Order)


def test_a_consume_that_is_over_two_seconds_old_gets_no_order() -> None:
    activate()
    assert intend(recorded(), consumed_s_ago=2.1) == "spent_unsent"
    nothing_was_written()


def by_operator(plan: ExitPlan, *, hold_id: int | None = None) -> Order | str:
    """The pair as the gate returns it once the operator's signature on one of its permits is verified."""
    pair = pair_for(plan)
    governor = replace(pair.governor, by_operator=True, hold_id=hold_id)
    return intent.make(replace(pair, governor=governor), SIZE, stream_id="1-1", timestamp_ms=clock.now_ms())


def halted(scope: str) -> None:
    TradingState.objects.create(
        version=2, state=TradingState.State.HALTED, scope=scope, by="op", reason="stop"
    )


def test_a_halt_of_automatic_plans_stops_the_intent_of_an_ordinary_pair_only() -> None:
    activate()
    halted("automatic")
    plan = recorded(House.make(source="operator"))
    assert intend(plan) == "halted"
    nothing_was_written()
    assert isinstance(by_operator(plan), Order)
    told = AuditEvent.objects.get(kind="order_intended").data
    assert (told["operator"], told["state"]) == ("test", "HALTED automatic")


@pytest.mark.parametrize("scope", ["everything", "", "Automatic", "some old word", "ACTIVE"])
def test_a_halt_of_any_other_scope_stops_an_operators_pair_too(scope: str) -> None:
    activate()
    halted(scope)
    assert by_operator(recorded()) == "halted"
    nothing_was_written()


def test_without_any_state_an_operators_pair_is_halted_too() -> None:
    assert by_operator(recorded()) == "halted"


def test_the_intent_passes_the_one_hold_an_operators_permit_names() -> None:
    activate()
    hold = Hold.objects.create(symbol="BTCUSDT", reason="drift", by="op")
    plan = recorded()
    assert by_operator(plan) == "hold"
    assert by_operator(plan, hold_id=hold.pk + 1) == "hold"
    nothing_was_written()
    assert isinstance(by_operator(plan, hold_id=hold.pk), Order)


def test_a_hold_that_replaced_the_one_that_was_named_stops_the_intent() -> None:
    activate()
    first = Hold.objects.create(symbol="BTCUSDT", reason="drift", by="op", lifted_at=clock.now())
    Hold.objects.create(symbol="BTCUSDT", reason="drift again", by="op")
    assert by_operator(recorded(), hold_id=first.pk) == "hold"


def test_a_hold_named_by_an_ordinary_permit_stops_the_intent() -> None:
    activate()
    hold = Hold.objects.create(symbol="BTCUSDT", reason="drift", by="op")
    plan = recorded()
    pair = pair_for(plan)
    named = replace(pair, governor=replace(pair.governor, hold_id=hold.pk))
    assert intent.make(named, SIZE, stream_id="1-1", timestamp_ms=clock.now_ms()) == "hold"
