"""What each answer to an order means. The table is written out here a second time, on purpose."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from quantum.exchange.outcomes import OUTCOME_BY_CODE, NoReply, Reply, classify
from quantum.exchange.types import (
    Answered,
    FateUnknown,
    LocalCode,
    OrderRequest,
    RefusalKind,
    Refused,
    SendOutcome,
    Side,
)

NOW_MS = 1_795_000_000_000
REQUEST = OrderRequest("BTCUSDT", Side.SELL, Decimal("0.008"), "q-67e6da21fa9fe506-1", NOW_MS)
ORDER = {
    "orderId": 8000000001,
    "symbol": "BTCUSDT",
    "status": "FILLED",
    "clientOrderId": "q-67e6da21fa9fe506-1",
    "avgPrice": "64000.10",
    "origQty": "0.008",
    "executedQty": "0.008",
    "reduceOnly": True,
    "side": "SELL",
    "updateTime": NOW_MS,
}
UNKNOWN = "unknown"
MEANING = {
    -1000: UNKNOWN, -1006: UNKNOWN, -1007: UNKNOWN,
    -1001: "back_off", -1003: "back_off", -1008: "back_off", -1015: "back_off",
    -1021: "clock", -4116: "duplicate",
    -2011: "conflict", -2022: "conflict", -4118: "conflict",
    -1100: "request", -1102: "request", -1106: "request", -1111: "request", -1121: "request",
    -1199: "request", -1013: "request", -4003: "request", -4004: "request", -4005: "request",
    -4015: "request", -4023: "request", -4061: "request", -4120: "request", -4164: "request",
    -1022: "account", -2014: "account", -2015: "account", -4109: "account",
    -2019: "market", -2020: "market", -2021: "market", -4131: "market", -4400: "market", -4401: "market",
    # a question's answer, and codes nobody has classed yet: unknown is the safe side
    -2013: UNKNOWN, -1200: UNKNOWN, -1099: UNKNOWN, -9999: UNKNOWN,
}  # fmt: skip


def meaning(status: int, body: object, retry_after: str | None = None) -> SendOutcome:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return classify(reply=Reply(status, raw, retry_after), request=REQUEST, now_ms=NOW_MS)


def error(code: int, msg: str = "whatever it says") -> dict[str, object]:
    return {"code": code, "msg": msg}


def test_every_code_of_the_table_is_written_out_in_this_test() -> None:
    assert set(OUTCOME_BY_CODE) <= set(MEANING)


@pytest.mark.parametrize("status", [400, 500, 200])
@pytest.mark.parametrize("code", MEANING)
def test_a_code_means_the_same_whatever_status_and_text_came_with_it(code: int, status: int) -> None:
    outcome = meaning(status, error(code))
    if MEANING[code] == UNKNOWN:
        assert isinstance(outcome, FateUnknown)
    else:
        assert isinstance(outcome, Refused)
        assert outcome.kind == MEANING[code]
    assert outcome.code == code


@pytest.mark.parametrize("code", [-2022, -1111, -1003, -1001, -9999])
@pytest.mark.parametrize("status", [408, 502, 504])
def test_an_answer_of_somebody_in_between_is_unknown_whatever_code_it_carries(status: int, code: int) -> None:
    assert isinstance(meaning(status, error(code)), FateUnknown)


def test_503_service_unavailable_was_surely_not_executed() -> None:
    outcome = meaning(503, error(-1000, "Service Unavailable."))
    assert isinstance(outcome, Refused)
    assert outcome.kind is RefusalKind.BACK_OFF


@pytest.mark.parametrize(
    "body",
    [
        error(-1000, "Unknown error, please check your request or try again later."),
        error(-1000, "Something: Service Unavailable."),
        b"<html><h1>503 Service Unavailable</h1></html>",
        b"Service Unavailable.",
        b"",
    ],
)
def test_any_other_503_is_unknown(body: object) -> None:
    assert isinstance(meaning(503, body), FateUnknown)


@pytest.mark.parametrize("status", [200, 400, 500])
def test_the_words_of_a_503_count_in_a_503_only(status: int) -> None:
    assert isinstance(meaning(status, error(-1000, "Service Unavailable.")), FateUnknown)


def test_503_throttled_by_the_system_is_a_back_off() -> None:
    assert isinstance(meaning(503, error(-1008)), Refused)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"[1, 2]", b"true", b"0", b'"FILLED"', b"{}", b"<html>hello</html>",
        b"[" * 200_000, b'{"a":' * 50_000, b"\xff\xfe", b'{"code": NaN}', b'{"code": 200, "msg": "success"}',
        b'{"code": true}', b'{"code": "-2022"}', b'{"code": 0, "msg": ""}',
    ],
    ids=lambda body: body[:20].decode("latin-1"),
)  # fmt: skip
@pytest.mark.parametrize("status", [200, 400, 403, 500, 502, 301])
def test_an_answer_that_is_neither_order_nor_error_is_unknown(status: int, body: bytes) -> None:
    outcome = meaning(status, body)
    assert isinstance(outcome, FateUnknown)
    assert outcome.code is None


def test_an_order_is_answered_with_exact_numbers() -> None:
    outcome = meaning(200, ORDER)
    assert isinstance(outcome, Answered)
    assert outcome.order.executed_quantity == Decimal("0.008")
    assert outcome.order.average_price == Decimal("64000.10")


def test_a_json_number_does_not_pass_through_float() -> None:
    raw = json.dumps(ORDER).replace('"64000.10"', "64000.100000000000000001").encode()
    outcome = meaning(200, raw)
    assert isinstance(outcome, Answered)
    assert outcome.order.average_price == Decimal("64000.100000000000000001")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("clientOrderId", "q-0000000000000000-1"), ("symbol", "ETHUSDT"), ("side", "BUY"),
        ("executedQty", "0.009"), ("executedQty", "-0.008"), ("executedQty", "NaN"), ("executedQty", True),
        ("executedQty", None), ("executedQty", "1e40"), ("status", "HALF"), ("orderId", "8000000001"),
        ("orderId", True), ("reduceOnly", "true"), ("avgPrice", [1]), ("updateTime", -1),
    ],
)  # fmt: skip
def test_an_order_that_is_not_the_one_we_sent_or_makes_no_sense_is_unknown(name: str, value: object) -> None:
    assert isinstance(meaning(200, {**ORDER, name: value}), FateUnknown)


@pytest.mark.parametrize("name", sorted(ORDER))
def test_an_order_with_a_field_left_out_is_unknown(name: str) -> None:
    assert isinstance(meaning(200, {k: v for k, v in ORDER.items() if k != name}), FateUnknown)


@pytest.mark.parametrize("body", [error(-1003), error(-2015), b"<html>slow down</html>", b""])
def test_429_names_the_time_of_its_header_whatever_the_body(body: object) -> None:
    outcome = meaning(429, body, retry_after="7")
    assert isinstance(outcome, Refused)
    assert (outcome.kind, outcome.retry_at_ms) == (RefusalKind.BACK_OFF, NOW_MS + 7000)


def test_418_names_the_time_of_its_text_where_no_header_does() -> None:
    until_ms = NOW_MS + 3_600_000
    outcome = meaning(418, error(-1003, f"Way too many requests; IP(*) banned until {until_ms}. Please"))
    assert isinstance(outcome, Refused)
    assert outcome.retry_at_ms == until_ms


@pytest.mark.parametrize("retry_after", [None, "", "soon", "-5", "1e9", "999999999999", "\u0667"])
def test_a_senseless_time_becomes_the_default_of_its_status(retry_after: str | None) -> None:
    banned = meaning(418, error(-1003, "banned until 9999999999999"), retry_after=retry_after)
    limited = meaning(429, error(-1003), retry_after=retry_after)
    assert isinstance(banned, Refused)
    assert isinstance(limited, Refused)
    assert (banned.retry_at_ms, limited.retry_at_ms) == (NOW_MS + 120_000, NOW_MS + 10_000)


def test_a_line_that_broke_after_it_stood_is_unknown() -> None:
    assert isinstance(classify(reply=NoReply("cut", connected=True), now_ms=NOW_MS), FateUnknown)


def test_no_connection_at_all_was_surely_not_sent_and_has_a_code_of_its_own() -> None:
    outcome = classify(reply=NoReply("refused", connected=False), now_ms=NOW_MS)
    assert isinstance(outcome, Refused)
    assert (outcome.kind, outcome.code) == (RefusalKind.BACK_OFF, LocalCode.UNREACHABLE)
    assert outcome.code != 0


def test_foreign_text_becomes_one_short_printable_line() -> None:
    outcome = meaning(400, error(-2015, "line\nline\x1b[31m\u202e" + "x" * 5000))
    assert isinstance(outcome, Refused)
    assert outcome.text.isprintable()
    assert outcome.text.isascii()
    assert len(outcome.text) <= 300
