"""Klines for the exit brain: kept per symbol, asked for beside the warden's round, at most once a minute each."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Protocol

from quantum import clock
from quantum.exchange.reading import ReadFailed
from quantum.exchange.types import Kline
from quantum.log import log

LIMIT = 99
"""The exchange counts fewer than 100 as one unit of weight."""
ASK_EVERY_S = 60.0


class Asks(Protocol):
    """As much of a Reader as is needed here."""

    def now_ms(self) -> int: ...

    def sweeps_wait_until_ms(self) -> int | None: ...

    def klines(self, *, symbol: str, interval: str, limit: int) -> list[Kline]: ...


class Prices:
    def __init__(self, *, reader: Asks, interval: str, executor: Executor | None = None) -> None:
        self._reader = reader
        self._interval = interval
        # A slow exchange must not cost the warden its lease, so nobody waits for an answer here.
        self._executor = executor or ThreadPoolExecutor(max_workers=1, thread_name_prefix="klines")
        self._kept: dict[str, Sequence[Kline]] = {}
        self._next_boot_s: dict[str, float] = {}
        self._asked: dict[str, Future[list[Kline]]] = {}

    def now_ms(self) -> int:
        """The exchange's clock: the one its klines are told by."""
        return self._reader.now_ms()

    def of(self, symbol: str) -> Sequence[Kline]:
        """The closed ones that are known; none yet where the symbol is new. Asks for newer ones where they are due."""
        self._collect(symbol)
        if symbol not in self._asked and self._is_due(symbol) and self._reader.sweeps_wait_until_ms() is None:
            self._next_boot_s[symbol] = clock.boot_s() + ASK_EVERY_S
            self._asked[symbol] = self._executor.submit(self._ask, symbol)
        return self._kept.get(symbol, ())

    def _is_due(self, symbol: str) -> bool:
        if clock.boot_s() < self._next_boot_s.get(symbol, 0.0):
            return False
        kept = self._kept.get(symbol)
        if not kept:
            return True
        newest = kept[-1]
        return self.now_ms() > newest.close_ms + (newest.close_ms - newest.open_ms) + 1

    def _ask(self, symbol: str) -> list[Kline]:
        return self._reader.klines(symbol=symbol, interval=self._interval, limit=LIMIT)

    def _collect(self, symbol: str) -> None:
        answer = self._asked.get(symbol)
        if answer is None or not answer.done():
            return
        del self._asked[symbol]
        try:
            told = answer.result()
        except ReadFailed as failed:
            log.warning(f"{symbol}: klines cannot be read", error=failed)
            return
        # The newest one still moves: a score must not change with the second in which it was asked.
        self._kept[symbol] = [one for one in told if one.close_ms < self.now_ms()]
