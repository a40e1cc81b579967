"""The reader of Binance USD-M futures: every question a part of the house may ask, and nothing that acts."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import TypeVar

import requests

from quantum.exchange import answers
from quantum.exchange.binance_client import FuturesClient
from quantum.exchange.binance_connection import Connection, Silenced, require_sendable
from quantum.exchange.outcomes import NoReply, Reply, one_line, wants_silence
from quantum.exchange.pacing import READS_SHARE_MAX, SWEEPS_SHARE_MAX
from quantum.exchange.reading import ReadFailed
from quantum.exchange.types import AlgoOrder, Income, Kline, OrderState, PositionsRead, SymbolRules, Trade

TRADES_PAGE = 1000
TRADES_PAGES_MAX = 1000
TRADES_WINDOW_MS = 7 * 24 * 3600 * 1000 - 1
ORDERS_PAGE = 1000
ORDERS_PAGES_MAX = 1000
ORDERS_WINDOW_MS = TRADES_WINDOW_MS
ORDERS_KEPT_MS = 89 * 24 * 3600 * 1000
INCOME_PAGE = 1000
INCOME_WINDOW_MS = TRADES_WINDOW_MS
INCOME_KEPT_MS = 89 * 24 * 3600 * 1000
"""What the exchange calls three months; a day less than the shortest three, so that none is cut in silence."""
NO_SUCH_LISTEN_KEY = -1125
T = TypeVar("T")


class BinanceReader(Connection):
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
        require_sendable(symbol=symbol, client_order_id=client_order_id)
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

    def orders_since(self, *, symbol: str, since_ms: int) -> list[OrderState]:
        """By windows of seven days; where a page is full, on by ids: those go with no time."""
        now_ms = self.clock.now_ms()
        if since_ms < now_ms - ORDERS_KEPT_MS:
            raise ReadFailed("orders: the exchange tells no more than the last three months")
        found: dict[int, OrderState] = {}
        start_ms, end_ms = since_ms, now_ms + 1000
        while start_ms <= end_ms:
            stop_ms = min(start_ms + ORDERS_WINDOW_MS, end_ms)
            page = self._orders(symbol=symbol, startTime=start_ms, endTime=stop_ms, limit=ORDERS_PAGE)
            found.update((one.order_id, one) for one in page)
            if len(page) >= ORDERS_PAGE:
                self._orders_after(found, symbol=symbol)
                break
            start_ms = stop_ms + 1
        return sorted(found.values(), key=lambda order: order.order_id)

    def open_orders(self) -> list[OrderState]:
        return self._list(lambda client: client.futures_get_open_orders(), answers.order_state)

    def open_algo_orders(self) -> list[AlgoOrder]:
        return self._list(lambda client: client.futures_get_open_algo_orders(), answers.algo_order)

    def income(self, since_ms: int) -> list[Income]:
        """Walked by windows, and within one by the time of its last row, asked for once more: rows of one
        millisecond may lie on both sides of a page's end."""
        now_ms = self.clock.now_ms()
        if since_ms < now_ms - INCOME_KEPT_MS:
            raise ReadFailed("income: the exchange tells no more than the last three months")
        found: dict[tuple[str, ...], Income] = {}
        start_ms, end_ms = since_ms, now_ms + 1000
        while start_ms <= end_ms:
            stop_ms = min(start_ms + INCOME_WINDOW_MS, end_ms)
            self._income_window(start_ms, stop_ms, found)
            start_ms = stop_ms + 1
        return sorted(found.values(), key=lambda row: row.time_ms)

    def klines(self, *, symbol: str, interval: str, limit: int) -> list[Kline]:
        answer = self._read(
            lambda client: client.futures_klines(symbol=symbol, interval=interval, limit=limit)
        )
        try:
            found = answers.klines(answer)
        except answers.Malformed as why:
            raise self._senseless(why) from None
        if any(later.open_ms != one.close_ms + 1 for one, later in pairwise(found)):
            raise ReadFailed("klines: a span of time is missing or came twice")
        return found

    def _income_window(self, start_ms: int, stop_ms: int, found: dict[tuple[str, ...], Income]) -> None:
        while True:
            page = self._income_page(start_ms, stop_ms)
            for row in page:
                if found.setdefault(row.identity, row) != row:
                    raise ReadFailed("income: one booking came in two versions")
            if len(page) < INCOME_PAGE:
                return
            last_ms = page[-1].time_ms
            if last_ms <= start_ms and page[0].time_ms >= last_ms:
                raise ReadFailed("income: one millisecond holds more than a page")
            start_ms = last_ms

    def _income_page(self, start_ms: int, stop_ms: int) -> list[Income]:
        params = {"startTime": start_ms, "endTime": stop_ms, "limit": INCOME_PAGE}
        page = self._list(lambda client: client.futures_income_history(**params), answers.income)
        times = [row.time_ms for row in page]
        # A row from elsewhere, or a page out of order, would make the walk skip what lies between.
        if times != sorted(times) or (times and not start_ms <= times[0] <= times[-1] <= stop_ms):
            raise ReadFailed("income: the rows are not those of the time that was asked for")
        return page

    def _order(self, **params: str | int) -> OrderState | None:
        answer = self._read(lambda client: client.futures_get_order(**params), none_on=-2013)
        if answer is None:
            return None
        try:
            return answers.order_state(answers.as_object(answer))
        except answers.Malformed as why:
            raise self._senseless(why) from None

    def _orders(self, **params: str | int) -> list[OrderState]:
        return self._list(lambda client: client.futures_get_all_orders(**params), answers.order_state)

    def _orders_after(self, found: dict[int, OrderState], *, symbol: str) -> None:
        for _ in range(ORDERS_PAGES_MAX):
            page = self._orders(symbol=symbol, orderId=max(found) + 1, limit=ORDERS_PAGE)
            found.update((one.order_id, one) for one in page)
            if len(page) < ORDERS_PAGE:
                return
        raise ReadFailed("orders: the pages do not come to an end")

    def _trades(self, **params: str | int) -> list[Trade]:
        return self._list(lambda client: client.futures_account_trades(**params), answers.trade)

    def _list(
        self,
        call: Callable[[FuturesClient], requests.Response],
        read: Callable[[dict[str, object]], T],
    ) -> list[T]:
        answer = self._read(call)
        try:
            return [read(row) for row in answers.as_rows(answer)]
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
        reply = self.ask(call)
        if isinstance(reply, Silenced):
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
        text = one_line(self.masked(f"HTTP {reply.status}, code {code}: {msg}"))
        return ReadFailed(text, code=code, retry_at_ms=until_ms)

    def _senseless(self, why: answers.Malformed) -> ReadFailed:
        return ReadFailed(f"the exchange's answer makes no sense: {why}")
