"""Exact amounts: read strictly, rounded down only, written so that they are read the same."""

from __future__ import annotations

from decimal import Decimal

import pytest

from quantum import amounts
from tests.properties import given, st

ANY = st.decimals(min_value=-(10**12), max_value=10**12, allow_nan=False, allow_infinity=False, places=8)
STEPS = st.sampled_from(
    [Decimal(text) for text in ("0.001", "0.01", "0.1", "1", "10", "0.00001", "0.5", "3")]
)


@given(ANY, STEPS)
def test_floor_never_goes_above_and_is_whole_steps(value: Decimal, step: Decimal) -> None:
    floored = amounts.floor_to_step(value, step)
    assert abs(floored) <= abs(value)
    assert floored % step == 0
    assert abs(value) - abs(floored) < step
    assert floored * value >= 0, "the side was lost"


@pytest.mark.parametrize(
    ("value", "step", "floored"),
    [
        ("0.0089", "0.001", "0.008"),
        ("-0.0089", "0.001", "-0.008"),
        ("0.3", "0.1", "0.3"),
        ("0.29", "0.3", "0"),
    ],
)
def test_floor_by_example(value: str, step: str, floored: str) -> None:
    assert amounts.floor_to_step(Decimal(value), Decimal(step)) == Decimal(floored)


@pytest.mark.parametrize("step", ["0", "-0.001"])
def test_a_step_that_is_not_positive_is_an_error(step: str) -> None:
    with pytest.raises(ValueError, match="step"):
        amounts.floor_to_step(Decimal(1), Decimal(step))


@given(ANY)
def test_plain_text_is_read_as_the_same_amount(value: Decimal) -> None:
    text = amounts.plain(value)
    assert amounts.parse(text) == value
    assert "e" not in text.lower()
    assert text != "-0"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1E+3", "1000"),
        ("0.250", "0.25"),
        ("-0.0", "0"),
        ("0E-18", "0"),
        ("1E-18", "0.000000000000000001"),
        ("100", "100"),
    ],
)
def test_plain_by_example(value: str, text: str) -> None:
    assert amounts.plain(Decimal(value)) == text


@given(st.text(max_size=30))
def test_any_text_is_a_finite_amount_or_none(text: str) -> None:
    value = amounts.parse(text)
    if value is not None:
        assert value.is_finite()
        assert abs(value) <= amounts.LARGEST


@pytest.mark.parametrize(
    "text",
    [
        "",
        "NaN",
        "sNaN",
        "inf",
        "-Infinity",
        "1e3",
        "+1",
        " 1",
        "1 ",
        "1\n",
        "1_000",
        "1,0",
        "٣",
        "１",
        ".5",
        "5.",
        "--1",
        "9" * 21,
        "0." + "1" * 19,
        "1000000000000001",
    ],
)
def test_what_is_not_plain_is_none(text: str) -> None:
    assert amounts.parse(text) is None
