"""The ledger moves by a fill once, and an outcome is settled once, whoever comes with it."""

from __future__ import annotations

import threading
from decimal import Decimal

import pytest
from django.db import connection, transaction

from apply.acting import settle, settlement
from apply.acting.settle import Proof
from apply.models import Order, Plan
from permits.models import Usage
from positions.books import ledger
from positions.books.ledger import SeenTrade
from positions.models import Balance, Fill, LedgerEntry, SymbolLock
from quantum import clock
from quantum.exchange.types import OrderStatus, RefusalKind, Refused
from quantum.models import AuditEvent
from tests.house import wait_for
from tests.orders_by_hand import answer_of, intend, intended, recorded, trade

pytestmark = pytest.mark.usefixtures("db", "keys")


@pytest.fixture
def balance() -> Balance:
    return Balance.objects.create(
        account="main", symbol="BTCUSDT", amount=Decimal(1), moved_ms=1, trades_from_ms=1
    )


NO = Refused(kind=RefusalKind.MARKET, code=-2019, text="no")


def proof_of(order: Order, *, executed: str = "0.25") -> Proof:
    state = answer_of(order, executed=executed)
    return Proof(state, [trade(quantity=executed)] if Decimal(executed) else [])


def test_a_fill_told_twice_moves_the_ledger_once(balance: Balance) -> None:
    seen = [SeenTrade(trade(), "q-x-25")]
    moved = []
    for _ in range(2):
        ledger.store(seen)
        moved.append(ledger.book(seen, kind=LedgerEntry.Kind.EXIT, actor="tests"))
    assert moved == [1, 0]
    balance.refresh_from_db()
    assert balance.amount == Decimal("0.75")
    assert (Fill.objects.count(), LedgerEntry.objects.count()) == (1, 1)


def test_settling_moves_plan_ledger_and_lock_together(balance: Balance) -> None:
    order = intended()
    assert settle.settle(order, proof_of(order), actor="apply")
    balance.refresh_from_db()
    order.refresh_from_db()
    assert (balance.amount, order.executed_quantity) == (Decimal("0.75"), Decimal("0.25"))
    assert Plan.objects.get().state == "filled"
    assert not SymbolLock.objects.exists()


def test_each_trade_of_an_order_finds_the_balance_that_the_one_before_it_left(balance: Balance) -> None:
    order = intended()
    parts = [trade(1, quantity="0.1"), trade(2, quantity="0.15")]
    assert settle.settle(order, Proof(proof_of(order).state, parts), actor="apply")
    balance.refresh_from_db()
    assert balance.amount == Decimal("0.75")
    booked = LedgerEntry.objects.order_by("id").values_list("delta", "balance")
    assert list(booked) == [(Decimal("-0.1"), Decimal("0.9")), (Decimal("-0.15"), Decimal("0.75"))]


def test_an_outcome_is_settled_by_whoever_comes_first_only(balance: Balance) -> None:
    order = intended()
    assert settle.settle(order, proof_of(order), actor="apply")
    assert not settle.settle(order, proof_of(order), actor="resolver")
    assert not settle.not_at_exchange(order, actor="resolver", evidence="-2013")
    assert not settle.refuse(
        order,
        Refused(RefusalKind.REQUEST, -1111, "no"),
        to=Plan.State.REJECTED,
        error="rejected_request",
        actor="apply",
    )
    balance.refresh_from_db()
    assert (balance.amount, Plan.objects.get().state) == (Decimal("0.75"), "filled")


def test_a17_an_answer_that_was_read_late_changes_nothing_of_an_order_that_was_settled_since(
    balance: Balance, capsys: pytest.CaptureFixture[str]
) -> None:
    """Answered NEW, and apply stands still with that in its hand; the resolver finds it filled and settles; apply wakes
    and writes what it read. The end is sealed by then, and a proof bundle would accuse the house of the difference."""
    order = intended()
    held = Order.objects.get(pk=order.pk)
    assert settle.settle(order, proof_of(order), actor="resolver")
    settle.record_reply(held, answer_of(held, status=OrderStatus.NEW, executed="0"))
    row = Order.objects.get(pk=order.pk)
    assert (row.status, row.executed_quantity) == ("FILLED", Decimal("0.25"))
    fills = [ledger.trade_of(fill) for fill in Fill.objects.all()]
    told = settlement.told(row.status, row.executed_quantity, fills)
    assert AuditEvent.objects.get(kind="plan_filled").data["settled"] == told["settled"]
    assert "read after the order had been settled" in capsys.readouterr().err


def test_an_order_that_was_answered_meanwhile_does_not_end_as_never_there(balance: Balance) -> None:
    """The resolver has two -2013 and the row as it was; apply writes the answer, which it held for that long."""
    order = intended()
    read_before = Order.objects.get(pk=order.pk)
    settle.record_reply(order, answer_of(order))
    assert not settle.not_at_exchange(read_before, actor="resolver", evidence="-2013 twice")
    assert (Plan.objects.get().state, SymbolLock.objects.count()) == ("intended", 1)
    assert not Usage.objects.exists()
    assert not AuditEvent.objects.filter(kind="plan_not_at_exchange").exists()
    assert settle.settle(read_before, proof_of(order), actor="resolver")


def test_an_unknown_outcome_keeps_the_symbol_locked(balance: Balance) -> None:
    order = intended()
    assert settle.unknown(order, text="cut", actor="apply")
    assert (Plan.objects.get().state, SymbolLock.objects.count()) == ("unknown", 1)
    assert settle.settle(order, proof_of(order), actor="resolver")
    assert not SymbolLock.objects.exists()


def test_an_order_that_executed_nothing_is_rejected_and_moves_nothing(balance: Balance) -> None:
    order = intended()
    assert settle.settle(order, proof_of(order, executed="0"), actor="apply")
    balance.refresh_from_db()
    assert (balance.amount, Plan.objects.get().state) == (Decimal(1), "rejected")


# ---- what the Governor's limits are charged with


FAILED = ("failed", Decimal(0), Decimal(0))


def used() -> tuple[str, Decimal, Decimal]:
    row = Usage.objects.get()
    return row.kind, row.quantity, row.notional


def test_limits_are_charged_with_the_trades_once(balance: Balance) -> None:
    order = intended()
    settle.settle(order, proof_of(order, executed="0.1"), actor="apply")
    settle.settle(order, proof_of(order, executed="0.1"), actor="resolver")
    assert used() == ("executed", Decimal("0.1"), Decimal(5000))


def test_an_order_that_executed_nothing_is_a_failure(balance: Balance) -> None:
    order = intended()
    settle.settle(order, proof_of(order, executed="0"), actor="apply")
    assert used() == FAILED


def test_a_refused_order_is_a_failure() -> None:
    order = intended()
    settle.refuse(order, NO, to=Plan.State.REJECTED, error="rejected_market", actor="apply")
    assert used() == FAILED


def test_an_order_the_exchange_never_had_is_a_failure() -> None:
    settle.not_at_exchange(intended(), actor="resolver", evidence="-2013 twice")
    assert used() == FAILED


def test_a_position_that_was_flat_already_is_no_failure() -> None:
    """A circuit that opened for it would stop the exits of others."""
    settle.refuse(intended(), NO, to=Plan.State.ALREADY_DONE, error="rejected_conflict", actor="apply")
    assert not Usage.objects.exists()


def test_an_order_of_unknown_fate_charges_nothing_yet() -> None:
    settle.unknown(intended(), text="timeout", actor="apply")
    assert not Usage.objects.exists()


@pytest.mark.parametrize("settles", [True, False])
def test_a_resolver_that_read_the_order_before_it_was_marked_sent_takes_no_mark_away(
    balance: Balance, settles: bool
) -> None:
    """It reads the row, asks the exchange; apply's own wait ends meanwhile and writes when the order left."""
    order = intended()
    read_before = Order.objects.get(pk=order.pk)
    order.sent_at = clock.now()
    settle.unknown(order, text="timeout", actor="apply")
    if settles:
        assert settle.settle(read_before, proof_of(read_before), actor="resolver")
    else:
        settle.unknown(read_before, text="not found yet (-2013)", actor="resolver")
    assert Order.objects.get(pk=order.pk).sent_at == order.sent_at


def has_to_wait() -> bool:
    """Whether somebody stands before a lock of this transaction. SQLite has one writer, and lets nobody so far."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])


def test_an_intent_that_meets_a_settlement_of_its_symbol_sees_the_exit_in_it(
    transactional_db: None, balance: Balance
) -> None:
    """The resolver settles A in one process, while apply commits the intent of B: both of a quarter of one coin."""
    order, other, made = intended(), recorded(), list[Order | str]()

    def intend_other() -> None:
        try:
            made.append(intend(other))
        finally:
            connection.close()

    beside = threading.Thread(target=intend_other)
    with transaction.atomic():
        assert settle.settle(order, proof_of(order), actor="resolver")
        beside.start()
        if connection.vendor == "postgresql":
            wait_for(has_to_wait, what="the intent to meet the lock")
    beside.join(5)
    assert made == ["position_changed"]
    assert not SymbolLock.objects.exists()
