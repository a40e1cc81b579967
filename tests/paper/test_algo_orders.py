"""Conditional orders, placed by the real python-binance as it sends them, and by raw HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from binance.client import Client

from tests.paper.desk import Desk
from tests.paper.listener import Listener

PATH = "/fapi/v1/algoOrder"
STOP = {"algoType": "CONDITIONAL", "symbol": "BTCUSDT", "side": "SELL", "type": "STOP_MARKET",
        "quantity": "0.5", "triggerPrice": "60000", "reduceOnly": "true"}  # fmt: skip


def test_a_stop_of_python_binance_is_taken_kept_listed_and_cancelled(desk: Desk) -> None:
    class Binance(Client):  # type: ignore[misc]  # the library ships no types
        FUTURES_URL = desk.exchange.base_url

    keys = desk.exchange.keys
    client = Binance(keys.trade_key, keys.trade_secret, ping=False)
    name = desk.new_id("stop")
    placed = client.futures_create_order(
        symbol="BTCUSDT", side="SELL", type="STOP_MARKET", stopPrice="60000", quantity="0.5",
        reduceOnly="true", clientAlgoId=name,
    )  # fmt: skip
    assert (placed["clientAlgoId"], placed["algoStatus"], placed["triggerPrice"]) == (name, "NEW", "60000")
    assert desk.amount("BTCUSDT") == 1
    assert desk.reader.open_orders() == []
    assert [one["clientAlgoId"] for one in client.futures_get_open_algo_orders()] == [name]
    assert client.futures_cancel_algo_order(clientAlgoId=name)["algoId"] == placed["algoId"]
    assert client.futures_get_open_algo_orders() == []
    assert client.futures_get_algo_order(clientAlgoId=name)["algoStatus"] == "CANCELED"
    client.close_connection()


def test_placing_and_cancelling_is_told_on_the_stream(desk: Desk) -> None:
    name = desk.new_id("stop")
    with Listener(desk.exchange) as heard:
        desk.signed("POST", PATH, **STOP, clientAlgoId=name)
        desk.signed("DELETE", PATH, clientAlgoId=name)
        heard.wait_for(2)
    assert heard.names() == ["ALGO_UPDATE", "ALGO_UPDATE"]
    assert [(e["o"]["caid"], e["o"]["X"]) for e in heard.events] == [(name, "NEW"), (name, "CANCELED")]


def test_it_outlives_a_kill_of_the_exchange(desk: Desk) -> None:
    name = desk.new_id("stop")
    placed = desk.signed("POST", PATH, **STOP, clientAlgoId=name)[1]
    desk.exchange.kill()
    desk.exchange.start()
    assert desk.signed("GET", PATH, algoId=placed["algoId"])[1] == placed
    assert desk.signed("POST", PATH, **STOP, clientAlgoId=name)[1]["code"] == -4116
    desk.signed("DELETE", PATH, clientAlgoId=name)


@pytest.mark.parametrize(
    ("change", "code"),
    [({"algoType": None}, -1102), ({"type": "MARKET"}, -1116), ({"symbol": "NOPEUSDT"}, -1121),
     ({"side": "CLOSE"}, -1117), ({"triggerPrice": None}, -1102), ({"quantity": "0.0001"}, -1111),
     ({"quantity": "1e-3"}, -1100), ({"reduceOnly": "True"}, -1100), ({"clientAlgoId": "x" * 37}, -4015),
     ({"positionSide": "LONG"}, -4061), ({"triggerPrice": "0"}, -4003)],
)  # fmt: skip
def test_one_against_the_rules_is_refused_and_not_kept(desk: Desk, change: dict[str, Any], code: int) -> None:
    before = desk.signed("GET", "/fapi/v1/openAlgoOrders")[1]
    assert desk.signed("POST", PATH, **{**STOP, **change})[1]["code"] == code
    assert desk.signed("GET", "/fapi/v1/openAlgoOrders")[1] == before


def test_an_unknown_one_cannot_be_read_or_cancelled(desk: Desk) -> None:
    assert desk.signed("GET", PATH, clientAlgoId="nobody")[1]["code"] == -2013
    assert desk.signed("DELETE", PATH, algoId="7")[1]["code"] == -2011


def test_the_read_key_cannot_place_one(desk: Desk) -> None:
    keys = desk.exchange.keys
    answer = desk.signed("POST", PATH, key=keys.read_key, secret=keys.read_secret, **STOP)[1]
    assert answer["code"] == -2015
