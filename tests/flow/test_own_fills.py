"""The proof of a fill: by what the user stream told where it did, by a call to the exchange where it did not."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, cast

import pytest
from django.conf import settings
from django.db import OperationalError

from apply.acting import settle, told
from apply.acting.told import Told
from positions.books import ledger
from positions.books.ledger import SeenTrade
from positions.feed.own import OwnFills
from positions.models import Fill, LedgerEntry
from quantum.exchange.binance_reader import BinanceReader
from quantum.exchange.types import OrderState, OrderStatus, Side, Trade
from quantum.redis import Client
from tests.house import House, wait_for

PLAN_ID = "00000000000000a1"
CLIENT_ID = f"q-{PLAN_ID}-100"


def lives(house: House) -> None:
    """The first exit may come before the stream does."""
    wait_for(lambda: house.paper.stream()["lines"], what="the stream to live")
    assert house.exit("SOLUSDT").state == "filled"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Orders whose trades the exchange was asked for."""
    orders: list[int] = []
    really = BinanceReader.trades_of_order

    def trades_of_order(reader: BinanceReader, *, symbol: str, order_id: int) -> list[Trade]:
        orders.append(order_id)
        return really(reader, symbol=symbol, order_id=order_id)

    monkeypatch.setattr(BinanceReader, "trades_of_order", trades_of_order)
    return orders


def test_exits_that_the_stream_told_of_cost_the_exchange_no_second_call(
    house: House, asked: list[int]
) -> None:
    house.start()
    lives(house)
    asked.clear()
    plans = [house.exit(symbol) for symbol in ("ETHUSDT", "BTCUSDT", "SOLUSDT")]
    assert [plan.state for plan in plans] == ["filled"] * 3
    assert len(asked) <= 1  # where the machine lets one wait for more than half a second
    ids = [plan.plan_id for plan in plans]
    assert LedgerEntry.objects.filter(kind=LedgerEntry.Kind.EXIT, plan_id__in=ids).count() == 3


def test_a_fill_that_the_stream_kept_to_itself_is_asked_for(house: House, asked: list[int]) -> None:
    house.start()
    lives(house)
    asked.clear()
    house.paper.pull_stream("drop", times=20)  # whatever it would tell of this order
    try:
        assert house.exit("ETHUSDT").state == "filled"
        assert asked
    finally:
        house.paper.pull_stream("clear")


def trade(trade_id: int, quantity: str, *, order_id: int = 7) -> Trade:
    return Trade(
        trade_id=trade_id,
        order_id=order_id,
        symbol="BTCUSDT",
        side=Side.SELL,
        quantity=Decimal(quantity),
        price=Decimal("100.5"),
        realized_pnl=Decimal("-0.00325"),
        commission=Decimal("0.0402"),
        commission_asset="USDT",
        time_ms=1_700_000_000_123,
    )


def executed(quantity: str) -> OrderState:
    return OrderState(
        symbol="BTCUSDT",
        order_id=7,
        client_order_id=CLIENT_ID,
        status=OrderStatus.FILLED,
        side=Side.SELL,
        quantity=Decimal(quantity),
        executed_quantity=Decimal(quantity),
        average_price=Decimal("100.5"),
        reduce_only=True,
        updated_ms=1_700_000_000_123,
    )


@pytest.mark.django_db
def test_the_trades_that_were_told_are_those_that_the_exchange_would_name(redis: Client) -> None:
    own = OwnFills(redis)
    parts = [trade(2**40 + 1, "0.3"), trade(2**40 + 2, "0.1")]
    for each in parts:
        own.hear(SeenTrade(each, CLIENT_ID))
    own.write()
    found = Told(wakes=redis).trades_of(executed("0.4"))
    assert found is not None
    assert found == parts
    assert not Fill.objects.filter(booked=True).exists()  # stored only: settling books


@pytest.mark.django_db
@pytest.mark.parametrize("quantity", ["0.3", "0.5"])
def test_trades_that_do_not_add_up_prove_nothing(
    redis: Client, quantity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told, "WITHIN_S", 0.05)
    own = OwnFills(redis)
    own.hear(SeenTrade(trade(1, "0.4"), CLIENT_ID))
    own.write()
    assert Told(wakes=redis).trades_of(executed(quantity)) is None


@pytest.mark.django_db
@pytest.mark.parametrize("hint", ["1", "99", "no number", "9" * 30, "-1"])
def test_a_hint_laid_by_a_stranger_moves_no_ledger(
    redis: Client, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 is a stored trade of another order, 99 no trade at all."""
    monkeypatch.setattr(told, "WITHIN_S", 0.05)
    ledger.store([SeenTrade(trade(1, "0.4", order_id=8), "q-00000000000000b2-100")])
    redis.rpush(settings.KEYS.fills_wake(PLAN_ID), hint)
    assert Told(wakes=redis).trades_of(executed("0.4")) is None


class Asked:
    """An exchange that names the trades of the order."""

    def trades_of_order(self, *, symbol: str, order_id: int) -> list[Trade]:
        assert (symbol, order_id) == ("BTCUSDT", 7)
        return [trade(1, "0.4")]


@pytest.mark.django_db
def test_a_database_that_stumbles_over_what_was_told_costs_only_the_shorter_way(
    redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order was answered: its outcome is still proved by the exchange."""

    def stumbles(*_: object) -> list[Trade]:
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr(ledger, "stored", stumbles)
    redis.rpush(settings.KEYS.fills_wake(PLAN_ID), 1)
    proof = settle.gather(cast("Any", Asked()), executed("0.4"), told=Told(wakes=redis))
    assert proof is not None
    assert proof.trades == [trade(1, "0.4")]
