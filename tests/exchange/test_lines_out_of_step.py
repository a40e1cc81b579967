"""What one order was not told must not be taken for what the exchange says of the next."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from quantum.exchange.binance import BinanceReader, BinanceSender
from quantum.exchange.reading import ReadFailed
from quantum.exchange.types import Answered, FateUnknown, OrderRequest, Side
from tests.contract.scripted_line import CUT, RESET, SILENT, _read_request, http, scripted_line

KEY, SECRET = "K" * 64, "S" * 64
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"


def order(client_order_id: str) -> OrderRequest:
    return OrderRequest("BTCUSDT", Side.SELL, Decimal(1), client_order_id, 1_795_000_000_123)


def filled(client_order_id: str) -> bytes:
    said = {
        "orderId": 1, "symbol": "BTCUSDT", "status": "FILLED", "clientOrderId": client_order_id,
        "avgPrice": "64000", "origQty": "1", "executedQty": "1", "reduceOnly": True, "side": "SELL",
        "updateTime": 1,
    }  # fmt: skip
    return http(200, json.dumps(said))


def sender(base_url: str) -> BinanceSender:
    return BinanceSender(api_key=KEY, api_secret=SECRET, base_url=base_url, timeout_s=1)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(2)
        yield server


def _late(listener: socket.socket) -> None:
    """The first order is answered when the second has come on its line; on a line of its own the second is filled."""
    first, _ = listener.accept()
    with first:
        _read_request(first)
        first.sendall(EARLY)
        if _read_request(first):
            first.sendall(http(400, '{"code":-2022,"msg":"ReduceOnly Order is rejected."}'))
            return
    second, _ = listener.accept()
    with second:
        _read_request(second)
        second.sendall(filled("q-2"))


def test_the_late_answer_to_one_order_does_not_refuse_the_next_that_was_filled(
    listener: socket.socket,
) -> None:
    sending = sender(f"http://127.0.0.1:{listener.getsockname()[1]}/fapi")
    with ThreadPoolExecutor(1) as exchange:
        done = exchange.submit(_late, listener)
        assert isinstance(sending.send(order("q-1")), FateUnknown)
        assert isinstance(sending.send(order("q-2")), Answered)
        done.result(3)


def test_a_line_that_answered_for_another_order_is_not_used_again() -> None:
    with scripted_line(filled("q-0"), filled("q-1")) as line:
        sending = sender(line.base_url)
        assert isinstance(sending.send(order("q-1")), FateUnknown)
        assert isinstance(sending.send(order("q-1")), Answered)
        assert line.connections == 2


@pytest.mark.parametrize("broken", [CUT, RESET, SILENT, http(503, "", "Retry-After: 0")])
def test_an_order_whose_kept_line_breaks_is_unknown_and_is_not_sent_again(broken: bytes) -> None:
    """Many clients send again, by themselves, what broke on a line that had been used before."""
    with scripted_line(filled("q-1"), broken, filled("q-1")) as line:
        sending = sender(line.base_url)
        assert isinstance(sending.send(order("q-1")), Answered)
        assert isinstance(sending.send(order("q-1")), FateUnknown)
        assert len(line.requests) == 2
        assert isinstance(sending.send(order("q-1")), Answered)
        assert line.connections == 2


def test_a_question_whose_answer_is_still_to_come_ends_its_line() -> None:
    with scripted_line(EARLY, http(200, '{"serverTime": 1795000000000}')) as line:
        reading = BinanceReader(api_key=KEY, api_secret=SECRET, base_url=line.base_url, timeout_s=1)
        with pytest.raises(ReadFailed):
            reading.sync_clock()
        reading.sync_clock()
        assert line.connections == 2
