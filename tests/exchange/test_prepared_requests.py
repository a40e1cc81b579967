"""The short way to a prepared order ends where requests' own way ends."""

from __future__ import annotations

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
import requests
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool

from quantum.exchange.binance_client import FuturesClient, made_aside
from tests.faults.unreachable import own_certificate

URL = "http://127.0.0.1:1"
ORDER = [
    ("symbol", "BTCUSDT"),
    ("quantity", "0.100"),
    ("newClientOrderId", "q-1/2:x_y.Z-25"),
    ("odd", "a b&c=ü%"),
]


@pytest.fixture
def session() -> Any:
    client = made_aside(lambda: FuturesClient(api_key="key", api_secret="s", base_url=URL, timeout_s=1))
    return client.for_this_thread().session


def test_an_order_is_prepared_as_requests_would_prepare_it(session: Any) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    asked = requests.Request("POST", f"{URL}/fapi/v1/order", headers=headers, data=ORDER)
    ours, theirs = session.prepared(asked.url, ORDER, headers), session.prepare_request(asked)
    assert (ours.method, ours.url, ours.body) == (theirs.method, theirs.url, theirs.body)
    assert ours.headers == theirs.headers
    assert ours.headers["X-MBX-APIKEY"] == "key"


@pytest.mark.parametrize(
    ("data", "options"),
    [(None, {"allow_redirects": False}), (ORDER, {}), (ORDER, {"allow_redirects": False, "params": "a=1"})],
    ids=["listen key", "one that may be sent on", "one with parameters"],
)
def test_whatever_else_is_posted_is_posted_by_requests_itself(
    session: Any, monkeypatch: pytest.MonkeyPatch, data: Any, options: dict[str, Any]
) -> None:
    posted = list[Any]()
    monkeypatch.setattr(requests.Session, "post", lambda *given, **_: posted.append(given[2]))
    session.post(f"{URL}/fapi/v1/order", data=data, **options)
    assert posted == [data]


def test_the_trust_of_a_host_is_set_once_and_as_requests_sets_it(session: Any) -> None:
    theirs, order = requests.Session(), requests.PreparedRequest()
    order.url = "https://fapi.example/fapi/v1/order"
    adapters: list[Any] = [each.get_adapter(order.url) for each in (session, theirs)]
    pools = [adapter.get_connection_with_tls_context(order, True) for adapter in adapters]
    adapters[1].cert_verify(pools[1], order.url, True, None)
    ours, those = (
        (pool.host, pool.port, pool.cert_reqs, pool.ca_certs, pool.conn_kw.get("ca_certs")) for pool in pools
    )
    assert ours == those
    assert ours[2] == "CERT_REQUIRED"
    again = requests.PreparedRequest()
    again.url = "https://fapi.example/fapi/v1/openOrders"
    assert session.get_adapter(again.url).get_connection_with_tls_context(again, True) is pools[0]
    again.url = "https://other.example/fapi/v1/order"
    assert session.get_adapter(again.url).get_connection_with_tls_context(again, True) is not pools[0]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_request_leaves_in_one_piece(session: Any, scheme: str, tmp_path: Path) -> None:
    """A head that comes alone wakes the exchange for nothing."""
    trust = None
    if scheme == "https":
        session.verify = str(own_certificate(tmp_path))
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trust.load_cert_chain(session.verify)
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as exchange:
        heard = exchange.submit(_first_piece, server, trust)
        url = f"{scheme}://localhost:{server.getsockname()[1]}/fapi/v1/order"
        answer = session.post(url, data=ORDER, allow_redirects=False, timeout=2)
        assert (answer.status_code, answer.content) == (200, b"{}")
        head, _, body = heard.result(2).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /fapi/v1/order HTTP/1.1")
    assert body == session.prepared(url, ORDER, None).body.encode()


@pytest.mark.parametrize("proxy", [False, True], ids=["straight", "through a proxy"])
def test_a_line_that_rests_between_two_rare_exits_is_asked_whether_it_lives(
    session: Any, proxy: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as exchange:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/fapi/v1/order"
        if proxy:
            session.proxies.update(http=url.removesuffix("/fapi/v1/order"))
            url = "http://fapi.example/fapi/v1/order"
        heard = exchange.submit(_first_piece, server, None)
        assert session.post(url, data=ORDER, allow_redirects=False, timeout=2).content == b"{}"
        heard.result(2)
        [pool] = session.get_adapter(url)._pools.values()
        line = next(each for each in pool.pool.queue if each is not None).sock
        asked = [line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)]
        for what in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_NODELAY):
            asked.append(line.getsockopt(socket.IPPROTO_TCP, what))
    assert asked == [1, 20, 5, 3, 1]


def test_a_host_that_shows_the_certificate_of_another_gets_no_order(session: Any, tmp_path: Path) -> None:
    session.verify = str(own_certificate(tmp_path))  # trusted, and made out to localhost
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trust.load_cert_chain(session.verify)
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as exchange:
        heard = exchange.submit(_first_piece, server, trust)
        with pytest.raises(requests.exceptions.SSLError, match="IP address mismatch"):
            session.post(
                f"https://127.0.0.1:{server.getsockname()[1]}/", data=ORDER, allow_redirects=False, timeout=2
            )
        assert isinstance(heard.exception(2), ssl.SSLError)


def _first_piece(server: socket.socket, trust: ssl.SSLContext | None) -> bytes:
    line, _ = server.accept()
    with trust.wrap_socket(line, server_side=True) if trust else line as line:
        heard = line.recv(65_536)
        line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        return heard


def test_a_request_whose_first_half_failed_holds_nothing_back_for_the_next(session: Any) -> None:
    order = session.prepared(f"{URL}/fapi/v1/order", ORDER, None)
    pool = session.get_adapter(order.url).get_connection_with_tls_context(order, True)
    line = pool.ConnectionCls(host="127.0.0.1", port=1)
    with pytest.raises(HTTPException, match="control characters"):
        line.request("POST", "/with a\nline", body=b"lost")
    assert line._held is None


@pytest.mark.parametrize("url", ["http://fapi.example/", "https://fapi.example/"])
def test_a_line_through_a_proxy_of_another_kind_stays_the_proxys(
    session: Any, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    class Socks:
        pass

    for kind in (HTTPConnectionPool, HTTPSConnectionPool):
        monkeypatch.setattr(kind, "ConnectionCls", Socks)
    order = session.prepared(url, ORDER, None)
    assert session.get_adapter(url).get_connection_with_tls_context(order, True).ConnectionCls is Socks


def test_a_session_that_was_closed_has_no_line_open_and_makes_new_ones(session: Any) -> None:
    order = session.prepared(f"{URL}/fapi/v1/order", ORDER, None)
    adapter = session.get_adapter(order.url)
    pool = adapter.get_connection_with_tls_context(order, True)
    session.close()
    assert pool.pool is None
    assert adapter.get_connection_with_tls_context(order, True).pool is not None
