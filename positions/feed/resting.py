"""Reduce-only orders of others that rest in the book: what they will close is not ours to close any more.

The exchange counts them against a further reduce-only order. A conditional order (stop, take profit) is none of them
before it has triggered: it takes nothing from the book, and deducting it would forbid every exit of a position that is
protected by one.
"""

from __future__ import annotations

import threading
from decimal import Decimal

from msgspec import Struct

from positions.judging.difference import OWN_PREFIX
from quantum.exchange.events import OrderUpdate
from quantum.exchange.types import OrderState, Side

CLOCKS_APART_MS = 2000
"""An update of about the moment of the read is taken too: it says no more than the read, or something newer."""


class _Order(Struct, frozen=True):
    symbol: str
    side: Side
    left: Decimal


class Resting:
    """Written by the feed and by its ear, read by the Brain: each from a thread of its own."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._orders: dict[tuple[str, int], _Order] = {}
        self._heard_ms: dict[tuple[str, int], int] = {}
        """Of orders that were told of since the read was asked for, when."""

    def take(self, orders: list[OrderState], *, asked_ms: int) -> None:
        with self._guard:
            self._heard_ms = {
                key: at for key, at in self._heard_ms.items() if at > asked_ms - CLOCKS_APART_MS
            }
            kept = {key: order for key, order in self._orders.items() if key in self._heard_ms}
            read = {
                (each.symbol, each.order_id): _Order(each.symbol, each.side, left)
                for each in orders
                if each.reduce_only and not each.client_order_id.startswith(OWN_PREFIX)
                if (left := each.quantity - each.executed_quantity) > 0
            }
            self._orders = {key: order for key, order in read.items() if key not in self._heard_ms} | kept

    def hear(self, update: OrderUpdate) -> None:
        if not update.reduce_only or update.client_order_id.startswith(OWN_PREFIX):
            return
        key = update.symbol, update.order_id
        with self._guard:
            if update.transaction_ms < self._heard_ms.get(key, 0):
                return  # out of order
            self._heard_ms[key] = update.transaction_ms
            left = update.quantity - update.cumulative_quantity
            if update.status.terminal or left <= 0:
                self._orders.pop(key, None)
            else:
                self._orders[key] = _Order(update.symbol, update.side, left)

    def against(self, symbol: str, amount: Decimal) -> Decimal:
        """How much of a position of this signed amount is spoken for."""
        closes = Side.SELL if amount > 0 else Side.BUY
        with self._guard:
            orders = [each for each in self._orders.values() if (each.symbol, each.side) == (symbol, closes)]
        return sum((each.left for each in orders), Decimal(0))
