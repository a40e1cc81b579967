"""The short way to a prepared order ends where requests' own way ends."""

from __future__ import annotations

import pytest
import requests

from quantum.exchange.binance_client import FuturesClient, made_aside

URL = "http://127.0.0.1:1"
ORDER = [
    ("symbol", "BTCUSDT"),
    ("quantity", "0.100"),
    ("newClientOrderId", "q-1/2:x_y.Z-25"),
    ("odd", "a b&c=ü%"),
]


@pytest.fixture
def session() -> requests.Session:
    client = made_aside(lambda: FuturesClient(api_key="key", api_secret="s", base_url=URL, timeout_s=1))
    made: requests.Session = client.for_this_thread().session
    return made


def test_an_order_is_prepared_as_requests_would_prepare_it(session: requests.Session) -> None:
    asked = requests.Request(
        "POST",
        f"{URL}/fapi/v1/order",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
        data=ORDER,
    )
    ours, theirs = session.prepare_request(asked), requests.Session.prepare_request(session, asked)
    assert (ours.method, ours.url, ours.body or None) == (theirs.method, theirs.url, theirs.body or None)
    assert ours.headers == theirs.headers
    assert ours.headers["X-MBX-APIKEY"] == "key"


@pytest.mark.parametrize(
    "asked",
    [
        requests.Request("GET", f"{URL}/fapi/v2/positionRisk", params="timestamp=1&signature=x"),
        requests.Request("DELETE", f"{URL}/fapi/v1/order", data=ORDER),
        requests.Request("POST", f"{URL}/fapi/v1/listenKey"),
    ],
    ids=["read", "cancel", "listen key"],
)
def test_whatever_else_is_prepared_by_requests_itself(
    session: requests.Session, asked: requests.Request
) -> None:
    ours, theirs = session.prepare_request(asked), requests.Session.prepare_request(session, asked)
    assert (ours.method, ours.url, ours.body or None) == (theirs.method, theirs.url, theirs.body or None)
    assert ours.headers == theirs.headers
