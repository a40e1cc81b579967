"""Binance USD-M futures: the reader and the sender, over python-binance (binance_client.py).

What python-binance does for us: build, sign and send one request per call over a
kept-alive session. What is taken out of its hands, because it loses what we need: reading
the answer (it turns half of the unknown ones into odd exceptions), the receive window, the
timestamp of an order, and redirects. Nothing here ever retries.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from http.client import HTTPException

import requests
from urllib3.exceptions import HTTPError

from quantum.exchange import answers
from quantum.exchange.binance_client import RECV_WINDOW_MS, FuturesClient, made_aside
from quantum.exchange.broken_lines import described, may_have_sent
from quantum.exchange.hosts import MODE_HOSTS, base_url_for
from quantum.exchange.outcomes import (
    NoReply,
    Reply,
    classify,
    one_line,
    silent_until_ms,
    wants_silence,
)
from quantum.exchange.pacing import READS_SHARE_MAX, SWEEPS_SHARE_MAX, BackOff, ExchangeClock
from quantum.exchange.reading import ReadFailed
from quantum.exchange.types import (
    FateUnknown,
    LocalCode,
    OrderRequest,
    OrderState,
    PositionsRead,
    RefusalKind,
    Refused,
    SendOutcome,
    SymbolRules,
    Trade,
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

CLIENT_ORDER_ID = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")
SYMBOL = re.compile(r"[^\W_]+(_[0-9]+)?")
TRADES_PAGE = 1000
TRADES_PAGES_MAX = 1000
TRADES_WINDOW_MS = 7 * 24 * 3600 * 1000 - 1
NO_SUCH_LISTEN_KEY = -1125
_SECRET_IN_TEXT = re.compile(r"(signature|listenKey)=[^&\s\"')]+")


@dataclass(frozen=True, slots=True)
class _Silenced:
    until_ms: int


class _Connection:
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

    def _ask(
        self, call: Callable[[FuturesClient], requests.Response], *, pinned_ms: int | None = None
    ) -> Reply | NoReply | _Silenced:
        """One HTTP request as a value. Exceptions end here: they hold signed addresses (I9)."""
        if self.back_off.until_ms > self.clock.now_ms():
            return _Silenced(self.back_off.until_ms)
        client = self._client()
        client.timestamp_offset = self.clock.offset_ms
        client.pinned_ms = pinned_ms
        try:
            response = call(client)
            # Masked before anything cuts it: half a key would slip through a later mask.
            body = self._masked_bytes(response.content)
        except (requests.RequestException, HTTPError, HTTPException, OSError, ValueError) as failure:
            return NoReply(text=self._masked(described(failure)), connected=may_have_sent(failure))
        if used := response.headers.get("X-MBX-USED-WEIGHT-1M"):
            self.back_off.note_weight(header=used, now_ms=self.clock.now_ms())
        reply = Reply(response.status_code, body, response.headers.get("Retry-After"))
        if wants_silence(reply):
            self.back_off.silent(until_ms=silent_until_ms(reply=reply, now_ms=self.clock.now_ms()))
        return reply

    def _client(self) -> FuturesClient:
        client: FuturesClient | None = getattr(self._threads, "client", None)
        if client is None:
            client = self._threads.client = self._model.for_this_thread()
        return client

    def _masked(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return _SECRET_IN_TEXT.sub(r"\1=***", text)

    def _masked_bytes(self, body: bytes) -> bytes:
        for secret in self._secrets:
            body = body.replace(secret.encode(), b"***")
        return body


class BinanceReader(_Connection):
    """Implements quantum.exchange.reading.Reader. Safe to share between threads."""

    clock_is_off = False

    def now_ms(self) -> int:
        return self.clock.now_ms()

    def sync_clock(self) -> int:
        asked_ms = self.clock.local_ms()
        answer = self._read(lambda client: client.futures_time())
        answered_ms = self.clock.local_ms()
        try:
            server_ms = answers.whole(answers.as_object(answer), "serverTime")
        except answers.Malformed as why:
            raise self._senseless(why) from None
        self.clock.offset_ms = server_ms - (asked_ms + answered_ms) // 2
        return self.clock.offset_ms

    def hedge_mode(self) -> bool:
        answer = self._read(lambda client: client.futures_get_position_mode())
        try:
            return answers.flag(answers.as_object(answer), "dualSidePosition")
        except answers.Malformed as why:
            raise self._senseless(why) from None

    def symbol_rules(self) -> dict[str, SymbolRules]:
        answer = self._read(lambda client: client.futures_exchange_info())
        try:
            info = answers.as_object(answer)
            self.back_off.weight_limit_1m = answers.weight_limit_1m(info) or self.back_off.weight_limit_1m
            return answers.rules_by_symbol(answers.as_rows(info.get("symbols")))
        except answers.Malformed as why:
            raise self._senseless(why) from None

    def sweeps_wait_until_ms(self) -> int | None:
        """Until when a sweep that is not urgent should wait, to leave weight to what is. None: go on."""
        return self._over_until_ms(SWEEPS_SHARE_MAX)

    def listen_key(self) -> str:
        """The account's key of the user stream: a new one, or the one that still lives, made young again."""
        answer = self._read(
            lambda client: client._request_futures_api("post", "listenKey", signed=False, data={})
        )
        try:
            return answers.listen_key(answers.as_object(answer))
        except answers.Malformed as why:
            raise self._senseless(why) from None

    def keep_listen_key(self, key: str) -> bool:
        """One more hour for key. False: the exchange knows it no more, or has given out another."""
        params = {"listenKey": key}
        answer = self._read(
            lambda client: client._request_futures_api("put", "listenKey", signed=False, data=params),
            none_on=NO_SUCH_LISTEN_KEY,
        )
        if answer is None:
            return False
        named = answer.get("listenKey") if isinstance(answer, dict) else None
        return named is None or named == key

    def positions(self) -> PositionsRead:
        asked_ms = self.clock.now_ms()
        answer = self._read(lambda client: client.futures_position_information())
        try:
            rows = [answers.position(row) for row in answers.as_rows(answer)]
        except answers.Malformed as why:
            raise self._senseless(why) from None
        by_symbol = {row.symbol: row for row in rows}
        if len(by_symbol) != len(rows):
            raise ReadFailed("positions: one symbol came twice")
        return PositionsRead(positions=by_symbol, asked_ms=asked_ms)

    def order(self, *, symbol: str, client_order_id: str) -> OrderState | None:
        _require_sendable(symbol=symbol, client_order_id=client_order_id)
        return self._order(symbol=symbol, origClientOrderId=client_order_id)

    def order_by_id(self, *, symbol: str, order_id: int) -> OrderState | None:
        return self._order(symbol=symbol, orderId=order_id)

    def trades_of_order(self, *, symbol: str, order_id: int) -> list[Trade]:
        return self._trades(symbol=symbol, orderId=order_id, limit=TRADES_PAGE)

    def trades_since(self, *, symbol: str, since_ms: int) -> list[Trade]:
        """Binance answers at most seven days and 1000 rows at once, so both are walked."""
        found: dict[int, Trade] = {}
        start_ms, end_ms = max(since_ms, 0), self.clock.now_ms() + 1000
        while start_ms <= end_ms:
            stop_ms = min(start_ms + TRADES_WINDOW_MS, end_ms)
            page = self._trades(symbol=symbol, startTime=start_ms, endTime=stop_ms, limit=TRADES_PAGE)
            found.update((one.trade_id, one) for one in page)
            if len(page) >= TRADES_PAGE:
                found.update(self._trades_after(symbol=symbol, trade_id=max(found)))
                break
            start_ms = stop_ms + 1
        return sorted((t for t in found.values() if t.time_ms >= since_ms), key=lambda t: t.trade_id)

    def open_orders(self) -> list[OrderState]:
        answer = self._read(lambda client: client.futures_get_open_orders())
        try:
            return [answers.order_state(row) for row in answers.as_rows(answer)]
        except answers.Malformed as why:
            raise self._senseless(why) from None

    def _order(self, **params: str | int) -> OrderState | None:
        answer = self._read(lambda client: client.futures_get_order(**params), none_on=-2013)
        if answer is None:
            return None
        try:
            return answers.order_state(answers.as_object(answer))
        except answers.Malformed as why:
            raise self._senseless(why) from None

    def _trades(self, **params: str | int) -> list[Trade]:
        answer = self._read(lambda client: client.futures_account_trades(**params))
        try:
            return [answers.trade(row) for row in answers.as_rows(answer)]
        except answers.Malformed as why:
            raise self._senseless(why) from None

    def _trades_after(self, *, symbol: str, trade_id: int) -> dict[int, Trade]:
        found: dict[int, Trade] = {}
        for _ in range(TRADES_PAGES_MAX):
            page = self._trades(symbol=symbol, fromId=trade_id + 1, limit=TRADES_PAGE)
            found.update((one.trade_id, one) for one in page)
            if len(page) < TRADES_PAGE:
                return found
            trade_id = max(found)
        raise ReadFailed("trades: the pages do not come to an end")

    def _read(
        self, call: Callable[[FuturesClient], requests.Response], *, none_on: int | None = None
    ) -> object:
        """The answer's JSON; None for the one code that means "there is none"."""
        if self.clock_is_off:  # -1021 last time, or never measured
            self.clock_is_off = False
            self.sync_clock()
        spent_until_ms = self._over_until_ms(READS_SHARE_MAX)
        if spent_until_ms is not None:  # what is left of this minute is kept for orders
            raise ReadFailed("the weight of this minute is spent", retry_at_ms=spent_until_ms)
        reply = self._ask(call)
        if isinstance(reply, _Silenced):
            raise ReadFailed("silent until the exchange's time", retry_at_ms=reply.until_ms)
        if isinstance(reply, NoReply):
            raise ReadFailed(reply.text)
        try:
            value = answers.parsed(reply.body)
        except answers.Malformed:
            raise ReadFailed(f"HTTP {reply.status}, not JSON") from None
        error = answers.error_of(value)
        if error and error[0] == -1021:
            self.clock_is_off = True
        if error and error[0] == none_on and 400 <= reply.status < 500:
            return None
        if error or not 200 <= reply.status < 300:
            raise self._refused(reply, error)
        return value

    def _over_until_ms(self, share: Fraction) -> int | None:
        if self.back_off.weight_limit_1m is None:
            return None
        return self.back_off.over_until_ms(share=share, now_ms=self.clock.now_ms())

    def _refused(self, reply: Reply, error: tuple[int, str] | None) -> ReadFailed:
        code, msg = error or (None, "")
        until_ms = self.back_off.until_ms if wants_silence(reply) else None
        text = one_line(self._masked(f"HTTP {reply.status}, code {code}: {msg}"))
        return ReadFailed(text, code=code, retry_at_ms=until_ms)

    def _senseless(self, why: answers.Malformed) -> ReadFailed:
        return ReadFailed(f"the exchange's answer makes no sense: {why}")


class BinanceSender(_Connection):
    """Implements quantum.exchange.sending.Sender. Up to 16 threads may share one."""

    def send(self, request: OrderRequest) -> SendOutcome:
        try:
            _require_sendable(symbol=request.symbol, client_order_id=request.client_order_id)
            params = _order_params(request)
        except ValueError as why:
            return Refused(RefusalKind.REQUEST, LocalCode.UNSENDABLE, str(why))
        reply = self._ask(
            lambda client: client.futures_create_order(**params), pinned_ms=request.timestamp_ms
        )
        return self._outcome(reply, request)

    def cancel(self, *, symbol: str, client_order_id: str) -> SendOutcome:
        try:
            _require_sendable(symbol=symbol, client_order_id=client_order_id)
        except ValueError as why:
            return Refused(RefusalKind.REQUEST, LocalCode.UNSENDABLE, str(why))
        reply = self._ask(
            lambda client: client.futures_cancel_order(symbol=symbol, origClientOrderId=client_order_id)
        )
        return self._outcome(reply, None)

    def _outcome(self, reply: Reply | NoReply | _Silenced, request: OrderRequest | None) -> SendOutcome:
        if isinstance(reply, _Silenced):
            text = "nothing was sent: the exchange wants silence"
            return Refused(RefusalKind.BACK_OFF, LocalCode.BACKING_OFF, text, reply.until_ms)
        outcome = classify(reply=reply, request=request, now_ms=self.clock.now_ms())
        if isinstance(outcome, Refused):
            text = self._masked(outcome.text)
            return Refused(outcome.kind, outcome.code, text, outcome.retry_at_ms)
        if isinstance(outcome, FateUnknown):
            return FateUnknown(self._masked(outcome.text), outcome.code)
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


def _require_sendable(*, symbol: str, client_order_id: str) -> None:
    """A blank or & in either would break the signature or reach into other parameters."""
    if not CLIENT_ORDER_ID.fullmatch(client_order_id):
        raise ValueError("the client order id has characters the exchange does not take")
    if not SYMBOL.fullmatch(symbol):
        raise ValueError("the symbol has characters the exchange does not use")
