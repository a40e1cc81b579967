"""rows.insert writes what the ORM would have written, column by column, on the database in use."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.db.models import Model
from django.db.transaction import TransactionManagementError

from apply.models import Order, Plan
from positions.models import SymbolLock
from quantum import audit, clock, rows
from quantum.models import AuditEvent
from tests.unguarded import unguarded

pytestmark = pytest.mark.usefixtures("db")
AT = dt.datetime(2026, 11, 21, 4, 5, 6, 789012, dt.UTC)


def plan() -> Plan:
    return Plan(
        plan_id="67e6da21fa9fe506",
        symbol="ＢＴＣ'\"%s",
        action="PARTIAL_25",
        decision="EXECUTE",
        kill_score="0.10",
        timestamp="1764000000.120",
        digest="d" * 64,
        mode="paper",
        account="main",
        created_at=AT,
        expires_at=AT,
        wait_ms=7,
        gov_ttl=-2,
    )


def order() -> Order:
    return Order(
        plan_id="67e6da21fa9fe506",
        step="CLOSE_PARTIAL_25",
        client_order_id="q-67e6da21fa9fe506-25",
        symbol="BTCUSDT",
        side="SELL",
        quantity=Decimal("0.123456789012345678"),
        timestamp_ms=2**53 + 1,
        intended_at=AT,
        consumed_at=AT,
        token="t" * 32,
        governor_permit='{"granted":true}',
        p33_permit='{"allow":true,"safe_close_qty":1E+3}',
        executed_quantity=Decimal("1E+3"),
    )


def event() -> AuditEvent:
    made = audit.event(kind="k", actor="ä", plan_id="p", data={"n": "1.10", "deep": [{"x": None}], "ü": True})
    made.at = AT
    return made


def lock() -> SymbolLock:
    return SymbolLock(account="main", symbol="BTCUSDT", plan_id="67e6da21fa9fe506", since=AT)


MAKERS = [plan, order, event, lock]


def stored(model: type[Model]) -> list[dict[str, Any]]:
    """As the database itself tells it, without Django's conversions; the key is the database's business."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {model._meta.db_table} ORDER BY id")
        names = [column[0] for column in cursor.description]
        found = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return [{name: value for name, value in row.items() if name != "id"} for row in found]


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_a_row_is_stored_as_the_orm_would_store_it(make: Any) -> None:
    model = type(make())
    assert rows.insert(make()) == 1
    ours = stored(model)
    with unguarded():
        model.objects.all().delete()
    make().save(force_insert=True)
    assert ours == stored(model)


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_a_row_is_read_back_with_every_field_it_was_given(make: Any) -> None:
    given = make()
    rows.insert(given)
    [found] = type(given).objects.all()
    for field in given._meta.concrete_fields:
        if field.name != "id":
            assert getattr(found, field.attname) == getattr(given, field.attname), field.name


def test_several_rows_go_in_one_statement(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        assert rows.insert(event(), event(), event()) == 3
    assert AuditEvent.objects.count() == 3


def test_a_conflict_is_skipped_and_counted_only_where_it_was_asked_for() -> None:
    assert rows.insert(plan(), skip_conflicts=True) == 1
    other = plan()
    other.symbol = "OTHER"
    assert rows.insert(other, skip_conflicts=True) == 0
    assert Plan.objects.get().symbol == plan().symbol


def test_defaults_are_filled_in() -> None:
    rows.insert(SymbolLock(account="main", symbol="BTCUSDT", plan_id="p"))
    assert abs((SymbolLock.objects.get().since - clock.now()).total_seconds()) < 5


def test_an_instance_made_by_places_is_the_one_made_by_names() -> None:
    given = {"plan_id": "67e6da21fa9fe506", "symbol": "BTCUSDT", "wait_ms": 7, "created_at": AT}
    made, named = rows.new(Plan, **given), Plan(**given)
    columns = [field.attname for field in Plan._meta.concrete_fields]
    assert [getattr(made, name) for name in columns] == [getattr(named, name) for name in columns]
    assert made._state.adding


def test_no_two_instances_share_a_default_that_can_be_changed() -> None:
    first, second = (rows.new(Order, plan_id="a") for _ in range(2))
    first.commission["BNB"] = "0.1"
    assert second.commission == {}


def test_a_value_without_a_column_is_a_mistake_of_ours() -> None:
    with pytest.raises(TypeError, match="Plan has no column colour"):
        rows.new(Plan, plan_id="67e6da21fa9fe506", colour="red")


def test_a_row_is_read_as_the_orm_reads_it() -> None:
    for made in (plan(), order()):
        made.save()
        read = rows.one(type(made), where={"plan_id": made.plan_id})
        assert read is not None
        orm = type(made)._default_manager.get(plan_id=made.plan_id)
        for field in made._meta.concrete_fields:
            ours, theirs = getattr(read, field.attname), getattr(orm, field.attname)
            assert (ours, type(ours), str(ours)) == (theirs, type(theirs), str(theirs)), field.name


def test_a_row_that_is_not_there_is_none() -> None:
    assert rows.one(Plan, where={"plan_id": "0" * 16}) is None


def test_a_change_meets_only_the_rows_it_names() -> None:
    first, second = plan(), plan()
    second.plan_id = "0" * 16
    for each in (first, second):
        each.save()
    changed = {
        "state": Plan.State.FILLED,
        "ended_at": AT,
        "gate_reason": "%s",
        "would_quantity": Decimal("0.10"),
    }
    stands = {"plan_id": first.plan_id, "state": Plan.State.OPEN}
    with connection.cursor() as cursor:  # straight from open to filled is no step that the database lets pass
        cursor.execute("UPDATE apply_plan SET state = 'intended'")
    assert rows.change(Plan, changed, where=stands) == 0
    assert rows.change(Plan, changed, where=stands | {"state": Plan.State.INTENDED}) == 1
    read = Plan.objects.get(plan_id=first.plan_id)
    assert (read.state, read.ended_at, read.gate_reason, read.would_quantity) == (
        "filled",
        AT,
        "%s",
        Decimal("0.1"),
    )
    assert Plan.objects.get(plan_id=second.plan_id).state == "intended"


def test_what_is_removed_is_what_was_named() -> None:
    for symbol in ("BTCUSDT", "ETHUSDT"):
        SymbolLock.objects.create(account="main", symbol=symbol, plan_id="0" * 16)
    assert rows.remove(SymbolLock, where={"account": "main", "symbol": "BTCUSDT"}) == 1
    assert list(SymbolLock.objects.values_list("symbol", flat=True)) == ["ETHUSDT"]


def test_more_rows_than_one_statement_takes_are_all_written() -> None:
    events = [event() for _ in range(rows.BATCH * 2 + 1)]
    assert rows.insert(*events) == len(events) == AuditEvent.objects.count()


def test_rows_by_their_values_are_what_their_instances_would_have_been() -> None:
    said: dict[str, Any] = {"kind": "k", "actor": "ä", "plan_id": "p", "data": {"n": "1.10"}}
    rows.insert(audit.event(**said))
    assert rows.add(AuditEvent, said, {**said, "plan_id": "q"}) == 2
    by_instance, first, second = (dict(row) for row in AuditEvent.objects.order_by("id").values())
    for row in (by_instance, first, second):
        del row["at"], row["id"]
    assert (first, second) == (by_instance, by_instance | {"plan_id": "q"})


def test_rows_by_their_values_all_name_the_same_columns_and_only_those_there_are() -> None:
    one, other = {"kind": "k", "actor": "a"}, {"actor": "k", "kind": "a"}
    with pytest.raises(TypeError, match="other columns"):
        rows.add(AuditEvent, one, other)
    with pytest.raises(TypeError, match="no column colour"):
        rows.add(AuditEvent, {**one, "colour": "red"})
    assert not AuditEvent.objects.exists()


@pytest.mark.parametrize("amount", ["NaN", "Infinity"])
def test_an_amount_that_is_no_number_is_refused_before_the_database_is_asked(amount: str) -> None:
    wrong = order()
    wrong.quantity = Decimal(amount)
    with pytest.raises(ValidationError):
        rows.insert(wrong)


def test_a_transaction_that_is_broken_takes_nothing_more() -> None:
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(TransactionManagementError):
            rows.insert(event())


def test_statements_are_counted_where_somebody_counts_them(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(2):
        rows.insert(event())
        assert rows.first("SELECT count(*) FROM quantum_auditevent WHERE kind = %s", ["k"]) == (1,)


def test_an_error_of_the_driver_is_one_of_djangos() -> None:
    with transaction.atomic():
        rows.insert(lock())
        with pytest.raises(IntegrityError), transaction.atomic():
            rows.insert(lock())


def test_what_lies_on_a_pile_is_written_in_its_order_when_it_is_sent() -> None:
    pile, made, text = rows.Pile(), plan(), {"gate_reason": "100 %s; DELETE"}
    with transaction.atomic():
        assert rows.insert(made, pile=pile) == 0
        rows.insert(event(), pile=pile)
        rows.change(Plan, text, where={"plan_id": made.plan_id}, pile=pile)
        rows.insert(lock(), skip_conflicts=True, pile=pile)
        rows.remove(SymbolLock, where={"symbol": lock().symbol}, pile=pile)
        pile.send()
        pile.send()  # nothing is sent twice
    assert Plan.objects.get().gate_reason == text["gate_reason"]
    assert (AuditEvent.objects.count(), SymbolLock.objects.count()) == (1, 0)
