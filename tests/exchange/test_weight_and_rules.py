"""What a minute may cost, symbol rules that age or break, and listen keys: on a real line."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction
from typing import Any
from urllib.parse import parse_qs

import pytest

from quantum.exchange.binance import BackOff, BinanceReader, BinanceSender, ExchangeClock
from quantum.exchange.outcomes import OUTCOME_BY_CODE, RULES_CODES, Reply, classify, rules_may_be_old
from quantum.exchange.reading import ReadFailed
from quantum.exchange.types import Answered, FateUnknown, OrderRequest, RefusalKind, Side
from tests.contract.scripted_line import CUT, ScriptedLine, http, scripted_line

KEY, SECRET = "K" * 64, "S" * 64
JSON = "Content-Type: application/json"
MINUTE_MS = 60_000
START_MS = 1_795_000_020_000
LISTING: dict[str, Any] = {
    "symbol": "SOLUSDT",
    "filters": [
        {"filterType": "LOT_SIZE", "stepSize": "0.1", "minQty": "0.1", "maxQty": "90000"},
        {"filterType": "MARKET_LOT_SIZE", "stepSize": "1", "minQty": "1", "maxQty": "5000"},
        {"filterType": "PRICE_FILTER", "tickSize": "0.0100"},
        {"filterType": "MIN_NOTIONAL", "notional": "5"},
    ],
}
LIMITS = [
    {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 7},
    {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 300},
]


def answer(body: object, *, weight: int | None = None, status: int = 200) -> bytes:
    headers = [JSON] if weight is None else [JSON, f"X-MBX-USED-WEIGHT-1M: {weight}"]
    return http(status, json.dumps(body), *headers)


def info(*listings: object, weight: int | None = None) -> bytes:
    return answer({"rateLimits": LIMITS, "symbols": list(listings)}, weight=weight)


@contextmanager
def reading(*answers: bytes, now: list[int] | None = None) -> Iterator[tuple[BinanceReader, ScriptedLine]]:
    moment = now or [START_MS]
    with scripted_line(*answers) as line:
        clock = ExchangeClock(local_ms=lambda: moment[0])
        yield (
            BinanceReader(api_key=KEY, api_secret=SECRET, base_url=line.base_url, timeout_s=0.4, clock=clock),
            line,
        )


def test_above_a_third_of_a_minutes_weight_sweeps_wait_for_the_next_minute() -> None:
    now = [START_MS]
    with reading(info(LISTING, weight=100), answer([], weight=101), now=now) as (reader, _line):
        reader.symbol_rules()
        assert reader.sweeps_wait_until_ms() is None
        reader.positions()
        assert reader.sweeps_wait_until_ms() == (START_MS // MINUTE_MS + 1) * MINUTE_MS
        now[0] += MINUTE_MS
        assert reader.sweeps_wait_until_ms() is None, (
            "what an earlier minute used says nothing about this one"
        )


def test_above_four_fifths_every_read_waits_but_an_order_still_leaves() -> None:
    now = [START_MS]
    back_off, clock = BackOff(), ExchangeClock(local_ms=lambda: now[0])
    filled = {
        "orderId": 1, "symbol": "SOLUSDT", "status": "FILLED", "clientOrderId": "q-1", "avgPrice": "151",
        "origQty": "2", "executedQty": "2", "reduceOnly": True, "side": "SELL", "updateTime": 1,
    }  # fmt: skip
    with scripted_line(info(LISTING, weight=241), answer(filled), answer([])) as line:
        both: dict[str, Any] = {"api_key": KEY, "api_secret": SECRET, "base_url": line.base_url}
        reader = BinanceReader(**both, clock=clock, back_off=back_off)
        sender = BinanceSender(**both, clock=clock, back_off=back_off)
        reader.symbol_rules()
        with pytest.raises(ReadFailed, match="weight") as refused:
            reader.positions()
        assert refused.value.retry_at_ms == (START_MS // MINUTE_MS + 1) * MINUTE_MS
        assert len(line.requests) == 1, "nothing was asked"
        outcome = sender.send(OrderRequest("SOLUSDT", Side.SELL, Decimal(2), "q-1", START_MS))
        assert isinstance(outcome, Answered)
        now[0] += MINUTE_MS
        assert reader.positions().positions == {}


@pytest.mark.parametrize("limits", [[], [{"rateLimitType": "ORDERS"}]])
def test_without_a_limit_nothing_is_held_back_by_a_guess(limits: list[object]) -> None:
    known = answer({"rateLimits": limits, "symbols": [LISTING]}, weight=1_000_000)
    with reading(known) as (reader, _line):
        assert set(reader.symbol_rules()) == {"SOLUSDT"}
        assert reader.sweeps_wait_until_ms() is None


@pytest.mark.parametrize("used", ["-1", "", "lots", "9" * 5000])
def test_a_weight_that_makes_no_sense_is_not_kept(used: str) -> None:
    back_off = BackOff(used_weight_1m=5, weight_limit_1m=2400)
    back_off.note_weight(header=used, now_ms=START_MS)
    assert back_off.used_weight_1m in (5, 999_999_999)
    assert Fraction(back_off.used_weight_1m or 0).denominator == 1


@pytest.mark.parametrize("status", [200, 400, 403, 503])
def test_too_many_requests_is_silence_for_everybody_whatever_status_it_came_with(status: int) -> None:
    told = answer(
        {"code": -1003, "msg": f"Way too many requests; banned until {START_MS + 7000}."}, status=status
    )
    now = [START_MS]
    with reading(told, answer([]), now=now) as (reader, line):
        for _ in range(3):
            with pytest.raises(ReadFailed) as refused:
                reader.positions()
            assert refused.value.retry_at_ms == START_MS + 7000
        assert len(line.requests) == 1
        now[0] += 7000
        assert reader.positions().positions == {}


@pytest.mark.parametrize("code", [-1001, -1008, -1015, -2022])
def test_another_refusal_silences_nobody(code: int) -> None:
    with reading(answer({"code": code, "msg": "-1003"}, status=400), answer([])) as (reader, _line):
        with pytest.raises(ReadFailed):
            reader.positions()
        assert reader.positions().positions == {}


# ---- symbol rules


def test_a_symbol_whose_filters_cannot_be_read_is_unknown_and_harms_no_other() -> None:
    broken = [{"symbol": "OLDUSDT", "filters": []}, {"symbol": 5}, {**LISTING, "symbol": ""}, {}]
    with reading(info(LISTING, *broken)) as (reader, _line):
        assert set(reader.symbol_rules()) == {"SOLUSDT"}


def test_a_symbol_that_is_gone_is_gone_from_the_next_answer() -> None:
    with reading(info(LISTING, {**LISTING, "symbol": "ADAUSDT"}), info(LISTING)) as (reader, _line):
        assert "ADAUSDT" in reader.symbol_rules()
        assert reader.symbol_rules().get("ADAUSDT") is None


def test_an_answer_in_which_no_symbol_can_be_read_is_no_answer() -> None:
    with reading(info({"symbol": "SOLUSDT", "filters": []})) as (reader, _line), pytest.raises(ReadFailed):
        reader.symbol_rules()


@pytest.mark.parametrize("code", sorted(RULES_CODES))
def test_a_refusal_that_old_rules_can_cause_asks_for_new_ones(code: int) -> None:
    reply = Reply(400, json.dumps({"code": code, "msg": "no"}).encode())
    outcome = classify(reply=reply, now_ms=START_MS)
    assert getattr(outcome, "kind", None) is RefusalKind.REQUEST
    assert rules_may_be_old(outcome)


def test_no_other_answer_asks_for_new_rules() -> None:
    for code in set(OUTCOME_BY_CODE) - RULES_CODES:
        reply = Reply(400, json.dumps({"code": code, "msg": "no"}).encode())
        assert not rules_may_be_old(classify(reply=reply, now_ms=START_MS))
    assert not rules_may_be_old(FateUnknown("cut"))


def test_a_symbol_in_another_script_goes_out_signed_over_the_text_that_was_sent() -> None:
    symbol = "币安人生USDT"
    listing = {**LISTING, "symbol": symbol}
    with reading(info(listing), answer({"code": -2013, "msg": "none"}, status=400)) as (reader, line):
        assert symbol in reader.symbol_rules()
        assert reader.order(symbol=symbol, client_order_id="q-1") is None
        query = line.requests[-1].split(b" ")[1].decode().partition("?")[2]
        signed, _, signature = query.rpartition("&signature=")
        assert parse_qs(signed)["symbol"] == [symbol]
        assert hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).hexdigest() == signature


# ---- listen keys


def test_a_listen_key_is_made_and_kept_with_the_read_key_alone() -> None:
    with reading(answer({"listenKey": "pq1a"}), answer({}), answer({"listenKey": "pq1a"})) as (reader, line):
        assert reader.listen_key() == "pq1a"
        assert reader.keep_listen_key("pq1a")
        assert reader.keep_listen_key("pq1a")
        assert [one.split(b" ")[0] for one in line.requests] == [b"POST", b"PUT", b"PUT"]
        assert all(KEY.encode() in one and b"signature" not in one for one in line.requests)


@pytest.mark.parametrize(
    "told",
    [
        answer({"code": -1125, "msg": "This listenKey does not exist."}, status=400),
        answer({"listenKey": "other"}),
    ],
)
def test_a_key_that_ended_or_was_replaced_is_told(told: bytes) -> None:
    with reading(told) as (reader, _line):
        assert not reader.keep_listen_key("pq1a")


@pytest.mark.parametrize(
    "told", [CUT, answer({}), answer([]), answer({"listenKey": ""}), answer({"listenKey": "a/../b?x=1"})]
)
def test_a_senseless_listen_key_is_refused_and_never_shown(told: bytes) -> None:
    with reading(told) as (reader, _line), pytest.raises(ReadFailed) as refused:
        reader.listen_key()
    assert "a/../b" not in str(refused.value)
