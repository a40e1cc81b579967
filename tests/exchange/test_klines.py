"""Klines as the reader tells them: exact, whole and in order, or not at all."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from quantum.exchange.binance import BinanceReader
from quantum.exchange.reading import ReadFailed
from quantum.exchange.types import Kline
from tests.contract.scripted_line import ScriptedLine, http, scripted_line

AT_MS = 1_795_000_020_000
JSON = "Content-Type: application/json"


def kline(at: int, *prices: str) -> list[Any]:
    opened, high, low, closed = prices or ("100.10", "101.00", "99.50", "100.00001")
    open_ms = AT_MS + at * 60_000
    return [open_ms, opened, high, low, closed, "12.5", open_ms + 59_999, "1250.00", 7, "6", "600", "0"]


def reader(line: ScriptedLine) -> BinanceReader:
    return BinanceReader(api_key="K" * 64, api_secret="S" * 64, base_url=line.base_url, timeout_s=0.4)


def test_klines_are_exact_and_asked_for_without_a_signature() -> None:
    with scripted_line(http(200, json.dumps([kline(0), kline(1)]), JSON)) as line:
        found = reader(line).klines(symbol="BTCUSDT", interval="1m", limit=99)
        assert found[0] == Kline(
            AT_MS,
            Decimal("100.10"),
            Decimal("101.00"),
            Decimal("99.50"),
            Decimal("100.00001"),
            AT_MS + 59_999,
        )
        assert len(found) == 2
        path, _, words = line.requests[0].split(b" ")[1].partition(b"?")
        assert path == b"/fapi/v1/klines"
        assert set(words.split(b"&")) == {b"symbol=BTCUSDT", b"interval=1m", b"limit=99"}


@pytest.mark.parametrize(
    "answer",
    [
        {}, [{}], [kline(0)[:6]], [[*kline(0)[:4], "NaN", *kline(0)[5:]]], [[str(AT_MS), *kline(0)[1:]]],
        [kline(0, "100", "99", "98", "99")], [kline(0, "0", "1", "0", "1")], [kline(0), kline(2)],
        [kline(0), kline(0)], [kline(1), kline(0)], [[*kline(0)[:6], AT_MS]],
    ],
    ids=range(11),
)  # fmt: skip
def test_klines_that_contradict_themselves_or_leave_a_gap_are_no_answer(answer: object) -> None:
    with scripted_line(http(200, json.dumps(answer), JSON)) as line, pytest.raises(ReadFailed):
        reader(line).klines(symbol="BTCUSDT", interval="1m", limit=99)
