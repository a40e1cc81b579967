"""What the user stream of the paper exchange can be made to do wrong, as python-binance meets it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from quantum.exchange.paper.process import PaperExchangeFailed
from quantum.exchange.paper.stream_faults import Lever, StreamFaults
from tests.paper.desk import Desk
from tests.paper.listener import Listener

QUIET_S = 0.2
STEP = ["ORDER_TRADE_UPDATE", "TRADE_LITE", "ACCOUNT_UPDATE", "ORDER_TRADE_UPDATE"]


@pytest.fixture
def heard(desk: Desk) -> Iterator[Listener]:
    with Listener(desk.exchange) as listener:
        yield listener


def amounts(heard: Listener) -> list[Decimal]:
    return [Decimal(e["a"]["P"][0]["pa"]) for e in heard.events if e["e"] == "ACCOUNT_UPDATE"]


def test_a_frozen_stream_stays_open_and_loses_what_happens_meanwhile(desk: Desk, heard: Listener) -> None:
    desk.exchange.pull_stream("freeze")
    desk.hold("BTCUSDT", "0.5")
    time.sleep(QUIET_S)
    assert heard.events == []
    assert desk.exchange.stream()["lines"] == 1
    desk.exchange.pull_stream("clear")
    desk.hold("BTCUSDT", "0.4")
    heard.wait_for(4)
    assert amounts(heard) == [Decimal("0.4")]


def test_dropped_events_are_the_next_ones_and_no_more(desk: Desk, heard: Listener) -> None:
    desk.exchange.pull_stream("drop", times=3)
    desk.hold("BTCUSDT", "0.5")
    desk.hold("BTCUSDT", "0.4")
    heard.wait_for(5)
    assert heard.names() == STEP[3:] + STEP


def test_doubled_events_carry_the_same_trade_id_twice(desk: Desk, heard: Listener) -> None:
    desk.exchange.pull_stream("double")
    desk.hold("BTCUSDT", "0.5")
    events = heard.wait_for(8)
    assert events[0::2] == events[1::2]
    trade_ids = [o["t"] for o in heard.orders() if o["t"]]
    assert len(trade_ids) == 2
    assert len(set(trade_ids)) == 1


def test_disorder_gives_the_fill_before_its_order(desk: Desk, heard: Listener) -> None:
    desk.exchange.pull_stream("disorder", times=4)
    desk.hold("BTCUSDT", "0.5")
    heard.wait_for(4)
    assert heard.names() == STEP[::-1]
    assert [o["x"] for o in heard.orders()] == ["TRADE", "NEW"]


def test_what_disorder_gathered_comes_out_when_it_is_cleared(desk: Desk, heard: Listener) -> None:
    desk.exchange.pull_stream("disorder", times=100)
    desk.hold("BTCUSDT", "0.5")
    desk.exchange.pull_stream("clear")
    heard.wait_for(4)
    assert heard.names() == STEP[::-1]


def test_delayed_events_come_late_and_in_order(desk: Desk, heard: Listener) -> None:
    desk.exchange.pull_stream("delay", ms=400)
    started = time.monotonic()
    desk.hold("BTCUSDT", "0.5")
    assert time.monotonic() - started < 0.3
    heard.wait_for(4)
    assert time.monotonic() - started >= 0.4
    assert heard.names() == STEP


def test_stripped_fills_come_without_a_commission(desk: Desk, heard: Listener) -> None:
    desk.exchange.pull_stream("strip", fields=["n", "N"])
    desk.hold("BTCUSDT", "0.5")
    heard.wait_for(4)
    assert all("n" not in o and "N" not in o and "t" in o for o in heard.orders())


def test_an_expired_listen_key_is_told_once_and_then_all_is_silent(desk: Desk, heard: Listener) -> None:
    desk.exchange.pull_stream("expire")
    heard.wait_for(1)
    desk.hold("BTCUSDT", "0.5")
    time.sleep(QUIET_S)
    assert heard.names() == ["listenKeyExpired"]
    assert desk.exchange.stream()["lines"] == 1


def test_a_flood_overflows_a_slow_client_which_loses_its_queue(desk: Desk) -> None:
    with Listener(desk.exchange, slow=True) as heard:
        desk.exchange.pull_stream("flood", times=500)
        heard.wait(lambda: heard.queued() > 100)  # a hundred, and the library's own note of the overflow
        heard.slow = False
        heard.wait(lambda: heard.failure)
        assert type(heard.failure).__name__ == "ReadLoopClosed"
        assert heard.events == [], "what was queued is lost"


def test_refused_connects_are_tried_again_until_one_is_let_in(desk: Desk, heard: Listener) -> None:
    desk.exchange.pull_stream("refuse", times=1)
    desk.exchange.pull_stream("cut")
    heard.wait(lambda: desk.exchange.stream()["lines"] == 0)
    heard.wait(lambda: desk.exchange.stream()["lines"] == 1)
    desk.hold("BTCUSDT", "0.5")
    heard.wait(lambda: amounts(heard) == [Decimal("0.5")])


def test_any_message_can_be_sent(desk: Desk, heard: Listener) -> None:
    body = {"e": "ORDER_TRADE_UPDATE", "E": 1, "T": 1, "o": {"s": "币安人生USDT"}}
    desk.exchange.pull_stream("send", body=body)
    assert heard.wait_for(1) == [body]


@pytest.mark.parametrize(
    "lever",
    [{"do": "explode"}, {"do": "drop", "times": 0}, {"do": "drop", "times": "3"}, {"do": "cut", "times": 1},
     {"do": "delay", "ms": -1}, {"do": "strip", "fields": "n"}, {}],
)  # fmt: skip
def test_a_lever_with_a_mistake_is_refused(desk: Desk, lever: dict[str, Any]) -> None:
    with pytest.raises(PaperExchangeFailed):
        desk.exchange.control("POST", "/paper/stream", lever)


def test_levers_that_were_cleared_leave_nothing_behind() -> None:
    faults = StreamFaults()
    for row in ({"do": "freeze"}, {"do": "double"}, {"do": "drop", "times": 9}, {"do": "strip", "fields": ["e"]},
                {"do": "delay", "ms": 5}, {"do": "refuse", "times": 9}, {"do": "disorder", "times": 9}):  # fmt: skip
        faults.pull(Lever.from_json(json.loads(json.dumps(row))))
    faults.pull(Lever("clear"))
    assert faults == StreamFaults()
    assert faults.passed_on({"e": "x"}) == [{"e": "x"}]
