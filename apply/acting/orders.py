"""The one place from which orders leave. Accepts a SpentPair and a committed intent, nothing else."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from django.conf import settings
from msgspec import Struct

from apply.models import Order
from permits.gate.outcome import SpentPair
from permits.policy import policies
from quantum.exchange import connect
from quantum.exchange.sending import Sender
from quantum.exchange.types import OrderRequest, SendOutcome, Side

if TYPE_CHECKING:
    from quantum.exchange.binance import BinanceReader

ALLOWLIST_AGE_S = 10.0
"""Read for this plan when its entry came, at most a wait and an intent ago; here no database is asked again."""


class Desk(Struct, frozen=True):
    """The trading key's two ends, sharing one clock: what apply sends and reads with."""

    sender: Sender
    reader: BinanceReader


def open_desk() -> Desk:
    """python-binance is imported here, in the one role that trades."""
    from quantum.exchange.binance import BinanceSender

    reader = connect.reader("TRADE")
    key, secret = connect.credentials("TRADE")
    sender = BinanceSender(
        api_key=key,
        api_secret=secret,
        base_url=connect.base_url(),
        timeout_s=connect.HTTP_TIMEOUT_S,
        clock=reader.clock,
        back_off=reader.back_off,
    )
    return Desk(sender=sender, reader=reader)


class OutOfBounds(Exception):
    """An order that no permit covers. Ends in a refusal, never in a request."""


def send(sender: Sender, pair: SpentPair, order: Order) -> SendOutcome:
    """One reduce-only order, within the bounds of the pair that was spent for it (S12; decision 050 says where the
    bounds in USD, in orders a minute and by trading state are kept)."""
    _assert_bounds(pair, order)
    return sender.send(
        OrderRequest(
            symbol=order.symbol,
            side=Side(order.side),
            quantity=order.quantity,
            client_order_id=order.client_order_id,
            timestamp_ms=order.timestamp_ms,
        )
    )


def cancel(sender: Sender, order: Order) -> SendOutcome:
    """Asks the exchange to end an order of ours. It can only take quantity back, so it needs no permit; an answer
    that is lost is asked for again. Only for an id that was made of this plan."""
    ours = order.client_order_id.startswith(f"q-{order.plan_id}-")
    if settings.APPLY_MODE == "dry_run" or not ours:
        raise OutOfBounds(f"{order.client_order_id} is not an order that may be cancelled")
    return sender.cancel(symbol=order.symbol, client_order_id=order.client_order_id)


def _assert_bounds(pair: SpentPair, order: Order) -> None:
    position = pair.p33.exchange_amt or Decimal(0)
    closing = Side.SELL if position > 0 else Side.BUY
    share = abs(position) * pair.plan.step.percent / 100 if pair.plan.step else Decimal(0)
    within = (
        settings.APPLY_MODE != "dry_run"  # it promises to send nothing
        and order.plan_id == pair.plan.plan_id
        and order.symbol == pair.plan.symbol
        and policies.allows(order.symbol, age_s=ALLOWLIST_AGE_S)
        and order.side == closing
        and Decimal(0) < order.quantity <= min(pair.safe_quantity, share)
    )
    if not within:
        raise OutOfBounds(f"order {order.client_order_id} is not what its permits allow")
