"""The adapter on a real line: what it puts on the wire, and what it makes of every way to fail."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from quantum.exchange import binance, binance_client
from quantum.exchange.answers import Malformed
from quantum.exchange.binance import BackOff, BinanceReader, BinanceSender, ExchangeClock, base_url_for
from quantum.exchange.reading import Reader, ReadFailed
from quantum.exchange.sending import Sender
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
from tests.contract.scripted_line import CUT, RESET, SILENT, ScriptedLine, http, scripted_line

KEY, SECRET = "K" * 64, "S" * 64
JSON = "Content-Type: application/json"
ORDER = {
    "orderId": 1, "symbol": "BTCUSDT", "status": "FILLED", "clientOrderId": "q-1", "avgPrice": "64000.0",
    "origQty": "0.00001", "executedQty": "0.00001", "reduceOnly": True, "side": "SELL", "updateTime": 1,
}  # fmt: skip
FILLED = http(200, json.dumps(ORDER), JSON)
HTML = "<html><body>Bad Gateway</body></html>"


def request(
    client_order_id: str = "q-1", quantity: str = "0.00001", at_ms: int = 1_795_000_000_123
) -> OrderRequest:
    return OrderRequest("BTCUSDT", Side.SELL, Decimal(quantity), client_order_id, at_ms)


def sender(line: ScriptedLine, back_off: BackOff | None = None, timeout_s: float = 0.4) -> BinanceSender:
    return BinanceSender(
        api_key=KEY, api_secret=SECRET, base_url=line.base_url, timeout_s=timeout_s, back_off=back_off
    )


def reader(line: ScriptedLine, back_off: BackOff | None = None) -> BinanceReader:
    return BinanceReader(
        api_key=KEY, api_secret=SECRET, base_url=line.base_url, timeout_s=0.4, back_off=back_off
    )


def test_reader_and_sender_fit_their_ports() -> None:
    with scripted_line(FILLED) as line:
        as_reader: Reader = reader(line)
        as_sender: Sender = sender(line)
        assert as_reader is not None
        assert as_sender is not None


def test_an_order_goes_out_reduce_only_in_plain_decimals_pinned_to_its_intent() -> None:
    with scripted_line(FILLED) as line:
        assert isinstance(sender(line).send(request()), Answered)
        (body,) = line.bodies()
        signature = body.pop("signature")
        assert body == {
            "symbol": "BTCUSDT", "side": "SELL", "type": "MARKET", "quantity": "0.00001",
            "reduceOnly": "true", "newClientOrderId": "q-1", "newOrderRespType": "RESULT",
            "recvWindow": "3000", "timestamp": "1795000000123",
        }  # fmt: skip
        raw = line.requests[0].partition(b"\r\n\r\n")[2].rpartition(b"&signature=")[0]
        assert hmac.new(SECRET.encode(), raw, hashlib.sha256).hexdigest() == signature
        assert line.requests[0].startswith(b"POST /fapi/v1/order HTTP/1.1\r\n")


def test_a_pinned_timestamp_does_not_stick_to_the_next_cancel() -> None:
    with scripted_line(FILLED) as line:
        sending = sender(line)
        sending.send(request())
        sending.cancel(symbol="BTCUSDT", client_order_id="q-1")
        assert abs(int(line.bodies()[1]["timestamp"]) - time.time_ns() // 1_000_000) < 5000


@pytest.mark.parametrize("answer", [CUT, RESET, SILENT, b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{}"])
def test_a_line_that_breaks_after_the_order_left_is_unknown_and_nothing_is_sent_again(answer: bytes) -> None:
    with scripted_line(answer) as line:
        assert isinstance(sender(line).send(request()), FateUnknown)
        time.sleep(0.05)
        assert len(line.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        http(408, '{"code":-1007,"msg":"Timeout"}', JSON),
        http(408, ""),
        http(502, HTML),
        http(
            503, '{"code":-1000,"msg":"Unknown error, please check your request or try again later."}', JSON
        ),
        http(503, HTML),
        http(504, HTML),
        http(200, HTML),
        http(200, "[]", JSON),
        http(200, ""),
        http(307, "", "Location: /fapi/v1/order"),
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    ],
    ids=lambda answer: answer[:60].decode().replace("\r\n", " "),
)
def test_an_answer_nobody_can_read_is_unknown_and_nothing_is_sent_again(answer: bytes) -> None:
    with scripted_line(answer) as line:
        assert isinstance(sender(line).send(request()), FateUnknown)
        assert len(line.requests) == 1


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (
            http(200, '{"code":-2022,"msg":"ReduceOnly Order is rejected."}', JSON),
            RefusalKind.CONFLICT,
            -2022,
        ),
        (http(503, '{"code":-1000,"msg":"Service Unavailable."}', JSON), RefusalKind.BACK_OFF, -1000),
        (http(400, '{"code":-1021,"msg":"Timestamp"}', JSON), RefusalKind.CLOCK, -1021),
        (http(401, '{"code":-2015,"msg":"Invalid API-key"}', JSON), RefusalKind.ACCOUNT, -2015),
    ],
)
def test_an_error_reaches_the_caller_as_a_refusal(answer: bytes, kind: RefusalKind, code: int) -> None:
    with scripted_line(answer) as line:
        outcome = sender(line).send(request())
        assert isinstance(outcome, Refused)
        assert (outcome.kind, outcome.code) == (kind, code)


@pytest.mark.parametrize("host", ["http://127.0.0.1:1/fapi", "http://no-such-host.invalid/fapi"])
def test_no_connection_is_surely_not_sent(host: str) -> None:
    outcome = BinanceSender(api_key=KEY, api_secret=SECRET, base_url=host, timeout_s=1).send(request())
    assert isinstance(outcome, Refused)
    assert (outcome.kind, outcome.code) == (RefusalKind.BACK_OFF, LocalCode.UNREACHABLE)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_nobody_reaches_has_sent_nothing(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    host = f"{scheme}://no-such-host.invalid/fapi"
    outcome = BinanceSender(api_key=KEY, api_secret=SECRET, base_url=host, timeout_s=1).send(request())
    assert isinstance(outcome, Refused)
    assert outcome.code == LocalCode.UNREACHABLE


def test_a_kept_line_that_was_closed_while_idle_is_opened_again_without_a_second_order() -> None:
    closing = http(200, json.dumps(ORDER), JSON, "Connection: close")
    with scripted_line(closing) as line:
        sending = sender(line)
        for number in range(3):
            assert isinstance(sending.send(request()), Answered)
            assert len(line.requests) == number + 1


def test_one_line_is_kept_alive_over_many_orders() -> None:
    with scripted_line(FILLED) as line:
        sending = sender(line)
        assert all(isinstance(sending.send(request()), Answered) for _ in range(20))
        assert line.connections == 1


def test_a_proxy_in_the_environment_does_not_catch_orders_for_loopback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with scripted_line(FILLED) as line:
        assert isinstance(sender(line).send(request()), Answered)


def test_sixteen_threads_share_one_sender_and_each_order_carries_its_own_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address_of = binance_client.FuturesClient._create_futures_api_uri

    def unhurried(client: object, path: str, version: int = 1) -> object:
        time.sleep(0.001)  # between pinning the time and signing it: the others pin theirs
        return address_of(client, path, version)

    monkeypatch.setattr(binance_client.FuturesClient, "_create_futures_api_uri", unhurried)
    with scripted_line(FILLED) as line:
        sending = sender(line, timeout_s=5)
        outcomes: list[SendOutcome] = []

        def send_some(thread: int) -> None:
            for turn in range(5):
                outcomes.append(sending.send(request("q-1", at_ms=10_000 + 100 * thread + turn)))

        threads = [threading.Thread(target=send_some, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert all(isinstance(outcome, Answered) for outcome in outcomes)
        sent = sorted(int(body["timestamp"]) for body in line.bodies())
        assert sent == sorted(10_000 + 100 * thread + turn for thread in range(16) for turn in range(5))


@pytest.mark.parametrize(
    "bad",
    [request("a b"), request("a&b=c"), request(""), request("x" * 37), request(quantity="0"),
     request(quantity="-1"), request(quantity="NaN"),
     OrderRequest("BTC USDT", Side.SELL, Decimal(1), "q-1", 1)],
)  # fmt: skip
def test_a_request_that_would_break_its_signature_never_leaves(bad: OrderRequest) -> None:
    with scripted_line(FILLED) as line:
        outcome = sender(line).send(bad)
        assert isinstance(outcome, Refused)
        assert (outcome.kind, outcome.code) == (RefusalKind.REQUEST, LocalCode.UNSENDABLE)
        assert line.requests == []


@pytest.mark.parametrize(
    "answer",
    [
        http(429, '{"code":-1003,"msg":"Too many requests"}', JSON, "Retry-After: 7"),
        http(418, '{"code":-1003,"msg":"banned"}', JSON, "Retry-After: 7"),
    ],
)
def test_after_429_and_418_reader_and_sender_are_silent_until_the_named_time(answer: bytes) -> None:
    now = [1_795_000_000_000]
    clock = ExchangeClock(local_ms=lambda: now[0])
    back_off = BackOff()
    with scripted_line(answer, FILLED) as line:
        both: dict[str, Any] = {"api_key": KEY, "api_secret": SECRET, "base_url": line.base_url}
        sending = BinanceSender(**both, clock=clock, back_off=back_off)
        reading = BinanceReader(**both, clock=clock, back_off=back_off)
        first, second = sending.send(request()), sending.send(request())
        assert isinstance(first, Refused)
        assert isinstance(second, Refused)
        assert first.retry_at_ms == second.retry_at_ms == now[0] + 7000
        assert second.code == LocalCode.BACKING_OFF
        with pytest.raises(ReadFailed) as failure:
            reading.order(symbol="BTCUSDT", client_order_id="q-1")
        assert failure.value.retry_at_ms == now[0] + 7000
        assert len(line.requests) == 1
        now[0] += 7000
        assert isinstance(sending.send(request()), Answered)


def test_a_shorter_silence_never_cuts_a_longer_one() -> None:
    back_off = BackOff()
    back_off.silent(until_ms=5000)
    back_off.silent(until_ms=3000)
    assert back_off.until_ms == 5000


@pytest.mark.parametrize(("header", "known"), [("17", 17), ("-1", 5), ("", 5), ("many", 5)])
def test_the_used_weight_is_kept_and_a_senseless_one_is_not(header: str, known: int) -> None:
    back_off = BackOff(used_weight_1m=5)
    with scripted_line(http(200, json.dumps(ORDER), JSON, f"X-MBX-USED-WEIGHT-1M: {header}")) as line:
        sender(line, back_off).send(request())
    assert back_off.used_weight_1m == known


LEAKS = [
    CUT, RESET, SILENT, http(502, f"<html>{SECRET} {KEY} signature=abcdef0123</html>"),
    http(400, json.dumps({"code": -1022, "msg": f"bad {KEY}: timestamp=1&signature=abcdef0123 {SECRET}"}),
         JSON),
    http(400, json.dumps({"code": -2015, "msg": "x" * 270 + KEY}), JSON),
    http(429, json.dumps({"code": -1003, "msg": f"listenKey=pqia91 {KEY}"}), JSON),
]  # fmt: skip


@pytest.mark.parametrize("answer", [*LEAKS, None], ids=range(len(LEAKS) + 1))
def test_f14_no_failure_shows_a_key_or_a_signature(answer: bytes | None) -> None:
    with scripted_line(answer or CUT) as line:
        if answer is None:
            line.base_url = "http://127.0.0.1:1/fapi"
        outcome = sender(line).send(request())
        seen = [repr(outcome), repr(sender(line))]
        for ask in (
            BinanceReader.positions,
            lambda reading: reading.order(symbol="BTCUSDT", client_order_id="q-1"),
        ):
            with pytest.raises(ReadFailed) as failure:
                ask(reader(line))
            # What hides behind the failure counts too: a page with locals would show it.
            hidden: BaseException | None = failure.value
            while hidden is not None:
                assert isinstance(hidden, ReadFailed | Malformed)
                seen += [str(hidden), repr(vars(hidden))]
                hidden = hidden.__cause__ or hidden.__context__
        for secret in ("KKKK", "SSSS", "abcdef0123", "pqia91"):
            assert secret not in "".join(seen)


def rows(answer: object, status: int = 200) -> bytes:
    return http(status, json.dumps(answer), JSON)


POSITION = {
    "symbol": "BTCUSDT", "positionSide": "BOTH", "positionAmt": "-0.5", "entryPrice": "64000",
    "markPrice": "64001.5", "unRealizedProfit": "-0.75", "updateTime": 5,
}  # fmt: skip


def test_positions_are_signed_and_a_symbol_that_is_not_there_is_flat() -> None:
    with scripted_line(rows([POSITION])) as line:
        held = reader(line).positions()
        assert held.amount("BTCUSDT") == Decimal("-0.5")
        assert held.amount("ETHUSDT") == 0
        assert line.requests[0].startswith(b"GET /fapi/v3/positionRisk?recvWindow=3000&timestamp=")


@pytest.mark.parametrize(
    "answer",
    [
        rows({}), rows(None), rows("[]"), rows([POSITION, {}]), rows([POSITION, POSITION]),
        rows([{**POSITION, "positionSide": "LONG"}]), rows([{**POSITION, "positionAmt": "NaN"}]),
        rows([{**POSITION, "positionAmt": None}]), rows([{**POSITION, "positionAmt": True}]),
        rows({"code": -2022, "msg": "an error that came as 200"}), rows([POSITION], status=500),
        http(200, HTML), http(200, ""), http(302, ""), CUT, SILENT,
    ],
    ids=range(16),
)  # fmt: skip
def test_positions_that_came_in_part_or_not_at_all_are_unreadable_not_zero(answer: bytes) -> None:
    with scripted_line(answer) as line, pytest.raises(ReadFailed):
        reader(line).positions()


@pytest.mark.parametrize(
    ("answer", "ask"),
    [
        (rows({"dualSidePosition": "false"}), lambda one: one.hedge_mode()),
        (rows({"serverTime": "5"}), lambda one: one.sync_clock()),
        (rows({"symbols": [{"symbol": "BTCUSDT", "filters": []}]}), lambda one: one.symbol_rules()),
        (rows([{"id": 1}]), lambda one: one.trades_of_order(symbol="BTCUSDT", order_id=1)),
        (rows([{"orderId": 1}]), lambda one: one.open_orders()),
        (rows({"orderId": 1}), lambda one: one.order_by_id(symbol="BTCUSDT", order_id=1)),
    ],
)
def test_every_question_refuses_a_senseless_answer(
    answer: bytes, ask: Callable[[BinanceReader], object]
) -> None:
    with scripted_line(answer) as line, pytest.raises(ReadFailed, match="makes no sense"):
        ask(reader(line))


def test_an_order_the_exchange_does_not_know_is_none_and_any_other_error_is_a_failure() -> None:
    with scripted_line(rows({"code": -2013, "msg": "Order does not exist."}, status=400)) as line:
        assert reader(line).order(symbol="BTCUSDT", client_order_id="q-1") is None
    with scripted_line(rows({"code": -2015, "msg": "no"}, status=401)) as line:
        with pytest.raises(ReadFailed) as failure:
            reader(line).order(symbol="BTCUSDT", client_order_id="q-1")
        assert failure.value.code == -2015


def test_the_clock_offset_is_measured_in_the_middle_of_the_round_trip() -> None:
    times = iter([1000, 1100])
    with scripted_line(rows({"serverTime": 6050})) as line:
        clock = ExchangeClock(local_ms=lambda: next(times, 1100))
        reading = BinanceReader(api_key=KEY, api_secret=SECRET, base_url=line.base_url, clock=clock)
        clock.local_ms = iter([900, 1000, 1100, 1100]).__next__  # the silence check looks at it too
        assert reading.sync_clock() in (5000, 5050)
        clock.local_ms = lambda: 2000
        assert reading.now_ms() in (7000, 7050)


def test_paper_mode_takes_a_loopback_address_only() -> None:
    assert base_url_for(mode="paper", paper_url="http://127.0.0.1:8087/fapi") == "http://127.0.0.1:8087/fapi"
    for wrong in (None, "", "https://fapi.binance.com/fapi", "http://10.0.0.1:80/fapi", "http://127.0.0.1:8087",
                  "http://127.0.0.1.evil.example/fapi", "ftp://127.0.0.1/fapi"):  # fmt: skip
        with pytest.raises(ValueError, match="paper"):
            base_url_for(mode="paper", paper_url=wrong)


def test_f2_real_modes_take_their_own_host_whatever_address_paper_has() -> None:
    for mode, host in (("testnet", "testnet.binancefuture.com"), ("live", "fapi.binance.com")):
        assert base_url_for(mode=mode, paper_url="http://127.0.0.1:1/fapi") == f"https://{host}/fapi"
    with pytest.raises(ValueError, match="demo"):
        base_url_for(mode="demo")


def test_the_receive_window_of_every_client_is_three_seconds() -> None:
    assert binance.RECV_WINDOW_MS == 3000
