"""The paper exchange's replies and events, field by field, against samples written after the real ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.paper.desk import Desk
from tests.paper.listener import Listener
from tests.paper.shapes import differences

SAMPLES: Mapping[str, Any] = json.loads((Path(__file__).parent / "samples.json").read_text())
SHORT = "ETHUSDT"


@pytest.fixture(scope="module")
def told(running: Desk) -> Mapping[str, Any]:
    """One story on a real exchange, and everything it answered and sent, by the names of the samples."""
    exchange = running.exchange
    exchange.set_price(symbol=SHORT, price="2990.12")
    with Listener(exchange) as heard:
        running.hold(SHORT, "-1.25")
        exchange.push_scenario({"next": "order", "do": "partial", "percent": 50})
        exit_order = {"symbol": SHORT, "side": "BUY", "type": "MARKET", "quantity": "0.31"}
        more = {"reduceOnly": "true", "newOrderRespType": "RESULT", "newClientOrderId": "sample-1"}
        reply = running.signed("POST", "/fapi/v1/order", **exit_order, **more)[1]
        exchange.seize(symbol=SHORT, quantity="0.5")
        exchange.control("POST", "/paper/funding", {"amount": "-1.25"})
        running.signed("POST", "/fapi/v1/leverage", symbol=SHORT, leverage=12)
        stop = {"algoType": "CONDITIONAL", "symbol": SHORT, "side": "BUY", "type": "STOP_MARKET"}
        more = {"quantity": "0.31", "triggerPrice": "3100.5", "reduceOnly": "true"}
        algo_reply = running.signed("POST", "/fapi/v1/algoOrder", **stop, **more)[1]
        exchange.pull_stream("expire")
        heard.wait(lambda: "listenKeyExpired" in heard.names())
    of = {name: [e for e in heard.events if e["e"] == name] for name in heard.names()}
    by_step = {e["o"]["x"]: e for e in of["ORDER_TRADE_UPDATE"]}

    def read(path: str, **params: Any) -> Any:
        return running.signed("GET", path, **params)[1]

    return {
        **{f"event_order_{step.lower()}": event for step, event in by_step.items()},
        "event_trade_lite": of["TRADE_LITE"][-1],
        "event_account_update": of["ACCOUNT_UPDATE"][0],
        "event_account_update_funding": of["ACCOUNT_UPDATE"][-1],
        "event_leverage": of["ACCOUNT_CONFIG_UPDATE"][0],
        "event_listen_key_expired": of["listenKeyExpired"][0],
        "event_algo_new": of["ALGO_UPDATE"][0],
        "rest_order": reply,
        "rest_algo_order": algo_reply,
        "rest_order_read": read("/fapi/v1/order", symbol=SHORT, origClientOrderId="sample-1"),
        "rest_income": read("/fapi/v1/income", incomeType="COMMISSION")[-1],
        "rest_trade": read("/fapi/v1/userTrades", symbol=SHORT)[-1],
        "rest_position_v3": read("/fapi/v3/positionRisk", symbol=SHORT)[0],
        "rest_position_v2": read("/fapi/v2/positionRisk", symbol=SHORT)[0],
        "rest_balance": read("/fapi/v3/balance")[0],
        "rest_account": read("/fapi/v3/account"),
        "rest_listen_key": running.raw("POST", "/fapi/v1/listenKey", key=exchange.keys.read_key)[1],
        "rest_premium_index": running.raw("GET", "/fapi/v1/premiumIndex", f"symbol={SHORT}")[1],
    }


@pytest.mark.parametrize("name", SAMPLES)
def test_it_has_every_field_of_the_sample_in_the_same_type(told: Mapping[str, Any], name: str) -> None:
    assert differences(theirs=SAMPLES[name], ours=told[name]) == []


def test_every_event_it_sends_has_a_sample(told: Mapping[str, Any]) -> None:
    assert set(told) == set(SAMPLES)


def test_realised_profit_and_commission_are_right_to_the_last_digit(told: Mapping[str, Any]) -> None:
    fill = told["event_order_trade"]["o"]
    assert (fill["l"], fill["L"]) == ("0.155", "2990.12")
    assert Decimal(fill["n"]) == Decimal("0.155") * Decimal("2990.12") * Decimal("0.0005")
    assert Decimal(fill["rp"]) == 0


@pytest.mark.parametrize(
    ("ours", "found"),
    [({}, ["a: missing"]), ({"a": 1.5, "l": []}, ["a: a number in text, ours is float", "l: empty"]),
     ({"a": "x", "l": [{"b": 1}]}, ["a: a number in text, ours is str"]),
     ({"a": "2", "l": [{"b": "1"}]}, ["l[0].b: int, ours is str"]), ({"a": "2", "l": [{"b": 9}], "c": 1}, [])],
)  # fmt: skip
def test_a_difference_is_found(ours: Any, found: list[str]) -> None:
    theirs = {"a": "1.5", "l": [{"b": 1}]}
    assert [one for one in differences(theirs=theirs, ours=ours) if one in found] == found
    assert bool(differences(theirs=theirs, ours=ours)) == bool(found)
