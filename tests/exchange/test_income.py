"""Bookings page by page, on a real line: nothing is lost between pages, nothing senseless gets through."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from quantum.exchange import binance_reader
from quantum.exchange.binance_reader import BinanceReader
from quantum.exchange.pacing import ExchangeClock
from quantum.exchange.reading import ReadFailed
from tests.contract.scripted_line import http, scripted_line

NOW_MS = 1_795_000_020_000


def row(tran_id: int, at_ms: int, **fields: Any) -> dict[str, Any]:
    own = {"symbol": "SOLUSDT", "incomeType": "FUNDING_FEE", "income": "-0.5", "asset": "USDT", "info": "",
           "tradeId": ""}  # fmt: skip
    return {**own, "time": NOW_MS + at_ms, "tranId": tran_id, **fields}


def read(*pages: list[dict[str, Any]], since_ms: int = NOW_MS - 50) -> tuple[list[str], list[int]]:
    """The ids found, and from when each page was asked for."""
    with scripted_line(
        *(http(200, json.dumps(page), "Content-Type: application/json") for page in pages)
    ) as line:
        clock = ExchangeClock(local_ms=lambda: NOW_MS)
        reader = BinanceReader(api_key="K" * 64, api_secret="S" * 64, base_url=line.base_url, clock=clock)
        found = [one.transaction_id for one in reader.income(since_ms)]
        asked = [int(re.findall(rb"startTime=([0-9]+)", request)[0]) for request in line.requests]
    return found, [one - NOW_MS for one in asked]


@pytest.fixture(autouse=True)
def _pages_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binance_reader, "INCOME_PAGE", 3)


def test_rows_of_one_millisecond_on_both_sides_of_a_page_are_all_read_once() -> None:
    first = [row(1, -40), row(2, -30), row(3, -30)]
    second = [row(2, -30), row(3, -30), row(4, -30)]
    with pytest.raises(ReadFailed, match="one millisecond"):
        read(first, second)
    assert read(first, [row(2, -30), row(3, -30), row(4, -20)], [row(4, -20)]) == (
        ["1", "2", "3", "4"], [-50, -30, -20],
    )  # fmt: skip


def test_one_id_in_two_kinds_is_two_bookings() -> None:
    both = [
        row(7, -9, incomeType="COMMISSION", tradeId="31"),
        row(7, -9, incomeType="REALIZED_PNL", tradeId=31),
    ]
    assert read(both)[0] == ["7", "7"]


@pytest.mark.parametrize(
    "page",
    [
        [row(1, -9), row(1, -9, income="0.5")],
        [row(1, -9), row(2, -10)],
        [row(1, -51)],
        [row(1, 2000)],
        [row(1, -9, income="NaN")],
        [row(1, -9, tradeId="x")],
        [row(1, -9, incomeType=None)],
    ],
)
def test_a_senseless_answer_is_no_answer(page: list[dict[str, Any]]) -> None:
    with pytest.raises(ReadFailed):
        read(page)


def test_more_than_a_week_is_walked_by_weeks() -> None:
    day_ms = 24 * 3600 * 1000
    found, asked = read([row(1, -10 * day_ms)], [row(2, -day_ms)], since_ms=NOW_MS - 12 * day_ms)
    assert (found, asked) == (["1", "2"], [-12 * day_ms, -5 * day_ms])
