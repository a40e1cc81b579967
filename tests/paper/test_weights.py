"""What the paper exchange counts, and how it turns away who asks too much."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from quantum.exchange.paper.weights import IGNORED_MAX, OverLimit, Weights
from tests.paper.desk import Desk

HOUR_MS = 3_600_000
ORDER = {"symbol": "BTCUSDT", "side": "SELL", "type": "MARKET", "quantity": "0.002", "reduceOnly": "true"}


@pytest.fixture
def limited(desk: Desk) -> Iterator[Desk]:
    yield desk
    desk.exchange.set_limits()


def used(headers: dict[str, str]) -> int:
    return int(headers["X-MBX-USED-WEIGHT-1M"])


@pytest.mark.parametrize(
    ("method", "path", "params", "weight"),
    [
        ("GET", "/fapi/v3/positionRisk", {}, 5), ("GET", "/fapi/v2/positionRisk", {}, 5),
        ("GET", "/fapi/v3/account", {}, 5), ("GET", "/fapi/v3/balance", {}, 5),
        ("GET", "/fapi/v1/exchangeInfo", {}, 1), ("GET", "/fapi/v1/time", {}, 1),
        ("GET", "/fapi/v1/userTrades", {"symbol": "BTCUSDT"}, 5),
        ("POST", "/fapi/v1/order", ORDER, 0),
        ("GET", "/fapi/v1/order", {"symbol": "BTCUSDT", "orderId": 1}, 1),
        ("GET", "/fapi/v1/openOrders", {"symbol": "BTCUSDT"}, 1), ("GET", "/fapi/v1/openOrders", {}, 40),
        ("POST", "/fapi/v1/listenKey", {}, 1), ("PUT", "/fapi/v1/listenKey", {}, 1),
        ("GET", "/fapi/v1/positionSide/dual", {}, 30),
    ],
)  # fmt: skip
def test_each_request_weighs_what_the_documents_say(
    limited: Desk, method: str, path: str, params: dict[str, Any], weight: int
) -> None:
    limited.exchange.set_limits()
    before = used(limited.raw("GET", "/fapi/v1/time")[2])
    after = used(limited.signed(method, path, **params)[2])
    assert after - before == weight or after == weight  # a new minute began in between


def test_above_the_limit_comes_429_with_the_time_to_wait_and_who_goes_on_is_banned(limited: Desk) -> None:
    limited.exchange.set_limits(weight_1m=10)
    (shown,) = [row["limit"] for row in limited.raw("GET", "/fapi/v1/exchangeInfo")[1]["rateLimits"]
                if row["rateLimitType"] == "REQUEST_WEIGHT"]  # fmt: skip
    assert shown == 10
    answers = [limited.raw("GET", "/fapi/v1/time") for _ in range(9 + IGNORED_MAX)]
    assert {status for status, _, _ in answers[:9]} == {200}
    for status, body, headers in answers[9:]:
        assert (status, body["code"]) == (429, -1003)
        assert 1 <= int(headers["Retry-After"]) <= 60
    status, body, headers = limited.raw("GET", "/fapi/v1/time")
    assert (status, body["code"]) == (418, -1003)
    until = re.search(r"banned until ([0-9]{13})\.", body["msg"])
    assert until is not None
    assert 0 < int(headers["Retry-After"]) <= 120
    status, body, _ = limited.signed("POST", "/fapi/v1/order", **ORDER)
    assert status == 418
    assert limited.amount_by_hand("BTCUSDT") == "1.000"


def test_orders_above_their_limit_are_refused_and_not_executed(limited: Desk) -> None:
    limited.exchange.set_limits(orders_10s=3)
    codes = [limited.signed("POST", "/fapi/v1/order", **ORDER)[1].get("code") for _ in range(5)]
    assert codes in ([None] * 3 + [-1015] * 2, [None] * 4 + [-1015], [None] * 5)  # ten seconds may turn over
    assert len([row for row in limited.exchange.log()[-5:] if row["code"] == -1015]) == codes.count(-1015)


def test_a_ban_ends_at_the_time_it_names_and_a_new_minute_starts_from_zero() -> None:
    weights, now_ms = Weights(), 600_000
    weights.set_limits({"weight_1m": 1})

    def ask(at_ms: int) -> int:
        weights.count(weight=1, is_order=False, now_ms=at_ms)
        try:
            weights.require_room(is_order=False, now_ms=at_ms)
        except OverLimit as over:
            return over.status
        return 200

    asked = [ask(now_ms) for _ in range(IGNORED_MAX + 2)]
    assert asked == [200, *[429] * IGNORED_MAX, 418]
    assert ask(now_ms + 60_000) == 418
    assert ask(now_ms + 119_999) == 418
    assert ask(now_ms + 120_000) == 200


@pytest.mark.parametrize("limits", [{"weight_1m": 0}, {"weight_1m": "9"}, {"weight": 1}])
def test_senseless_limits_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="limit"):
        Weights().set_limits(limits)
