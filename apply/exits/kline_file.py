"""Klines from a CSV file, read strictly: a wrong line is named, with what is expected there. Pure."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from decimal import Decimal

from quantum import amounts
from quantum.exchange.types import Kline

COLUMNS = ("open_time", "open", "high", "low", "close")
"""Needed, in any order, named by the first line. Others may stand beside them and are not read."""
LINES_MAX = 200_000
_TIME_MIN, _TIME_MAX = 1_000_000_000_000, 9_999_999_999_999


class WrongFile(Exception):
    """Carries the line, and what is expected there."""


def read(lines: Iterable[str]) -> list[Kline]:
    """The span follows from the first two opening times; every later one must follow by the same span."""
    rows = _rows(lines)
    opened = [(number, _time(number, row), row) for number, row in rows]
    if len(opened) < 2:
        raise WrongFile(f"line {len(opened) + 2}: expected at least two klines, there is no more")
    span_ms = opened[1][1] - opened[0][1]
    if span_ms <= 0:
        raise WrongFile(f"line {opened[1][0]}: expected an open_time after that of the line before")
    found = []
    for at, (number, open_ms, row) in enumerate(opened):
        due_ms = opened[0][1] + at * span_ms
        if open_ms != due_ms:
            raise WrongFile(f"line {number}: expected open_time {due_ms}, {span_ms} ms after the line before")
        found.append(_kline(number, row, open_ms=open_ms, span_ms=span_ms))
    return found


def _rows(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(lines, strict=True)
    try:
        head = [name.strip().lower() for name in next(reader, [])]
        missing = [name for name in COLUMNS if name not in head]
        if missing:
            raise WrongFile(f"line 1: expected the names of the columns, {', '.join(missing)} among them")
        for cells in reader:
            number = reader.line_num
            if number > LINES_MAX + 1:
                raise WrongFile(f"line {number}: expected at most {LINES_MAX} klines")
            if len(cells) != len(head):
                raise WrongFile(f"line {number}: expected {len(head)} values as in line 1, got {len(cells)}")
            yield number, dict(zip(head, (cell.strip() for cell in cells), strict=True))
    except (csv.Error, UnicodeDecodeError) as fault:
        raise WrongFile(f"line {reader.line_num + 1}: expected CSV text in UTF-8 ({fault})") from None


def _time(number: int, row: dict[str, str]) -> int:
    text = row["open_time"]
    if not (text.isascii() and text.isdigit() and len(text) < 20 and _TIME_MIN <= int(text) <= _TIME_MAX):
        raise WrongFile(f"line {number}: expected open_time in milliseconds since 1970, 13 digits")
    return int(text)


def _kline(number: int, row: dict[str, str], *, open_ms: int, span_ms: int) -> Kline:
    prices = {name: _price(number, row, name) for name in COLUMNS[1:]}
    found = Kline(
        open_ms=open_ms,
        opened=prices["open"],
        high=prices["high"],
        low=prices["low"],
        closed=prices["close"],
        close_ms=open_ms + span_ms - 1,
    )
    if not found.is_sensible:
        raise WrongFile(f"line {number}: expected low <= open, close <= high")
    return found


def _price(number: int, row: dict[str, str], name: str) -> Decimal:
    value = amounts.parse(row[name])
    if value is None or value <= 0:
        raise WrongFile(f"line {number}: expected {name} as a plain number above 0")
    return value
