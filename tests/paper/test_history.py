"""Bookings and candles of the paper exchange, read by the product's reader and by python-binance."""

from __future__ import annotations

import itertools
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from binance.client import Client

from quantum.exchange import binance_reader
from quantum.exchange.paper.process import PaperExchangeProcess
from quantum.exchange.reading import ReadFailed
from quantum.exchange.types import Side
from tests.paper.desk import Desk

MINUTE_MS = 60_000


def binance(exchange: PaperExchangeProcess) -> Any:
    class Binance(Client):  # type: ignore[misc]  # the library ships no types
        FUTURES_URL = exchange.base_url

    return Binance(exchange.keys.trade_key, exchange.keys.trade_secret, ping=False)


def test_the_bookings_are_what_moved_the_wallet_and_their_ids_are_unique_per_kind(desk: Desk) -> None:
    exchange, since_ms = desk.exchange, desk.reader.now_ms()
    before = Decimal(desk.signed("GET", "/fapi/v3/balance")[1][0]["balance"])
    time.sleep(0.002)
    exchange.set_price(symbol="BTCUSDT", price="64100")
    desk.send("BTCUSDT", Side.SELL, "0.5")
    exchange.control("POST", "/paper/funding", {"amount": "-1.25", "symbol": "BTCUSDT"})
    exchange.control("POST", "/paper/transfer", {"amount": "40"})
    found = desk.reader.income(since_ms)
    assert {row.kind for row in found} == {"COMMISSION", "REALIZED_PNL", "FUNDING_FEE", "TRANSFER"}
    by_kind = {row.kind: row for row in found}
    assert by_kind["REALIZED_PNL"].amount == 50
    assert by_kind["COMMISSION"].transaction_id == by_kind["REALIZED_PNL"].transaction_id
    assert (
        by_kind["COMMISSION"].trade_id
        == desk.reader.trades_since(symbol="BTCUSDT", since_ms=since_ms)[-1].trade_id
    )
    assert (by_kind["TRANSFER"].symbol, by_kind["FUNDING_FEE"].symbol) == ("", "BTCUSDT")
    after = Decimal(desk.signed("GET", "/fapi/v3/balance")[1][0]["balance"])
    assert sum(row.amount for row in found) == after - before
    client = binance(exchange)
    rows = client.futures_income_history(incomeType="FUNDING_FEE", symbol="BTCUSDT")
    assert [row["income"] for row in rows] == ["-1.25000000"]
    client.close_connection()


def test_candles_are_whole_and_lead_up_to_the_price_of_now(desk: Desk) -> None:
    desk.exchange.set_price(symbol="BTCUSDT", price="64123.4")
    client = binance(desk.exchange)
    rows = client.futures_klines(symbol="BTCUSDT", interval="5m", limit=50)
    client.close_connection()
    assert len(rows) == 50
    assert Decimal(rows[-1][4]) == Decimal("64123.4")
    for row, later in itertools.pairwise(rows):
        low, high = Decimal(row[3]), Decimal(row[2])
        assert low <= min(Decimal(row[1]), Decimal(row[4])) <= max(Decimal(row[1]), Decimal(row[4])) <= high
        assert (row[0] % (5 * MINUTE_MS), row[6] - row[0], later[0] - row[0]) == (0, 299_999, 300_000)
        assert abs(Decimal(later[1]) / Decimal(row[4]) - 1) < Decimal("0.05")
    assert desk.raw("GET", "/fapi/v1/klines", "symbol=BTCUSDT&interval=7m")[1]["code"] == -1120
    assert desk.raw("GET", "/fapi/v1/klines", "symbol=BTCUSDT&interval=1m&limit=0")[1]["code"] == -1102


def test_one_seed_gives_one_past(tmp_path: Path) -> None:
    pasts = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        with PaperExchangeProcess(data_path=tmp_path / name, seed=seed) as exchange:
            desk = Desk(exchange)
            now_ms = desk.reader.now_ms()
            asked = f"symbol=ETHUSDT&interval=1m&limit=30&endTime={now_ms - 2 * MINUTE_MS}"
            pasts.append([row[1:5] for row in desk.raw("GET", "/fapi/v1/klines", asked)[1]])
    assert any(row in pasts[1] for row in pasts[0])  # a minute may have passed between the two starts
    assert pasts[0][2:] in (pasts[1][2:], pasts[1][1:-1])
    assert pasts[0] != pasts[2]


def test_what_is_older_than_the_exchange_remembers_is_unreadable_not_empty(desk: Desk) -> None:
    with pytest.raises(ReadFailed, match="three months"):
        desk.reader.income(0)


def test_the_orders_of_a_symbol_are_told_whoever_made_them_and_whatever_became_of_them(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    since_ms, name = desk.reader.now_ms(), desk.new_id("resting")
    time.sleep(0.002)
    asked = "symbol=BTCUSDT&side=SELL&type=LIMIT&timeInForce=GTC&price=66000&quantity=0.1&reduceOnly=true"
    client = binance(desk.exchange)
    said = dict(pair.split("=") for pair in asked.split("&"))
    client.futures_create_order(**said, newClientOrderId=name)
    client.futures_cancel_order(symbol="BTCUSDT", origClientOrderId=name)
    client.close_connection()
    for _ in range(4):
        desk.send("BTCUSDT", Side.SELL, "0.01")
    whole = desk.reader.orders_since(symbol="BTCUSDT", since_ms=since_ms)
    assert whole[0].client_order_id == name
    assert [order.status for order in whole] == ["CANCELED", *["FILLED"] * 4]
    monkeypatch.setattr(binance_reader, "ORDERS_PAGE", 2)  # by time first, then on by ids
    assert desk.reader.orders_since(symbol="BTCUSDT", since_ms=since_ms) == whole
    with pytest.raises(ReadFailed, match="three months"):
        desk.reader.orders_since(symbol="BTCUSDT", since_ms=since_ms - 90 * 24 * 3600 * 1000)
