"""The probe against the paper exchange: all we assume holds there, what is bent is told, and nothing stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from quantum.exchange.binance_reader import BinanceReader
from quantum.exchange.binance_stream import BinanceLine
from quantum.exchange.probe import ASSUMPTIONS, READ_ONLY, Verdict
from quantum.exchange.probe_run import Probe
from quantum.exchange.user_stream import UserStream
from tests.paper.desk import Desk

SYMBOL = "SOLUSDT"


def probed(
    desk: Desk, *, may: Callable[[str], bool] = lambda _text: True, read_only: bool = False
) -> tuple[dict[str, Verdict], Probe]:
    keys, stream_url = desk.exchange.keys, desk.exchange.stream_url
    reader = BinanceReader(
        api_key=keys.trade_key, api_secret=keys.trade_secret, base_url=desk.exchange.base_url
    )
    stream = UserStream(keys=reader, make_line=lambda: BinanceLine(stream_url=stream_url))
    stream.start()
    while stream.live_since_ms is None:
        stream.take(timeout_s=0.05)
    probe = Probe(reader=reader, symbol=SYMBOL, may=may, stream=stream)
    found = {one.name: one.verdict for one in probe.run(read_only=read_only)}
    stream.stop()
    return found, probe


def nothing_stays(desk: Desk) -> bool:
    return desk.amount(SYMBOL) == 0 and desk.reader.open_orders() == []


def test_every_assumption_holds_at_the_paper_exchange(desk: Desk) -> None:
    found, probe = probed(desk)
    assert found == dict.fromkeys(ASSUMPTIONS, Verdict.HOLDS)
    assert nothing_stays(desk)
    assert probe.left_behind == []


@pytest.mark.parametrize(
    ("bent", "items"),
    [("unknown_order", [{"next": "getOrder", "do": "refuse", "code": -2011}]),
     ("reduce_only_flat", [{"next": "order", "do": "refuse", "code": -1111}]),
     ("result_executed", [{"next": "order", "do": "latency", "ms": 0},
                          {"next": "order", "do": "partial", "percent": 50}])],
)  # fmt: skip
def test_one_that_is_bent_is_told(desk: Desk, bent: str, items: list[dict[str, object]]) -> None:
    desk.exchange.push_scenario(*items)
    assert probed(desk)[0][bent] is Verdict.DOES_NOT_HOLD
    assert nothing_stays(desk)


def test_a_filled_orders_name_that_is_taken_again_is_not_decided(desk: Desk) -> None:
    """-4116 is documented for open orders: the exchange may take it, and nothing of ours leans on that."""
    taken = {"orderId": 1, "symbol": SYMBOL, "status": "FILLED", "clientOrderId": "x", "price": "0",
             "avgPrice": "148", "origQty": "0.01", "executedQty": "0.01", "cumQuote": "1.48", "side": "SELL",
             "type": "MARKET", "reduceOnly": True, "updateTime": 1, "time": 1}  # fmt: skip
    plain = {"next": "order", "do": "latency", "ms": 0}
    desk.exchange.push_scenario(*[plain] * 4, {"next": "order", "do": "reply", "status": 200, "body": taken})
    assert probed(desk)[0]["duplicate_filled"] is Verdict.NOT_DECIDED
    desk.exchange.push_scenario(*[plain] * 4, {"next": "order", "do": "refuse", "code": -1111})
    assert probed(desk)[0]["duplicate_filled"] is Verdict.DOES_NOT_HOLD
    assert nothing_stays(desk)


def test_a_no_places_nothing_and_read_only_does_not_ask(desk: Desk) -> None:
    before = len(desk.exchange.log())
    assert probed(desk, may=lambda _text: False)[0]["result_executed"] is Verdict.NOT_TESTED
    found, _ = probed(desk, may=lambda _text: pytest.fail("asked"), read_only=True)
    assert {name for name, verdict in found.items() if verdict is Verdict.HOLDS} == set(READ_ONLY)
    assert len(desk.exchange.log()) == before


def test_a_position_that_is_there_is_left_alone(desk: Desk) -> None:
    desk.hold(SYMBOL, "3")
    found, _ = probed(desk)
    assert found["reduce_only_flat"] is Verdict.NOT_TESTED
    assert desk.amount(SYMBOL) == 3
    desk.hold(SYMBOL, "0")


def test_what_could_not_be_tidied_up_is_said(desk: Desk) -> None:
    desk.exchange.push_scenario(
        {"next": "order", "do": "latency", "ms": 0}, {"next": "order", "do": "latency", "ms": 0},
        {"next": "order", "do": "refuse", "code": -1001, "times": 50},
    )  # fmt: skip
    _, probe = probed(desk)
    assert any("still holds" in text for text in probe.left_behind)
    desk.exchange.clear_scenario()
    desk.hold(SYMBOL, "0")
