"""One line of the user stream through python-binance's socket manager.

What it does for us: the address with its routing, TLS, proxies, one connection. What is taken out of its
hands: its JSON (floats), its log lines (they hold the key), its own reconnecting, its timer for the
key, and its loop that reads (two timers, a queue and a task for each message; it ends with messages still
queued). We read from the connection itself. The first sign of trouble ends this line; user_stream.py builds the next.
"""

from __future__ import annotations

import logging
from typing import Any, Final
from urllib.parse import urlsplit

from binance.ws.keepalive_websocket import KeepAliveWebsocket
from binance.ws.streams import BinanceSocketManager
from websockets.exceptions import WebSocketException

from quantum.exchange.hosts import LOOPBACK_HOSTS
from quantum.exchange.inbox import GapReason
from quantum.exchange.user_stream import LineBroken

OPEN_S = 5.0
NEVER_S: Final = 10.0**8

# Nothing of the library's talk: "Closing Websocket <address with the key>", whole messages, and worse.
# Made by hand, so that no logging configuration of anybody can switch it on.
_QUIET = logging.Logger("nobody", level=logging.CRITICAL + 1)  # noqa: LOG001 # for that reason


class _KeyInHand:
    """Stands where the manager wants its REST client: the key is asked for and kept alive elsewhere."""

    tld = "com"
    testnet = demo = False
    https_proxy = None

    def __init__(self, key: str):
        self._key = key

    async def futures_stream_get_listen_key(self) -> str:
        return self._key


class BinanceLine:
    """Implements quantum.exchange.user_stream.Line."""

    def __init__(self, *, stream_url: str):
        self._stream_url = stream_url
        self._socket: Any = None

    async def open(self, key: str) -> None:
        manager = BinanceSocketManager(_KeyInHand(key), user_timeout=NEVER_S)
        manager.FSTREAM_URL = self._stream_url
        # Pings are ours (user_stream.py). What is meant for loopback goes through no proxy.
        manager.ws_kwargs = {"ping_interval": None, "open_timeout": OPEN_S, "logger": _QUIET}
        if urlsplit(self._stream_url).hostname in LOOPBACK_HOSTS:
            manager.ws_kwargs["proxy"] = None
        socket: KeepAliveWebsocket = manager.futures_user_socket()
        socket._log = _QUIET
        socket._handle_read_loop = True  # it starts one where it has none
        self._socket = socket
        try:
            await socket.connect()
        except (OSError, TimeoutError, EOFError, WebSocketException) as failure:
            raise LineBroken(GapReason.LOST, type(failure).__name__) from None
        finally:
            socket._handle_read_loop = None  # its close() would wait for the end of one

    async def next_message(self) -> bytes:
        """Strictly read later, by events.py. What came before the end of the line comes out before it."""
        try:
            message: bytes = await self._socket.ws.recv(decode=False)
        except (OSError, WebSocketException) as failure:
            raise LineBroken(GapReason.LOST, type(failure).__name__) from None
        return message

    async def ping(self) -> None:
        connection = self._socket.ws
        if connection is None:
            raise LineBroken(GapReason.LOST)
        try:
            await (await connection.ping())
        except (OSError, WebSocketException) as failure:
            raise LineBroken(GapReason.LOST, type(failure).__name__) from None

    async def close(self) -> None:
        if self._socket is None:
            return
        try:
            await self._socket.close()
        except (OSError, WebSocketException) as failure:
            raise LineBroken(GapReason.LOST, type(failure).__name__) from None
