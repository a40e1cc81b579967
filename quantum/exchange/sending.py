"""The port through which orders leave. Only apply.orders may import this module."""

from __future__ import annotations

from typing import Protocol

from quantum.exchange.types import OrderRequest, SendOutcome


class Sender(Protocol):
    def send(self, request: OrderRequest) -> SendOutcome:
        """One HTTP request, never a second one. Never raises for what the exchange did."""
        ...

    def cancel(self, *, symbol: str, client_order_id: str) -> SendOutcome: ...
