"""Binance USD-M futures: the reader and the sender, over python-binance (binance_client.py).

The sender is here, the reader in binance_reader.py: whoever may not send has no need of this file.

What python-binance does for us: build, sign and send one request per call over a
kept-alive session. What is taken out of its hands, because it loses what we need: reading
the answer (it turns half of the unknown ones into odd exceptions), the receive window, the
timestamp of an order, and redirects. Nothing here ever retries.
"""

from __future__ import annotations

from quantum.exchange.binance_client import RECV_WINDOW_MS
from quantum.exchange.binance_connection import Connection, Silenced, require_sendable
from quantum.exchange.binance_reader import BinanceReader
from quantum.exchange.hosts import MODE_HOSTS, base_url_for
from quantum.exchange.outcomes import NoReply, Reply, classify
from quantum.exchange.pacing import BackOff, ExchangeClock
from quantum.exchange.types import (
    FateUnknown,
    LocalCode,
    OrderRequest,
    RefusalKind,
    Refused,
    SendOutcome,
)

__all__ = [
    "MODE_HOSTS",
    "RECV_WINDOW_MS",
    "BackOff",
    "BinanceReader",
    "BinanceSender",
    "ExchangeClock",
    "base_url_for",
]


class BinanceSender(Connection):
    """Implements quantum.exchange.sending.Sender. Up to 16 threads may share one."""

    def send(self, request: OrderRequest) -> SendOutcome:
        try:
            require_sendable(symbol=request.symbol, client_order_id=request.client_order_id)
            params = _order_params(request)
        except ValueError as why:
            return Refused(RefusalKind.REQUEST, LocalCode.UNSENDABLE, str(why))
        reply = self.ask(lambda client: client.futures_create_order(**params), pinned_ms=request.timestamp_ms)
        return self._outcome(reply, request)

    def cancel(self, *, symbol: str, client_order_id: str) -> SendOutcome:
        try:
            require_sendable(symbol=symbol, client_order_id=client_order_id)
        except ValueError as why:
            return Refused(RefusalKind.REQUEST, LocalCode.UNSENDABLE, str(why))
        reply = self.ask(
            lambda client: client.futures_cancel_order(symbol=symbol, origClientOrderId=client_order_id)
        )
        return self._outcome(reply, None)

    def _outcome(self, reply: Reply | NoReply | Silenced, request: OrderRequest | None) -> SendOutcome:
        if isinstance(reply, Silenced):
            text = "nothing was sent: the exchange wants silence"
            return Refused(RefusalKind.BACK_OFF, LocalCode.BACKING_OFF, text, reply.until_ms)
        outcome = classify(reply=reply, request=request, now_ms=self.clock.now_ms())
        if isinstance(outcome, Refused):
            text = self.masked(outcome.text)
            return Refused(outcome.kind, outcome.code, text, outcome.retry_at_ms)
        if isinstance(outcome, FateUnknown):
            self.end_line()
            return FateUnknown(self.masked(outcome.text), outcome.code)
        return outcome


def _order_params(request: OrderRequest) -> dict[str, str]:
    """Plain decimal text and "true": floats and booleans leave python-binance as 1e-05 and True."""
    if not request.quantity.is_finite() or request.quantity <= 0:
        raise ValueError("the quantity is not a positive number")
    return {
        "symbol": request.symbol,
        "side": str(request.side),
        "type": "MARKET",
        "quantity": format(request.quantity, "f"),
        "reduceOnly": "true",
        "newClientOrderId": request.client_order_id,
        "newOrderRespType": "RESULT",
    }
