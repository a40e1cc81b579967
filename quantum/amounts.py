"""Exact amounts: reading them strictly, rounding to steps, writing plain text. Pure."""

from __future__ import annotations

import re
from decimal import ROUND_DOWN, Decimal

_PLAIN = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,18})?")
LARGEST = Decimal(10) ** 15


def is_plain(text: str) -> bool:
    return _PLAIN.fullmatch(text) is not None


def parse(text: str) -> Decimal | None:
    """Plain decimal text only: no exponent, blank, NaN or infinity; None if it is anything else."""
    if not is_plain(text):
        return None
    value = Decimal(text)
    return value if abs(value) <= LARGEST else None


def plain(value: Decimal) -> str:
    """Decimal text without exponent and without trailing zeros; zero is "0"."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def floor_to_step(value: Decimal, step: Decimal) -> Decimal:
    """Towards zero, to a whole number of steps: never more than was asked."""
    if step <= 0:
        raise ValueError(f"a step must be positive, got {step}")
    return (value / step).to_integral_value(rounding=ROUND_DOWN) * step
