"""Everything the paper exchange speaks, each once through python-binance as it is shipped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from binance.client import Client

from tests.paper.desk import Desk
from tests.paper.listener import Listener

SYMBOL = "BTCUSDT"


@pytest.fixture
def client(desk: Desk) -> Iterator[Any]:
    class Binance(Client):  # type: ignore[misc]  # the library ships no types
        FUTURES_URL = desk.exchange.base_url

    made = Binance(desk.exchange.keys.trade_key, desk.exchange.keys.trade_secret, ping=False)
    yield made
    made.close_connection()


def test_the_market(client: Any) -> None:
    assert client.futures_ping() == {}
    assert client.futures_time()["serverTime"] > 0
    assert SYMBOL in {row["symbol"] for row in client.futures_exchange_info()["symbols"]}
    assert client.futures_mark_price(symbol=SYMBOL)["markPrice"] == "64000.00000000"
    assert len(client.futures_klines(symbol=SYMBOL, interval="1h", limit=3)) == 3


def test_the_account(client: Any) -> None:
    assert [row["positionAmt"] for row in client.futures_position_information()] == ["1.000"]
    assert len(client.futures_position_information(version=2)) > 1
    assert client.futures_account()["positions"][0]["symbol"] == SYMBOL
    assert client.futures_account_balance()[0]["asset"] == "USDT"
    assert client.futures_get_position_mode() == {"dualSidePosition": False}
    assert client.futures_change_leverage(symbol=SYMBOL, leverage=7)["leverage"] == 7
    assert client.futures_income_history(incomeType="COMMISSION", limit=1)[0]["incomeType"] == "COMMISSION"


def test_an_order_and_the_stream(client: Any, desk: Desk) -> None:
    names = [desk.new_id("every"), desk.new_id("every"), desk.new_id("every")]
    order = {"symbol": SYMBOL, "side": "SELL", "reduceOnly": "true", "quantity": "0.1"}
    with Listener(desk.exchange) as heard:
        done = client.futures_create_order(
            **order, type="MARKET", newClientOrderId=names[0], newOrderRespType="RESULT"
        )
        heard.wait(lambda: "FILLED" in [row["X"] for row in heard.orders()])
    assert client.futures_account_trades(symbol=SYMBOL, orderId=done["orderId"])[0]["qty"] == "0.100"
    limit = {"type": "LIMIT", "timeInForce": "GTC", "price": "66000"}
    client.futures_create_order(**order, **limit, newClientOrderId=names[1])
    assert [row["clientOrderId"] for row in client.futures_get_open_orders()] == [names[1]]
    assert client.futures_get_order(symbol=SYMBOL, origClientOrderId=names[1])["status"] == "NEW"
    assert client.futures_get_all_orders(symbol=SYMBOL)[-1]["clientOrderId"] == names[1]
    cancelled = client.futures_cancel_order(symbol=SYMBOL, origClientOrderId=names[1])
    assert cancelled["status"] == "CANCELED"
    client.futures_create_order(**order, type="STOP_MARKET", stopPrice="60000", clientAlgoId=names[2])
    assert [row["clientAlgoId"] for row in client.futures_get_open_algo_orders()] == [names[2]]
    client.futures_cancel_algo_order(clientAlgoId=names[2])


def test_the_listen_key(client: Any) -> None:
    key = client.futures_stream_get_listen_key()
    assert client.futures_stream_keepalive(listenKey=key) in ({}, {"listenKey": key})
    assert client.futures_stream_close(listenKey=key) == {}
