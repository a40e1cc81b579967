"""One key's line to Binance: what the reader and the sender share. One request, one value, never a retry."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPException

import requests
from msgspec import Struct
from urllib3.exceptions import HTTPError

from quantum.exchange.binance_client import FuturesClient, made_aside
from quantum.exchange.broken_lines import described, may_have_sent
from quantum.exchange.outcomes import NoReply, Reply, silent_until_ms, wants_silence
from quantum.exchange.pacing import BackOff, ExchangeClock

CLIENT_ORDER_ID = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")
SYMBOL = re.compile(r"[^\W_]+(_[0-9]+)?")
_SECRET_IN_TEXT = re.compile(r"(signature|listenKey)=[^&\s\"')]+")


class Silenced(Struct, frozen=True):
    until_ms: int


class Connection:
    """What reader and sender share: clients per thread, clock, silence and masking."""

    def __init__(
        self,
        *,
        api_key: str,
        api_secret: str,
        base_url: str,
        timeout_s: float = 4,
        clock: ExchangeClock | None = None,
        back_off: BackOff | None = None,
    ):
        self._model = made_aside(
            lambda: FuturesClient(
                api_key=api_key, api_secret=api_secret, base_url=base_url, timeout_s=timeout_s
            )
        )
        self._threads = threading.local()
        self._secrets = tuple(secret for secret in (api_key, api_secret) if secret)
        self.clock = clock or ExchangeClock()
        self.back_off = back_off or BackOff()

    def ask(
        self, call: Callable[[FuturesClient], requests.Response], *, pinned_ms: int | None = None
    ) -> Reply | NoReply | Silenced:
        """One HTTP request as a value. Exceptions end here: they hold signed addresses (I9)."""
        if self.back_off.until_ms > self.clock.now_ms():
            return Silenced(self.back_off.until_ms)
        client = self._client()
        client.timestamp_offset = self.clock.offset_ms
        client.pinned_ms = pinned_ms
        try:
            response = call(client)
            # Masked before anything cuts it: half a key would slip through a later mask.
            body = self._masked_bytes(response.content)
        except (requests.RequestException, HTTPError, HTTPException, OSError, ValueError) as failure:
            return NoReply(text=self.masked(described(failure)), connected=may_have_sent(failure))
        if used := response.headers.get("X-MBX-USED-WEIGHT-1M"):
            self.back_off.note_weight(header=used, now_ms=self.clock.now_ms())
        if response.status_code < HTTPStatus.OK:  # 103 and its like: the answer itself is still to come
            self.end_line()
        reply = Reply(response.status_code, body, response.headers.get("Retry-After"))
        if wants_silence(reply):
            self.back_off.silent(until_ms=silent_until_ms(reply=reply, now_ms=self.clock.now_ms()))
        return reply

    def _client(self) -> FuturesClient:
        client: FuturesClient | None = getattr(self._threads, "client", None)
        if client is None:
            client = self._threads.client = self._model.for_this_thread()
        return client

    def end_line(self) -> None:
        """This thread's. Where an answer was not the one that was asked for, the one that comes next may not be
        either, and a refusal does not say whose it is: an order that was filled would be taken for refused."""
        client: FuturesClient | None = getattr(self._threads, "client", None)
        if client is not None:
            client.session.close()
            self._threads.client = None

    def masked(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return _SECRET_IN_TEXT.sub(r"\1=***", text)

    def _masked_bytes(self, body: bytes) -> bytes:
        for secret in self._secrets:
            body = body.replace(secret.encode(), b"***")
        return body


def require_sendable(*, symbol: str, client_order_id: str) -> None:
    """A blank or & in either would break the signature or reach into other parameters."""
    if not CLIENT_ORDER_ID.fullmatch(client_order_id):
        raise ValueError("the client order id has characters the exchange does not take")
    if not SYMBOL.fullmatch(symbol):
        raise ValueError("the symbol has characters the exchange does not use")
