"""A trade by the user's own hand or bot: what moves a position without going through the API."""

from __future__ import annotations

from decimal import Decimal

from quantum.exchange.paper.errors import ApiError
from quantum.exchange.paper.orders import Ticket
from quantum.exchange.paper.rows import order_json
from quantum.exchange.paper.store import Received
from quantum.exchange.paper.venue import Venue


def trade_to(
    *, venue: Venue, symbol: str, amount: Decimal, client_id: str, now_us: int
) -> dict[str, object] | None:
    """Trade at the mark price until the position is amount, as if the user had done it."""
    if symbol not in venue.market.listings:
        raise ApiError(-1121)
    change = amount - venue.holding(symbol).amount
    if change == 0:
        return None
    if change % venue.market.listings[symbol].step:
        raise ApiError(-4023)
    side = "BUY" if change > 0 else "SELL"
    ticket = Ticket(
        symbol=symbol, side=side, type="MARKET", quantity=abs(change), price=Decimal(0),
        reduce_only=False, client_id=client_id,
    )  # fmt: skip
    received = Received(now_us, "control", client_id, symbol, f"side={side}&quantity={abs(change):f}")
    order = venue.place(ticket=ticket, received=received, now_ms=now_us // 1000, by_hand=True)
    return order_json(order)
