"""A paper exchange that dies while a stop becomes an order: the next one knows what came of it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from quantum.exchange.paper.algo import AlgoStep
from quantum.exchange.paper.changes import OrderStep, Step
from quantum.exchange.paper.hand import trade_to
from quantum.exchange.paper.market import LISTINGS, Market
from quantum.exchange.paper.store import Store
from quantum.exchange.paper.venue import Venue

NOW_MS = 1_800_000_000_000
STOP = {
    "algoType": "CONDITIONAL", "symbol": "BTCUSDT", "side": "SELL", "type": "STOP_MARKET", "quantity": "0.4",
    "triggerPrice": "63000", "reduceOnly": "true", "clientAlgoId": "stop",
}  # fmt: skip


class Died(Exception):
    """The process has ended here: whatever was not committed is gone."""


def opened(path: Path) -> tuple[Store, Venue]:
    store = Store(path=path)
    return store, Venue(store=store, market=Market(listings=LISTINGS, seed=1, now_ms=NOW_MS))


def price(venue: Venue, value: str) -> None:
    venue.market.set_price(symbol="BTCUSDT", price=Decimal(value), standing=True)
    venue.mark(symbol="BTCUSDT", now_ms=NOW_MS)


def word_of(step: Step) -> str:
    if isinstance(step, AlgoStep):
        return f"algo {step.order.status}"
    return f"order {step.execution} {step.order.status}" if isinstance(step, OrderStep) else ""


@pytest.mark.parametrize(
    "last", ["algo TRIGGERING", "algo TRIGGERED", "order NEW NEW", "order TRADE FILLED", "algo FINISHED"]
)
@pytest.mark.parametrize("kind", ["STOP_MARKET", "STOP"])
def test_whatever_the_last_word_the_stop_is_finished_with_its_one_order(
    tmp_path: Path, last: str, kind: str
) -> None:
    store, venue = opened(tmp_path / "paper.sqlite3")
    trade_to(venue=venue, symbol="BTCUSDT", amount=Decimal(1), client_id="entry", now_us=NOW_MS * 1000)
    asked = STOP | {"type": kind} | ({"price": "62000"} if kind == "STOP" else {})
    venue.algo_orders.place(params=asked, listings=venue.market.listings, price=Decimal(64000), now_ms=NOW_MS)
    reached = False

    def tell(step: Step) -> None:
        nonlocal reached
        if word_of(step) == last:
            reached = True
            raise Died

    venue.tell = tell
    with pytest.raises(Died):
        price(venue, "63000")
    assert reached
    store.close()

    store, venue = opened(tmp_path / "paper.sqlite3")
    price(venue, "62900")
    stop = venue.algo_orders.get(params={"clientAlgoId": "stop"}, unknown=-2013)
    order = store.order(symbol="BTCUSDT", client_id="stop")
    assert order is not None
    assert (stop.status, stop.order_id) == ("FINISHED", str(order.order_id))
    assert Decimal(stop.executed) == Decimal("0.4")
    assert venue.holding("BTCUSDT").amount == Decimal("0.6")
    store.close()
