"""The user stream as a client of the exchange sees it: the real python-binance, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

from binance import AsyncClient, BinanceSocketManager

from quantum.exchange.paper.process import PaperExchangeProcess

Event = dict[str, Any]
SEEN_S_MAX = 10
LOOK_S = 0.2


class Listener:
    """Collects every message python-binance hands out, its own error notes too. A context manager."""

    def __init__(self, exchange: PaperExchangeProcess, *, slow: bool = False):
        self._exchange = exchange
        self.slow = slow
        self.events: list[Event] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._stop = asyncio.Event()
        self.failure: Exception | None = None
        self._socket: Any = None

    def names(self) -> list[str]:
        return [event["e"] for event in self.events]

    def orders(self) -> list[Event]:
        return [event["o"] for event in self.events if event["e"] == "ORDER_TRADE_UPDATE"]

    def queued(self) -> int:
        """Messages the library holds that nobody has taken."""
        return int(self._socket._queue.qsize())

    def wait(self, done: Callable[[], object], *, within_s: float = SEEN_S_MAX) -> None:
        deadline = time.monotonic() + within_s
        while not done():
            assert time.monotonic() < deadline, f"not seen in time; came so far: {self.names()}"
            time.sleep(0.01)

    def wait_for(self, count: int) -> list[Event]:
        self.wait(lambda: len(self.events) >= count)
        return self.events

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self._loop.close()

    async def _listen(self) -> None:
        class Client(AsyncClient):  # type: ignore[misc]  # the library ships no types
            FUTURES_URL = self._exchange.base_url

        class Sockets(BinanceSocketManager):  # type: ignore[misc]
            FSTREAM_URL = self._exchange.stream_url

        client = Client(self._exchange.keys.read_key, self._exchange.keys.read_secret)
        socket = Sockets(client).futures_user_socket()
        self._socket = socket
        socket.TIMEOUT = LOOK_S  # leaving waits for the library's read loop to look up once more
        try:
            async with socket:
                await self._until_stopped(self._collect(socket))
        except Exception as error:  # noqa: BLE001 - shown to the test, which runs in another thread
            self.failure = error
        finally:
            await client.close_connection()

    async def _collect(self, socket: Any) -> None:
        while True:
            while self.slow:
                await asyncio.sleep(0.01)
            self.events.append(await socket.recv())

    async def _until_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        task, stop = asyncio.create_task(work), asyncio.create_task(self._stop.wait())
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if task.done():
            task.result()
        task.cancel()

    def __enter__(self) -> Self:
        before = self._exchange.stream()["lines"]
        self._thread.start()
        self.wait(lambda: self._exchange.stream()["lines"] > before or self.failure)
        assert self.failure is None, self.failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(SEEN_S_MAX)
        assert not self._thread.is_alive()
