"""Reduce-only orders of others in the book: read now and then, told in between."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from positions.feed.resting import Resting
from quantum.exchange.events import Execution, OrderUpdate, PositionSide
from quantum.exchange.types import OrderState, OrderStatus, Side

T0 = 1_764_000_000_000
ORDER = OrderState(
    symbol="BTCUSDT",
    order_id=1,
    client_order_id="tp-1",
    status=OrderStatus.NEW,
    side=Side.SELL,
    quantity=Decimal("0.5"),
    executed_quantity=Decimal("0.1"),
    average_price=Decimal(0),
    reduce_only=True,
    updated_ms=T0,
)


def told(at_ms: int, **more: Any) -> OrderUpdate:
    zero = Decimal(0)
    order = OrderUpdate(
        event_ms=at_ms, transaction_ms=at_ms, symbol="BTCUSDT", client_order_id="tp-1", order_id=1, side=Side.SELL,
        position_side=PositionSide.BOTH, order_type="LIMIT", execution=Execution.NEW, status=OrderStatus.NEW,
        quantity=Decimal("0.5"), last_quantity=zero, cumulative_quantity=zero, last_price=zero, average_price=zero,
        reduce_only=True, trade_id=0, realized_pnl=None, commission=None, commission_asset=None,
    )  # fmt: skip
    return replace(order, **more)


def against_long(resting: Resting) -> Decimal:
    return resting.against("BTCUSDT", Decimal(1))


@pytest.fixture
def resting() -> Resting:
    resting = Resting()
    resting.take([ORDER], asked_ms=T0)
    return resting


def test_what_is_left_of_it_counts_against_the_side_that_it_closes(resting: Resting) -> None:
    assert against_long(resting) == Decimal("0.4")
    assert resting.against("BTCUSDT", Decimal(-1)) == 0
    assert resting.against("ETHUSDT", Decimal(1)) == 0


@pytest.mark.parametrize("change", [{"reduce_only": False}, {"client_order_id": "q-0123456789abcdef-75"}])
def test_orders_that_open_and_orders_of_ours_do_not_count(change: dict[str, Any]) -> None:
    resting = Resting()
    resting.take([replace(ORDER, **change)], asked_ms=T0)
    resting.hear(told(T0 + 5, **change))
    assert against_long(resting) == 0


def test_the_stream_tells_of_new_ones_of_fills_and_of_the_end(resting: Resting) -> None:
    resting.hear(told(T0 + 9, order_id=2, client_order_id="tp-2"))
    assert against_long(resting) == Decimal("0.9")
    resting.hear(told(T0 + 10, status=OrderStatus.PARTIALLY_FILLED, cumulative_quantity=Decimal("0.3")))
    assert against_long(resting) == Decimal("0.7")
    resting.hear(told(T0 + 11, status=OrderStatus.CANCELED))
    resting.hear(told(T0 + 10, status=OrderStatus.PARTIALLY_FILLED, cumulative_quantity=Decimal("0.3")))
    assert against_long(resting) == Decimal("0.5"), "what comes late does not bring it back"


def test_a_read_forgets_what_it_no_longer_shows_but_nothing_that_came_after_it(resting: Resting) -> None:
    resting.hear(told(T0 + 5000, order_id=2, client_order_id="tp-2"))
    resting.hear(told(T0 + 5000, status=OrderStatus.CANCELED))
    resting.take([ORDER], asked_ms=T0 + 4000)
    assert against_long(resting) == Decimal("0.5"), "the read was asked for before both"
    resting.take([], asked_ms=T0 + 10_000)
    assert against_long(resting) == 0
