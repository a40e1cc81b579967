"""The body of a POST, read strictly: one flat JSON object of known fields. Pure of everything but JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from apply.proposals.proposal import BYTES_MAX, FIELDS
from quantum import amounts

TEXTS = frozenset({"symbol", "harvest_action", "source"})
CODES = "reason_codes"
CODES_MAX = 40
DEPTH_MAX = 5
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKETS = re.compile(r"[\[\]{}]")


class WrongBody(Exception):
    """status, a token for programs, a text for people."""

    def __init__(self, status: int, error: str, text: str) -> None:
        super().__init__(text)
        self.status, self.error, self.text = status, error, text


def read(raw: bytes) -> dict[str, str]:
    """Field -> text, as a hash or the stream would carry it. Raises WrongBody, and nothing else."""
    if len(raw) > BYTES_MAX:
        raise WrongBody(413, "too_large", f"a body has {BYTES_MAX} bytes at most")
    try:
        text = raw.decode("utf-8")
        if _depth(text) > DEPTH_MAX:
            raise WrongBody(400, "too_deep", f"nested deeper than {DEPTH_MAX} levels")
        found = json.loads(
            text,
            parse_float=_number,
            parse_int=_number,
            parse_constant=_no_constant,
            object_pairs_hook=_unique,
        )
    except UnicodeDecodeError:
        raise WrongBody(400, "not_json", "not UTF-8") from None
    except ValueError as error:
        raise WrongBody(400, "not_json", f"not JSON: {str(error)[:120]}") from None
    if not isinstance(found, dict):
        raise WrongBody(400, "wrong_type", "the body is not a JSON object")
    unknown = sorted(set(found) - set(FIELDS))
    if unknown:
        raise WrongBody(400, "unknown_field", f"{unknown[0][:40]!a} is no field of a proposal")
    return {name: _text(name, value) for name, value in found.items() if value is not None}


def _depth(text: str) -> int:
    """Counted before parsing: how deep a parser dares to go differs from one Python to the next."""
    depth = deepest = 0
    for sign in _BRACKETS.findall(_STRINGS.sub("", text)):
        depth += 1 if sign in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _text(name: str, value: object) -> str:
    if name == CODES and isinstance(value, list):
        if len(value) <= CODES_MAX and all(isinstance(code, str) and "," not in code for code in value):
            return ",".join(value)
    elif isinstance(value, str):
        return value
    elif isinstance(value, Decimal) and name not in TEXTS | {CODES}:
        return amounts.plain(value)
    raise WrongBody(400, "wrong_type", f"{name} has the wrong type")


def _number(text: str) -> Decimal:
    value = amounts.parse(text)
    if value is None:
        raise WrongBody(400, "wrong_number", "numbers are plain decimals of sane size, without exponent")
    return value


def _no_constant(_text: str) -> Decimal:
    raise WrongBody(400, "wrong_number", "NaN and infinity are not numbers")


def _unique(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise WrongBody(400, "duplicate_key", "a field is given twice")
    return members
