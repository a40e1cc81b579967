"""What happened to the account, step by step in the order it did: what the user stream tells."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct

from quantum.exchange.paper.algo import AlgoStep
from quantum.exchange.paper.book import Holding
from quantum.exchange.paper.store import StoredOrder, StoredTrade


class Account(Struct, frozen=True):
    """One symbol's position and the wallet, as a step left them."""

    holding: Holding
    balance: Decimal
    realized: Decimal
    """Of this symbol since the beginning, commission left out."""


class Fill(Struct, frozen=True):
    trade: StoredTrade
    account: Account


class OrderStep(Struct, frozen=True):
    order: StoredOrder
    """As it stood after this step."""
    execution: str
    """NEW, TRADE, CANCELED, EXPIRED, or CALCULATED: the exchange's own liquidation."""
    at_ms: int
    fill: Fill | None = None


class WalletStep(Struct, frozen=True):
    """Money that moved without an order."""

    reason: str
    change: Decimal
    balance: Decimal
    at_ms: int


class LeverageStep(Struct, frozen=True):
    symbol: str
    leverage: int
    at_ms: int


Step = OrderStep | WalletStep | LeverageStep | AlgoStep
