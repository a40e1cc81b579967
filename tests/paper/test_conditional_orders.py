"""Conditional orders whose price comes: what they become, what is told of it, and what the book refuses."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.paper.desk import Desk
from tests.paper.listener import Listener

PATH = "/fapi/v1/algoOrder"


def placed(desk: Desk, **fields: Any) -> tuple[str, Any]:
    name = desk.new_id("algo")
    stop = {"algoType": "CONDITIONAL", "symbol": "BTCUSDT", "side": "SELL", "type": "STOP_MARKET"}
    return name, desk.signed("POST", PATH, **{**stop, **fields}, clientAlgoId=name)[1]


def price(desk: Desk, value: str) -> None:
    desk.exchange.set_price(symbol="BTCUSDT", price=value)


def told_of(heard: Listener, name: str) -> list[str]:
    """Every word on the stream about one conditional order and the order it became, in its sequence."""
    words = []
    for event in heard.events:
        row = event.get("o", {})
        if event["e"] == "ALGO_UPDATE" and row["caid"] == name:
            words.append(f"algo {row['X']}")
        elif event["e"] == "ORDER_TRADE_UPDATE" and row["c"] == name:
            words.append(f"order {row['X']}")
    return words


def test_a_reduce_only_stop_closes_what_it_was_for_when_the_price_comes(desk: Desk) -> None:
    with Listener(desk.exchange) as heard:
        name, stop = placed(desk, triggerPrice="63000", quantity="0.4", reduceOnly="true")
        price(desk, "63000.1")
        assert desk.amount("BTCUSDT") == 1
        assert [one.algo_id for one in desk.reader.open_algo_orders()] == [stop["algoId"]]
        price(desk, "63000")
        assert desk.amount("BTCUSDT") == Decimal("0.6")
        assert desk.reader.open_algo_orders() == []
        heard.wait(lambda: "algo FINISHED" in told_of(heard, name))
    assert told_of(heard, name) == [
        "algo NEW", "algo TRIGGERING", "algo TRIGGERED", "order NEW", "order FILLED", "algo FINISHED",
    ]  # fmt: skip
    last = [e["o"] for e in heard.events if e["e"] == "ALGO_UPDATE"][-1]
    order = desk.reader.order(symbol="BTCUSDT", client_order_id=name)
    assert order is not None
    assert (last["ai"], Decimal(last["aq"]), last["act"]) == (str(order.order_id), Decimal("0.4"), "MARKET")
    read = desk.signed("GET", PATH, clientAlgoId=name)[1]
    assert (read["algoStatus"], read["actualOrderId"]) == ("FINISHED", str(order.order_id))


@pytest.mark.parametrize(
    ("amount", "kind", "side", "trigger", "short_of_it", "there"),
    [("1", "STOP_MARKET", "SELL", "63000", "63000.1", "62900"),
     ("-1", "STOP_MARKET", "BUY", "65000", "64999.9", "65100"),
     ("1", "TAKE_PROFIT_MARKET", "SELL", "65000", "64999.9", "65100"),
     ("-1", "TAKE_PROFIT_MARKET", "BUY", "63000", "63000.1", "62900")],
)  # fmt: skip
def test_close_position_takes_all_there_is_then(
    desk: Desk, amount: str, kind: str, side: str, trigger: str, short_of_it: str, there: str
) -> None:
    desk.hold("BTCUSDT", amount)
    placed(desk, type=kind, side=side, triggerPrice=trigger, closePosition="true")
    desk.hold("BTCUSDT", str(Decimal(amount) * 2))
    price(desk, short_of_it)
    assert desk.amount("BTCUSDT") == Decimal(amount) * 2
    price(desk, there)
    assert desk.amount("BTCUSDT") == 0


def test_a_reduce_only_one_on_a_flat_position_is_rejected_and_opens_nothing(desk: Desk) -> None:
    with Listener(desk.exchange) as heard:
        name, _ = placed(desk, triggerPrice="63000", quantity="0.4", reduceOnly="true")
        desk.hold("BTCUSDT", "0")
        price(desk, "62000")
        heard.wait(lambda: "algo REJECTED" in told_of(heard, name))
    assert told_of(heard, name) == ["algo NEW", "algo TRIGGERING", "algo REJECTED"]
    assert [e["o"]["rm"] for e in heard.events if e["e"] == "ALGO_UPDATE"][-1] == "Reduce Only reject"
    assert desk.amount("BTCUSDT") == 0
    price(desk, "61000")
    assert desk.signed("GET", PATH, clientAlgoId=name)[1]["algoStatus"] == "REJECTED"


def test_one_above_the_position_shrinks_to_it(desk: Desk) -> None:
    placed(desk, triggerPrice="63000", quantity="7", reduceOnly="true")
    price(desk, "62000")
    assert desk.amount("BTCUSDT") == 0


def test_one_that_would_trigger_at_once_is_refused(desk: Desk) -> None:
    assert placed(desk, triggerPrice="64000", quantity="0.4", reduceOnly="true")[1]["code"] == -2021
    assert desk.amount("BTCUSDT") == 1


def test_a_stop_with_a_price_becomes_a_resting_limit_order_and_ends_with_it(desk: Desk) -> None:
    name, stop = placed(desk, type="STOP", triggerPrice="63000", price="63500", quantity="0.4",
                        reduceOnly="true")  # fmt: skip
    price(desk, "62000")
    (resting,) = desk.reader.open_orders()
    assert (resting.client_order_id, resting.status) == (name, "NEW")
    desk.exchange.kill()
    desk.exchange.start()
    price(desk, "62000")
    assert desk.signed("GET", PATH, algoId=stop["algoId"])[1]["algoStatus"] == "TRIGGERED"
    desk.sender.cancel(symbol="BTCUSDT", client_order_id=name)
    assert desk.signed("GET", PATH, algoId=stop["algoId"])[1]["algoStatus"] == "FINISHED"


def test_the_price_path_alone_triggers(desk: Desk) -> None:
    """Nobody sets a price: time goes on, second by second, until the walk has come to one of the two."""
    desk.exchange.set_price(symbol="BTCUSDT", price="64000", standing=False)
    _, stop = placed(desk, triggerPrice="63936", quantity="0.1", reduceOnly="true")
    _, profit = placed(
        desk, type="TAKE_PROFIT_MARKET", triggerPrice="64064", quantity="0.2", reduceOnly="true"
    )
    assert "code" not in {**stop, **profit}
    for second in range(1, 3000):
        desk.exchange.set_clock(skew_ms=second * 1000)
        at = Decimal(desk.raw("GET", "/fapi/v1/premiumIndex", "symbol=BTCUSDT")[1]["markPrice"])
        left = "0.900" if at <= 63936 else "0.800" if at >= 64064 else "1.000"
        assert desk.amount_by_hand("BTCUSDT") == left, f"at {at}"
        if left != "1.000":
            return
    pytest.fail("the walk stands still")
