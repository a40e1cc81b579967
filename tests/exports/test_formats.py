"""How a cell, a line and an end are written."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from decimal import Decimal

import pytest

from quantum.exports.formats import Csv, Ndjson, cell, told

AT = dt.datetime(2026, 1, 31, 13, 0, 0, 123_999, tzinfo=dt.timezone(dt.timedelta(hours=1)))


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n", " =", "\t=", "＝", "＋", "－", "＠"])
def test_f17_what_could_begin_a_formula_is_prefixed(begin: str) -> None:
    assert cell(f"{begin}cmd|' /c calc'!A0").startswith("'")


def test_f17_nor_does_a_formula_begin_after_a_semicolon() -> None:
    """Where a spreadsheet parts cells at semicolons, the cell begins there."""
    assert cell("harmless; =cmd") == "harmless;' =cmd"
    assert cell('{"why":"a;+1+cmd"}') == '{"why":"a;\'+1+cmd"}'


@pytest.mark.parametrize("text", ["-0.5", "-12", "0.000000000000000001", "-99999999999999999999.5"])
def test_a_negative_number_of_ours_stays_a_number(text: str) -> None:
    assert cell(Decimal(text)) == text
    assert cell(text) == text, "whoever wrote it: it computes nothing"


@pytest.mark.parametrize("text", ["-1+1", "+1", "-1e5", "-", "--1", "-.5", "-5 ", "- 5", "-0x10", "-１"])
def test_what_only_looks_like_a_number_is_text(text: str) -> None:
    assert cell(text).startswith("'")


def test_a_row_is_one_line_whatever_stands_in_it() -> None:
    hostile = 'one\ntwo\r\nthree \x1b[31m \u202e "quoted", \ud800'
    line = Csv().lines(("a", "b"), [(hostile, None)])
    assert line.count("\n") == 1 and line.endswith("\r\n") and line[:-2].isprintable()
    [[first, second]] = csv.reader(io.StringIO(line))
    assert (first, second) == (
        'one\\x0atwo\\x0d\\x0athree \\x1b[31m \\u202e "quoted", \\ud800',
        "",
    )
    written = Ndjson().lines(("a", "b"), [(hostile, None)])
    assert written.isascii() and written.count("\n") == 1
    assert json.loads(written) == {"a": hostile, "b": None}


def test_amounts_are_exact_and_times_are_utc_with_milliseconds() -> None:
    assert told(Decimal("0.100000000000000000")) == "0.1"
    assert told(Decimal("1E-18")) == "0.000000000000000001"
    assert told(AT) == cell(AT) == "2026-01-31T12:00:00.123Z"
    assert (cell(True), cell(7), cell(None)) == ("true", "7", "")


def test_a_secret_is_masked_at_any_depth() -> None:
    said = {"answer": [{"token": "abc", "text": "GET /x?signature=f00&b=1"}], "listenKey": "k"}
    assert told(said) == {
        "answer": [{"token": "***", "text": "GET /x?signature=***&b=1"}],
        "listenKey": "***",
    }
    assert "abc" not in cell(said) and "f00" not in cell("password=f00")


def test_the_last_line_says_that_there_is_no_more() -> None:
    columns = ("id", "b", "c")
    assert json.loads(Ndjson().end(columns, rows=3)) == {"end": True, "rows": 3}
    assert Csv().end(columns, rows=3) == "end,3,\r\n"
    assert Csv().head(columns) == "id,b,c\r\n"
