"""How a row is written: CSV for spreadsheets, NDJSON for programs. Both end in a line that only a whole file has."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Protocol

from quantum import amounts
from quantum.log import MASK, is_secret, masked, safe

Row = Sequence[Any]


class Format(Protocol):
    media: str

    def head(self, columns: Sequence[str]) -> str: ...
    def lines(self, columns: Sequence[str], rows: Iterable[Row]) -> str: ...
    def end(self, columns: Sequence[str], *, rows: int) -> str: ...


class Csv:
    """One row, one line, each with as many cells as the head. The last: `end` and how many rows there were."""

    media = "text/csv; charset=utf-8"

    def head(self, columns: Sequence[str]) -> str:
        return _lines([columns])

    def lines(self, columns: Sequence[str], rows: Iterable[Row]) -> str:  # noqa: ARG002  a format's
        return _lines([cell(value) for value in row] for row in rows)

    def end(self, columns: Sequence[str], *, rows: int) -> str:
        return _lines([["end", str(rows), *[""] * (len(columns) - 2)]])


class Ndjson:
    media = "application/x-ndjson"

    def head(self, columns: Sequence[str]) -> str:  # noqa: ARG002  a format's
        return ""

    def lines(self, columns: Sequence[str], rows: Iterable[Row]) -> str:
        return "".join(_json(dict(zip(columns, map(told, row), strict=True))) for row in rows)

    def end(self, columns: Sequence[str], *, rows: int) -> str:  # noqa: ARG002  a format's
        return _json({"end": True, "rows": rows})


FORMATS: dict[str, Format] = {"csv": Csv(), "ndjson": Ndjson()}


def told(value: Any) -> Any:
    """For JSON: exact amounts and times as text, secrets masked at any depth."""
    if isinstance(value, Decimal):
        return amounts.plain(value)
    if isinstance(value, dt.datetime):
        utc = value.astimezone(dt.UTC)
        return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03}Z"
    if isinstance(value, str):
        return masked(str(value))  # a choice's member too: only its text
    if isinstance(value, dict):
        return {
            masked(str(name)): MASK if is_secret(str(name)) else told(each) for name, each in value.items()
        }
    return [told(each) for each in value] if isinstance(value, (list, tuple)) else value


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":")) + "\n"  # ASCII: nothing in it can turn or break a line


# ---- cells

_BEGINS = "=+\\-@\t\r\n＝＋－＠"
_FORMULA = re.compile(rf"\s*[{_BEGINS}]|[\t\r\n]")
_AFTER_SEMICOLON = re.compile(rf";(?=\s*[{_BEGINS}])")
"""Where the semicolon parts cells, as in half of Europe, what follows one begins a cell."""


def cell(value: object) -> str:
    """Text that no spreadsheet takes for a formula. A plain decimal number is left as it is, whoever wrote it: it
    computes nothing, and -0.5 must stay a number."""
    found = told(value)
    if found is None:
        return ""
    text = found if isinstance(found, str) else json.dumps(found)
    if amounts.is_plain(text):
        return text
    guarded = "'" + text if _FORMULA.match(text) else text
    return safe(_AFTER_SEMICOLON.sub(";'", guarded))


def _lines(rows: Iterable[Sequence[str]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()
