"""The user stream: websocket lines that a listen key opened, and every event sent over them.

A line opened with a key that is not (or no longer) the account's stays open and silent,
as on the exchange. Events are queued where the book changes, so their order is the book's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from aiohttp import web

from quantum.exchange.paper.changes import Step
from quantum.exchange.paper.event_rows import Event, events_of, leverage_update, listen_key_expired
from quantum.exchange.paper.listen_key import ListenKey
from quantum.exchange.paper.stream_faults import Lever, StreamFaults

PING_S = 180


@dataclass(eq=False, slots=True)
class _Line:
    request: web.BaseRequest
    socket: web.WebSocketResponse
    listen_key: str
    wrapped: bool
    """Opened as a combined stream: every event names the stream it came by."""
    queue: asyncio.Queue[tuple[float, str]] = field(default_factory=asyncio.Queue)

    def put(self, event: object, *, due: float) -> None:
        if isinstance(event, str):
            text = event
        else:
            text = json.dumps({"stream": self.listen_key, "data": event} if self.wrapped else event)
        self.queue.put_nowait((due, text))

    async def write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, text = await self.queue.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            await self.socket.send_str(text)

    def cut(self) -> None:
        if self.request.transport is not None:
            self.request.transport.abort()


def asked_listen_key(*, path: str, query: str) -> str | None:
    """None: not a path of the user stream."""
    path = path.removeprefix("/private")
    if path in ("/ws", "/stream"):
        asked = parse_qs(query)
        return (asked.get("listenKey") or asked.get("streams") or [""])[0]
    return path.removeprefix("/ws/") if path.startswith("/ws/") else None


class UserLines:
    def __init__(self, *, listen_key: ListenKey, now_ms: Callable[[], int]):
        self._listen_key = listen_key
        listen_key.tell_expired = self._tell_expired
        self._now_ms = now_ms
        self._lines: set[_Line] = set()
        self._faults = StreamFaults()
        self._watch: asyncio.TimerHandle | None = None
        self.sent = 0

    def __len__(self) -> int:
        return len(self._lines)

    async def serve(self, request: web.BaseRequest, *, listen_key: str, wrapped: bool) -> web.StreamResponse:
        if self._faults.refuses():
            return web.Response(status=503, text="Service Unavailable")
        socket = web.WebSocketResponse(heartbeat=PING_S, compress=False)
        if not socket.can_prepare(request):
            return web.Response(status=400, text="websocket only")
        await socket.prepare(request)
        line = _Line(request, socket, listen_key, wrapped)
        self._lines.add(line)
        self.look_at_listen_key()
        writer = asyncio.create_task(line.write())
        try:
            async for _ in socket:
                pass  # nothing a client says is answered; reading notices its going
        finally:
            self._lines.discard(line)
            writer.cancel()
        return socket

    def tell(self, step: Step) -> None:
        if not self._lines:
            return  # also the faster way for an order nobody listens to
        for event in events_of(step):
            for one in self._faults.passed_on(event):
                self._send(one)

    def pull(self, lever: Lever) -> None:
        match lever.do:
            case "cut":
                self.cut()
            case "expire":
                self._listen_key.expire(now_ms=self._now_ms())
            case "flood":
                for _ in range(lever.times):
                    self._send(leverage_update(symbol="BTCUSDT", leverage=20, at_ms=self._now_ms()))
            case "send":
                self._send(lever.body)
            case _:
                for event in self._faults.pull(lever):
                    self._send(event)

    def cut(self) -> None:
        for line in self._lines:
            line.cut()

    def look_at_listen_key(self) -> None:
        """Also to be called when the clock was set. One timer, and only while somebody listens."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        now_ms = self._now_ms()
        if self._lines and self._listen_key.current(now_ms=now_ms):
            left_s = (self._listen_key.until_ms - now_ms) / 1000
            self._watch = asyncio.get_running_loop().call_later(left_s, self.look_at_listen_key)

    def _tell_expired(self, listen_key: str, now_ms: int) -> None:
        expired = listen_key_expired(listen_key=listen_key, at_ms=now_ms)
        for event in self._faults.passed_on(expired):
            self._put(event, listen_key)

    def _send(self, event: Event | object) -> None:
        listen_key = self._listen_key.current(now_ms=self._now_ms())
        if listen_key:
            self._put(event, listen_key)

    def _put(self, event: object, listen_key: str) -> None:
        due = asyncio.get_running_loop().time() + self._faults.delay_ms / 1000
        for line in self._lines:
            if line.listen_key == listen_key:
                line.put(event, due=due)
                self.sent += 1
