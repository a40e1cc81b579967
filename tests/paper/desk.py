"""One running paper exchange with the product's own reader and sender, and raw HTTP beside them."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import itertools
import json
import os
import time
from decimal import Decimal
from typing import Any

from quantum.exchange.binance import BinanceReader, BinanceSender
from quantum.exchange.paper.process import PaperExchangeProcess
from quantum.exchange.types import OrderRequest, SendOutcome, Side

NUMBERS = itertools.count(1)
"""Of every desk: two clients of one exchange must not use one id."""


class Desk:
    """One running exchange with a reader and a sender, and ids that never repeat."""

    def __init__(self, exchange: PaperExchangeProcess):
        keys = exchange.keys
        self.exchange = exchange
        self.reader = BinanceReader(
            api_key=keys.read_key, api_secret=keys.read_secret, base_url=exchange.base_url
        )
        self.sender = BinanceSender(
            api_key=keys.trade_key, api_secret=keys.trade_secret, base_url=exchange.base_url, timeout_s=2
        )

    def new_id(self, prefix: str = "q") -> str:
        return f"{prefix}-{next(NUMBERS):016x}-{os.getpid()}"

    def hold(self, symbol: str, amount: str) -> None:
        self.exchange.set_position(symbol=symbol, amount=amount, client_order_id=self.new_id("entry"))

    def send(
        self, symbol: str, side: Side, quantity: str, *, client_id: str | None = None, age_ms: int = 0
    ) -> SendOutcome:
        at_ms = time.time_ns() // 1_000_000 - age_ms
        return self.sender.send(
            OrderRequest(symbol, side, Decimal(quantity), client_id or self.new_id(), at_ms)
        )

    def amount(self, symbol: str) -> Decimal:
        return self.reader.positions().amount(symbol)

    def amount_by_hand(self, symbol: str) -> str:
        """Without a request of the protocol, which may be turned away: what the control plane says."""
        held: str = self.exchange.control("GET", f"/paper/position?symbol={symbol}")["amount"]
        return held

    def signed(
        self, method: str, path: str, *, secret: str | None = None, key: str | None = None, **params: object
    ) -> tuple[int, Any, dict[str, str]]:
        params = {"timestamp": time.time_ns() // 1_000_000, **params}
        text = "&".join(f"{name}={value}" for name, value in params.items() if value is not None)
        secret = self.exchange.keys.trade_secret if secret is None else secret
        text += "&signature=" + hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
        return self.raw(method, path, text, key=self.exchange.keys.trade_key if key is None else key)

    def raw(
        self, method: str, path: str, text: str = "", *, key: str = ""
    ) -> tuple[int, Any, dict[str, str]]:
        line = http.client.HTTPConnection("127.0.0.1", self.exchange.port, timeout=5)
        try:
            line.request(method, f"{path}?{text}", headers={"X-MBX-APIKEY": key} if key else {})
            answer = line.getresponse()
            return answer.status, json.loads(answer.read()), dict(answer.headers)
        finally:
            line.close()
