"""One paper exchange for each file, brought back to rest before each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from quantum.exchange.paper.process import PaperExchangeProcess
from tests.paper.desk import Desk


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    path = tmp_path_factory.mktemp("paper") / "paper.sqlite3"
    with PaperExchangeProcess(data_path=path) as exchange:
        yield Desk(exchange)


@pytest.fixture
def desk(running: Desk) -> Desk:
    """1 BTC long at 64000, nothing scripted, no listen key."""
    exchange = running.exchange
    exchange.clear_scenario()
    exchange.pull_stream("clear")
    exchange.set_latency(ms=0)
    exchange.set_clock(skew_ms=0)
    exchange.set_hedge_mode(on=False)
    running.raw("DELETE", "/fapi/v1/listenKey", key=exchange.keys.read_key)
    for order in running.reader.open_orders():
        running.sender.cancel(symbol=order.symbol, client_order_id=order.client_order_id)
    running.hold("BTCUSDT", "0")
    exchange.set_price(symbol="BTCUSDT", price="64000")
    running.hold("BTCUSDT", "1")
    return running
