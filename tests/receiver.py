"""A target of alerts on loopback: takes what is sent to it, in whatever mood the test puts it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HANGS, DRIPS = 0, 1
"""Answers that come to no end."""
DRIPS_FOR_S = 3.0


@dataclass(frozen=True)
class Got:
    method: str
    path: str
    headers: Message
    body: bytes

    @property
    def said(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class Receiver:
    url: str = ""
    answer: int = 204
    location: str = ""
    got: list[Got] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def events(self) -> list[tuple[str, str]]:
        return [(each.said["event"], each.said["kind"]) for each in self.got]


@contextmanager
def listening() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def _take(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            receiver.got.append(Got(self.command, self.path, self.headers, body))
            if receiver.answer == HANGS:
                receiver.over.wait(10)
                return
            if receiver.answer == DRIPS:
                self._drip()
                return
            self.send_response(receiver.answer)
            if receiver.location:
                self.send_header("Location", receiver.location)
            self.end_headers()

        def _drip(self) -> None:
            with suppress(OSError):
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
                end_s = time.monotonic() + DRIPS_FOR_S
                while not receiver.over.wait(0.02) and time.monotonic() < end_s:
                    self.wfile.write(b"x")
                    self.wfile.flush()

        def do_POST(self) -> None:
            self._take()

        def do_GET(self) -> None:
            self._take()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.over.set()
        server.shutdown()
        server.server_close()
