"""What happened to the account, step by step in the order it did: what the user stream tells."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from quantum.exchange.paper.algo import AlgoStep
from quantum.exchange.paper.book import Holding
from quantum.exchange.paper.store import StoredOrder, StoredTrade


@dataclass(frozen=True, slots=True)
class Account:
    """One symbol's position and the wallet, as a step left them."""

    holding: Holding
    balance: Decimal
    realized: Decimal
    """Of this symbol since the beginning, commission left out."""


@dataclass(frozen=True, slots=True)
class Fill:
    trade: StoredTrade
    account: Account


@dataclass(frozen=True, slots=True)
class OrderStep:
    order: StoredOrder
    """As it stood after this step."""
    execution: str
    """NEW, TRADE, CANCELED, EXPIRED, or CALCULATED: the exchange's own liquidation."""
    at_ms: int
    fill: Fill | None = None


@dataclass(frozen=True, slots=True)
class WalletStep:
    """Money that moved without an order."""

    reason: str
    change: Decimal
    balance: Decimal
    at_ms: int


@dataclass(frozen=True, slots=True)
class LeverageStep:
    symbol: str
    leverage: int
    at_ms: int


Step = OrderStep | WalletStep | LeverageStep | AlgoStep
