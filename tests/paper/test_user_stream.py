"""The user stream of the paper exchange, listened to by the real python-binance."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from quantum.exchange.types import Answered, Side
from tests.loops import run
from tests.paper.desk import Desk
from tests.paper.listener import Listener

HOUR_MS = 60 * 60 * 1000


@pytest.fixture
def heard(desk: Desk) -> Iterator[Listener]:
    with Listener(desk.exchange) as listener:
        yield listener


def strings(values: dict[str, Any], *names: str) -> None:
    for name in names:
        assert type(values[name]) is str, name
        Decimal(values[name])


# --- what is told, and in which order


def test_an_exit_is_told_as_new_then_its_fill_with_trade_profit_and_commission(
    desk: Desk, heard: Listener
) -> None:
    desk.exchange.set_price(symbol="BTCUSDT", price="64100.10")
    outcome = desk.send("BTCUSDT", Side.SELL, "0.008")
    assert isinstance(outcome, Answered)
    new, lite, account, filled = heard.wait_for(4)
    assert heard.names() == ["ORDER_TRADE_UPDATE", "TRADE_LITE", "ACCOUNT_UPDATE", "ORDER_TRADE_UPDATE"]
    (trade,) = desk.reader.trades_of_order(symbol="BTCUSDT", order_id=outcome.order.order_id)
    first, last = new["o"], filled["o"]
    assert (first["x"], first["X"], first["t"], first["z"], first["ap"]) == ("NEW", "NEW", 0, "0", "0")
    assert (last["x"], last["X"], last["t"], last["i"]) == (
        "TRADE", "FILLED", trade.trade_id, outcome.order.order_id,
    )  # fmt: skip
    strings(last, "q", "p", "ap", "l", "z", "L", "n", "rp")
    assert Decimal(last["l"]) == Decimal(last["z"]) == Decimal("0.008")
    assert Decimal(last["L"]) == Decimal(last["ap"]) == trade.price == Decimal("64100.1")
    assert Decimal(last["rp"]) == trade.realized_pnl == Decimal("0.8008")
    assert (Decimal(last["n"]), last["N"]) == (trade.commission, "USDT")
    assert (last["c"], last["S"], last["R"], last["ps"]) == (
        outcome.order.client_order_id, "SELL", True, "BOTH",
    )  # fmt: skip
    assert (lite["t"], lite["i"], lite["c"]) == (last["t"], last["i"], last["c"])
    assert account["a"]["m"] == "ORDER"


def test_an_account_update_has_absolute_amounts_of_the_symbol_that_changed_only(
    desk: Desk, heard: Listener
) -> None:
    desk.hold("ETHUSDT", "-3")
    desk.send("BTCUSDT", Side.SELL, "0.25")
    heard.wait(lambda: heard.names().count("ACCOUNT_UPDATE") == 2)
    first, second = (event["a"] for event in heard.events if event["e"] == "ACCOUNT_UPDATE")
    assert [row["s"] for row in first["P"]] == ["ETHUSDT"]
    ((eth,), (btc,)) = first["P"], second["P"]
    assert (Decimal(eth["pa"]), Decimal(btc["pa"])) == (Decimal(-3), Decimal("0.75"))
    assert Decimal(btc["ep"]) == 64000
    strings(btc, "pa", "ep", "bep", "cr", "up", "iw")
    wallet = desk.signed("GET", "/fapi/v3/balance")[1][0]["balance"]
    assert second["B"] == [{"a": "USDT", "wb": wallet, "cw": wallet, "bc": "0"}]
    desk.hold("ETHUSDT", "0")


def test_pieces_of_one_order_carry_cumulative_quantity_average_and_their_own_trade(
    desk: Desk, heard: Listener
) -> None:
    desk.exchange.push_scenario({"next": "order", "do": "partial", "percent": 50, "pieces": 2})
    desk.send("BTCUSDT", Side.SELL, "0.1")
    heard.wait(lambda: len(heard.orders()) == 4)
    told = [(o["x"], o["X"], Decimal(o["l"]), Decimal(o["z"])) for o in heard.orders()]
    piece = Decimal("0.025")
    assert told == [
        ("NEW", "NEW", 0, 0),
        ("TRADE", "PARTIALLY_FILLED", piece, piece),
        ("TRADE", "PARTIALLY_FILLED", piece, 2 * piece),
        ("EXPIRED", "EXPIRED", 0, 2 * piece),
    ]
    trade_ids = [o["t"] for o in heard.orders()]
    assert trade_ids[0] == trade_ids[3] == 0
    assert trade_ids[2] == trade_ids[1] + 1
    assert desk.amount("BTCUSDT") == Decimal("0.95")


def test_a_resting_order_is_told_when_it_is_placed_reached_and_cancelled(desk: Desk, heard: Listener) -> None:
    order = {"symbol": "BTCUSDT", "side": "SELL", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.5"}
    near, far = desk.new_id(), desk.new_id()
    for client_id, price in ((near, "65000"), (far, "66000")):
        desk.signed("POST", "/fapi/v1/order", **order, price=price, newClientOrderId=client_id)
    desk.exchange.set_price(symbol="BTCUSDT", price="65500")
    desk.sender.cancel(symbol="BTCUSDT", client_order_id=far)
    heard.wait(lambda: len(heard.orders()) == 4)
    assert [(o["c"], o["x"], o["X"]) for o in heard.orders()] == [
        (near, "NEW", "NEW"), (far, "NEW", "NEW"),
        (near, "TRADE", "FILLED"), (far, "CANCELED", "CANCELED"),
    ]  # fmt: skip
    assert heard.orders()[2]["L"] == "65000"


def test_a_trade_by_hand_and_a_changed_leverage_are_told_too(desk: Desk, heard: Listener) -> None:
    desk.exchange.set_position(symbol="BTCUSDT", amount="0.4", client_order_id=desk.new_id("web_"))
    desk.signed("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=7)
    heard.wait_for(5)
    assert heard.orders()[-1]["c"].startswith("web_")
    assert heard.events[-1]["ac"] == {"s": "BTCUSDT", "l": 7}


def test_events_follow_the_book_and_are_stamped_with_the_exchanges_clock(desk: Desk, heard: Listener) -> None:
    desk.exchange.set_clock(skew_ms=20_000)
    try:
        for step in range(1, 31):
            amount = Decimal(1) - Decimal(step) / 100
            desk.exchange.set_position(
                symbol="BTCUSDT", amount=str(amount), client_order_id=desk.new_id("hand")
            )
        heard.wait_for(120)
    finally:
        desk.exchange.set_clock(skew_ms=0)
    amounts = [Decimal(e["a"]["P"][0]["pa"]) for e in heard.events if e["e"] == "ACCOUNT_UPDATE"]
    assert amounts == sorted(amounts, reverse=True)
    assert len(set(amounts)) == 30
    trade_ids = [o["t"] for o in heard.orders() if o["t"]]
    assert trade_ids == sorted(trade_ids)
    ahead_ms = heard.events[-1]["E"] - time.time_ns() // 1_000_000
    assert 15_000 < ahead_ms <= 20_500
    assert all(event["E"] >= event["T"] for event in heard.events)


def test_the_number_of_the_position_on_the_stream_is_the_one_that_is_read(
    desk: Desk, heard: Listener
) -> None:
    for quantity in ("0.3", "0.2", "0.5"):
        desk.send("BTCUSDT", Side.SELL, quantity)
    heard.wait_for(12)
    last = [e for e in heard.events if e["e"] == "ACCOUNT_UPDATE"][-1]["a"]["P"][0]
    assert Decimal(last["pa"]) == desk.amount("BTCUSDT") == 0
    assert Decimal(last["ep"]) == 0


# --- the listen key


def listen_key(desk: Desk, method: str, text: str = "") -> Any:
    return desk.raw(method, "/fapi/v1/listenKey", text, key=desk.exchange.keys.read_key)[1]


def test_a_listen_key_that_lives_is_given_again_and_an_unknown_one_is_not_kept(desk: Desk) -> None:
    made = listen_key(desk, "POST")["listenKey"]
    assert listen_key(desk, "POST")["listenKey"] == made
    assert listen_key(desk, "PUT", f"listenKey={made}") == {"listenKey": made}
    assert listen_key(desk, "PUT", "listenKey=another")["code"] == -1125
    assert listen_key(desk, "DELETE") == {}
    assert listen_key(desk, "PUT", f"listenKey={made}")["code"] == -1125
    assert listen_key(desk, "POST")["listenKey"] != made


def test_a_listen_key_ends_after_an_hour_of_the_exchanges_clock_and_says_so(
    desk: Desk, heard: Listener
) -> None:
    made = listen_key(desk, "POST")["listenKey"]
    desk.exchange.set_clock(skew_ms=HOUR_MS - 5_000)
    desk.exchange.set_clock(skew_ms=HOUR_MS + 5_000)
    (expired,) = heard.wait_for(1)
    assert (expired["e"], expired["listenKey"]) == ("listenKeyExpired", made)
    assert listen_key(desk, "PUT")["code"] == -1125
    desk.hold("BTCUSDT", "0.5")
    time.sleep(0.2)
    assert heard.names() == ["listenKeyExpired"], "a line of a key that ended is silent"


def test_a_listen_key_that_is_kept_lives_on(desk: Desk, heard: Listener) -> None:
    desk.exchange.set_clock(skew_ms=HOUR_MS - 5_000)
    listen_key(desk, "PUT")
    desk.exchange.set_clock(skew_ms=HOUR_MS + 5_000)
    desk.hold("BTCUSDT", "0.5")
    heard.wait_for(4)
    assert "listenKeyExpired" not in heard.names()


def test_a_listen_key_outlives_a_kill_of_the_exchange(desk: Desk) -> None:
    made = listen_key(desk, "POST")["listenKey"]
    desk.exchange.kill()
    desk.exchange.start()
    assert listen_key(desk, "PUT")["listenKey"] == made


def test_python_binance_comes_back_by_itself_when_the_line_is_cut(desk: Desk, heard: Listener) -> None:
    desk.exchange.pull_stream("cut")
    heard.wait(lambda: "error" in heard.names())
    heard.wait(lambda: desk.exchange.stream()["lines"] == 1)
    desk.hold("BTCUSDT", "0.5")
    heard.wait(lambda: "ACCOUNT_UPDATE" in heard.names())


def test_a_line_of_another_key_hears_nothing(desk: Desk, heard: Listener) -> None:
    """As on the exchange: a new key is no new subscription of an old line."""
    listen_key(desk, "DELETE")
    assert listen_key(desk, "POST")["listenKey"]
    with Listener(desk.exchange) as second:
        desk.hold("BTCUSDT", "0.5")
        second.wait_for(4)
    assert heard.events == []


def test_a_stream_can_be_opened_by_path_and_wrapped_as_well(desk: Desk) -> None:
    made = listen_key(desk, "POST")["listenKey"]
    plain, wrapped = run(first_messages(desk, f"ws/{made}", f"stream?streams={made}"))
    assert plain["e"] == "ORDER_TRADE_UPDATE"
    assert wrapped == {"stream": made, "data": plain}


async def first_messages(desk: Desk, *paths: str) -> list[Any]:
    async with aiohttp.ClientSession() as session:
        lines = [await session.ws_connect(desk.exchange.stream_url + path) for path in paths]
        await asyncio.to_thread(desk.hold, "BTCUSDT", "0.5")
        messages = [await line.receive_json(timeout=5) for line in lines]
        for line in lines:
            await line.close()
        return messages
