"""python-binance's own client with what it would do wrong taken out of its hands."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode, urlsplit

import requests
from binance.client import Client
from requests.cookies import RequestsCookieJar
from requests.structures import CaseInsensitiveDict
from requests.utils import get_environ_proxies

from quantum.exchange.hosts import LOOPBACK_HOSTS

RECV_WINDOW_MS = 3000


class _Session(requests.Session):
    """requests prepares for cookies, logins, files and hooks, which we have none of: half of what a POST costs us."""

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        if request.method != "POST" or request.params or not request.data:
            return super().prepare_request(request)
        made = requests.PreparedRequest()
        made.method, made.url = request.method, request.url
        made.headers = CaseInsensitiveDict({**self.headers, **(request.headers or {})})
        body = urlencode(request.data)
        made.body = body
        made.headers["Content-Length"] = str(len(body))
        vars(made)["_cookies"] = RequestsCookieJar()  # a redirect's answer is read with them
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
