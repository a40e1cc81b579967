"""The resolver's patience: -2013 proves nothing until the exchange itself would refuse the request."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest

from apply.models import Order, Plan
from apply.proving.resolver import RECV_WINDOW_MS, Resolver
from positions.models import SymbolLock
from quantum import clock
from quantum.exchange.reading import ReadFailed
from quantum.exchange.types import OrderState, OrderStatus, Side, Trade
from quantum.redis import Client
from tests.orders_by_hand import intended, trade

pytestmark = pytest.mark.usefixtures("db", "keys")


class Exchange:
    """Answers -2013 to everything until told otherwise; its clock is turned by hand."""

    def __init__(self) -> None:
        self.at_ms = clock.now_ms()
        self.known: OrderState | None = None
        self.trades: list[Trade] = []
        self.silent = False

    def now_ms(self) -> int:
        return self.at_ms

    def order(self, **_: Any) -> OrderState | None:
        if self.silent:
            raise ReadFailed("no answer")
        return self.known

    def order_by_id(self, *, symbol: str, order_id: int) -> OrderState | None:
        return found_order(f"q-{Plan.objects.get().plan_id}-25", order_id=order_id)

    def trades_since(self, **_: Any) -> list[Trade]:
        return self.trades

    def trades_of_order(self, **_: Any) -> list[Trade]:
        return self.trades


def found_order(client_order_id: str, *, order_id: int = 77) -> OrderState:
    return OrderState(
        symbol="BTCUSDT",
        order_id=order_id,
        client_order_id=client_order_id,
        status=OrderStatus.FILLED,
        side=Side.SELL,
        quantity=Decimal("0.25"),
        executed_quantity=Decimal("0.25"),
        average_price=Decimal(50_000),
        reduce_only=True,
        updated_ms=clock.now_ms(),
    )


class Case:
    """One order in flight, and time that a test turns."""

    def __init__(self, redis: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        self.boot_s = clock.boot_s()
        self.order = intended()
        Order.objects.update(intended_at=clock.now() - dt.timedelta(seconds=10))
        self.exchange = Exchange()
        self.exchange.at_ms = self.order.timestamp_ms
        self.resolver = Resolver(reader=self.exchange, client=redis)  # type: ignore[arg-type]
        monkeypatch.setattr(clock, "boot_s", lambda: self.boot_s)

    def ask(self, *, after_s: float = 1.0) -> str:
        self.boot_s += after_s
        self.exchange.at_ms += int(after_s * 1000)
        self.resolver.tick()
        return Plan.objects.get().state


@pytest.fixture
def case(redis: Client, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Case:
    settings.RESOLVER_MARGIN_SEC, settings.RESOLVER_GAP_SEC = Decimal(10), Decimal(5)
    return Case(redis, monkeypatch)


def test_not_found_before_the_margin_proves_nothing(case: Case) -> None:
    """recvWindow 3 s and a margin of 10 s: however often it is asked before, the symbol stays locked."""
    for _ in range(12):
        assert case.ask() == "unknown"
    assert SymbolLock.objects.exists()


def test_after_the_margin_it_takes_two_answers_five_seconds_apart(case: Case) -> None:
    assert case.ask(after_s=RECV_WINDOW_MS / 1000 + 10.1) == "unknown"
    assert case.ask(after_s=4.9) == "unknown"
    assert case.ask() == "not_at_exchange"
    assert not SymbolLock.objects.exists()


def test_a_trade_of_it_contradicts_every_not_found(case: Case) -> None:
    case.exchange.trades = [trade()]
    case.ask(after_s=20)
    assert case.ask(after_s=20) == "unknown"
    assert SymbolLock.objects.exists()


def test_an_exchange_that_cannot_be_asked_decides_nothing(case: Case) -> None:
    case.exchange.silent = True
    for _ in range(5):
        assert case.ask(after_s=20) == "intended"
    assert SymbolLock.objects.exists()


def test_an_order_that_turns_up_is_settled(case: Case) -> None:
    assert case.ask(after_s=20) == "unknown"
    case.exchange.known = found_order(case.order.client_order_id)
    case.exchange.trades = [trade()]
    assert case.ask(after_s=20) == "filled"
    assert not SymbolLock.objects.exists()


def test_a_filled_order_whose_trades_do_not_add_up_stays_locked(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "sleep_s", lambda _s: None)
    case.exchange.known = found_order(case.order.client_order_id)
    case.exchange.trades = [trade(quantity="0.1")]
    assert case.ask(after_s=20) == "intended"
    assert SymbolLock.objects.exists()
