"""python-binance's own client with what it would do wrong taken out of its hands."""

from __future__ import annotations

import asyncio
import copy
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode, urlsplit

import requests
from binance.client import Client
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import get_environ_proxies
from urllib3.connection import HTTPConnection, HTTPSConnection

from quantum.exchange.hosts import LOOPBACK_HOSTS

RECV_WINDOW_MS = 3000


class _Whole(HTTPConnection):
    """A request leaves in one piece. http.client sends the head by itself: the exchange wakes for it, and waits."""

    _held: list[Any] | None = None

    def request(self, *args: Any, **options: Any) -> None:
        self._held = []
        try:
            super().request(*args, **options)
        finally:
            held, self._held = self._held, None
        self.send(b"".join(held))

    def send(self, data: Any) -> None:
        if self._held is None:
            super().send(data)
        else:
            self._held.append(data)


class _WholeTLS(_Whole, HTTPSConnection):
    pass


_IN_ONE_PIECE: dict[Any, Any] = {HTTPConnection: _Whole, HTTPSConnection: _WholeTLS}
"""Any other kind is a proxy's own (SOCKS), and stays what it is: ours would go past the proxy."""


_KEPT_ALIVE = [
    *HTTPConnection.default_socket_options,
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]
"""Exits are rare. A router that forgets a line says nothing: the next order, hours later, would wait for an answer
until its time is over, and lock its symbol. Asked every 20 s the router remembers; a line that is dead all the same is
ended by the kernel within 35 s, and the next order takes a new one."""


class _Adapter(HTTPAdapter):
    """The pool of a host is looked up, and its trust set, once: requests does both for every order, and asks the disk
    for its certificates each time. Failures are requests' own."""

    def __init__(self) -> None:
        self._pools: dict[str, Any] = {}
        super().__init__()

    def init_poolmanager(self, *sizes: Any, **options: Any) -> None:
        super().init_poolmanager(*sizes, **options, socket_options=_KEPT_ALIVE)

    def proxy_manager_for(self, proxy: Any, **options: Any) -> Any:
        return super().proxy_manager_for(proxy, **options, socket_options=_KEPT_ALIVE)

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        place = "/".join(str(request.url).split("/", 3)[:3])
        pool = self._pools.get(place)
        if pool is None:
            pool = self._pools[place] = self._made(request, verify, proxies=proxies, cert=cert)
        return pool

    def _made(self, request: requests.PreparedRequest, verify: Any, *, proxies: Any, cert: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(request, verify, proxies=proxies, cert=cert)
        super().cert_verify(pool, request.url, verify, cert)  # type: ignore[no-untyped-call]
        pool.ConnectionCls = _IN_ONE_PIECE.get(pool.ConnectionCls, pool.ConnectionCls)
        return pool

    def close(self) -> None:
        """Of a pool that is only let go of, the lines stay open until the collector comes."""
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()
        super().close()

    def cert_verify(self, *_: Any) -> None:
        """Done with the pool, which every request of this session shares."""

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """Without cookies, and without a guess at the encoding: the bytes are what is read."""
        response = requests.Response()
        response.status_code, response.reason = resp.status, resp.reason
        response.headers = CaseInsensitiveDict(resp.headers)
        response.raw, response.url, response.request = resp, str(req.url), req
        return response


class _Session(requests.Session):
    """requests prepares for cookies, logins, files, hooks and redirects, which we have none of: half of what an order
    costs us, and most of it before it leaves."""

    def __init__(self) -> None:
        super().__init__()
        for scheme in ("https://", "http://"):
            self.mount(scheme, _Adapter())

    def post(self, url: Any, data: Any = None, json: Any = None, **options: Any) -> requests.Response:
        if not data or json is not None or options.get("params") or options.get("allow_redirects", True):
            return super().post(url, data, json, **options)
        trust: dict[str, Any] = {"verify": self.verify, "cert": self.cert, "proxies": self.proxies}
        order = self.prepared(url, data, options.get("headers"))
        return self.get_adapter(url).send(order, timeout=options.get("timeout"), **trust)

    def prepared(self, url: str, data: Any, headers: Mapping[str, str] | None) -> requests.PreparedRequest:
        made = requests.PreparedRequest()
        made.method, made.url = "POST", url
        all_of_it: dict[str, Any] = {**self.headers, **(headers or {})}
        made.headers = CaseInsensitiveDict(all_of_it)
        made.body = urlencode(data)
        made.headers["Content-Length"] = str(len(made.body))
        return made


class FuturesClient(Client):  # type: ignore[misc]  # python-binance is untyped
    # Per-call recvWindow is overwritten by this class value (10000 in the parent).
    REQUEST_RECVWINDOW = RECV_WINDOW_MS

    def __init__(self, *, api_key: str, api_secret: str, base_url: str, timeout_s: float):
        # A followed redirect would be a second request, perhaps to a stranger with our key.
        options = {"timeout": timeout_s, "allow_redirects": False}
        super().__init__(api_key, api_secret, requests_params=options, ping=False)
        self.FUTURES_URL = base_url
        self.pinned_ms: int | None = None

    def for_this_thread(self) -> FuturesClient:
        """A twin with its own session: the parent's constructor makes an event loop each time."""
        twin = copy.copy(self)
        twin.session = twin._init_session()
        twin.response = None
        return twin

    def _init_session(self) -> requests.Session:
        """The environment (proxies, CA bundle) is read once here, not again at every order."""
        session = _Session()
        session.headers.update(self._get_headers())
        url = self.FUTURES_URL
        if urlsplit(url).hostname not in LOOPBACK_HOSTS:
            session.proxies.update(get_environ_proxies(url))
            session.verify = session.merge_environment_settings(url, {}, None, None, None)["verify"]
        session.trust_env = False
        return session

    def _generate_signature(self, data: dict[str, Any], uri_encode: bool = True) -> str:  # the parent's own
        # The parent has just written its own clock into data; an order carries its intent's.
        if self.pinned_ms is not None:
            data["timestamp"] = self.pinned_ms
        signature: str = super()._generate_signature(data, uri_encode)
        return signature

    @staticmethod
    def _handle_response(response: requests.Response) -> requests.Response:
        return response


def made_aside(make: Callable[[], FuturesClient]) -> FuturesClient:
    """python-binance's constructor takes or makes its thread's event loop, which we never use.

    Made in a thread of its own, it neither touches the caller's loop nor leaves one open.
    """

    def make_with_a_loop() -> FuturesClient:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            return make()
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    with ThreadPoolExecutor(max_workers=1) as aside:
        return aside.submit(make_with_a_loop).result()
