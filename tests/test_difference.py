"""How ledger and exchange differ, and what probably made them: one rule for the Brain, the sweep and people."""

from __future__ import annotations

from decimal import Decimal

import pytest

from positions.judging.difference import Cause, Kind, Origin, between, origin, probable_cause
from tests.properties import given, st

SOURCES = ("entry-", "grid-")


def differ(exchange: str, ledger: str | None) -> tuple[str, str, str] | None:
    found = between(
        exchange=Decimal(exchange),
        ledger=None if ledger is None else Decimal(ledger),
        lot_step=Decimal("0.001"),
        tolerance_pct=Decimal(1),
    )
    if found is None:
        return None
    return found.kind.value, f"{found.diff.normalize():f}", f"{found.tolerance.normalize():f}"


@pytest.mark.parametrize(
    ("exchange", "ledger", "found"),
    [
        ("0.062", "0.002", ("quantity", "0.06", "0.001")),
        ("-0.062", "-0.002", ("quantity", "0.06", "0.001")),
        ("1", "0.98", ("quantity", "0.02", "0.01")),
        ("0.0005", "-0.0005", ("side", "0.001", "0.001")),
        ("0.5", None, ("missing_ledger", "0.5", "0.005")),
        ("0", None, ("missing_ledger", "0", "0.001")),
        ("0", "-0.5", ("missing_position", "0.5", "0.001")),
        ("0.5", "0", ("quantity", "0.5", "0.005")),
        ("1", "0.99", None),
        ("0", "0.001", None),
        ("0", "0", None),
    ],
)
def test_each_kind_of_difference_names_its_numbers(
    exchange: str, ledger: str | None, found: tuple[str, str, str] | None
) -> None:
    assert differ(exchange, ledger) == found


@given(st.decimals(min_value=-9, max_value=9, places=4), st.decimals(min_value=-9, max_value=9, places=4))
def test_what_is_no_difference_is_within_the_tolerance_and_on_one_side(
    exchange: Decimal, ledger: Decimal
) -> None:
    found = between(exchange=exchange, ledger=ledger, lot_step=Decimal("0.001"), tolerance_pct=Decimal("0.5"))
    within = abs(exchange - ledger) <= max(Decimal("0.001"), abs(exchange) / 200)
    assert (found is None) == (within and exchange * ledger >= 0)


@pytest.mark.parametrize(
    ("fills", "cause"),
    [
        (["web_abc"], Cause.MANUAL_TRADE),
        ([""], Cause.MANUAL_TRADE),
        (["autoclose-1755"], Cause.LIQUIDATION),
        (["web_abc", "autoclose-1755"], Cause.LIQUIDATION),
        (["adl_autoclose"], Cause.ADL),
        (["settlement_autoclose-1"], Cause.SETTLEMENT),
        (["delivery_autoclose-1"], Cause.SETTLEMENT),
        (["q-0123456789abcdef-75"], Cause.FOREIGN_PREFIX),
        (["web_abc", "q-0123456789abcdef-75"], Cause.FOREIGN_PREFIX),
        (["entry-1", "grid-2"], Cause.UNEXPLAINED),
        ([], Cause.UNEXPLAINED),
    ],
)
def test_the_fills_that_moved_only_the_position_tell_the_cause(fills: list[str], cause: Cause) -> None:
    assert probable_cause(Kind.QUANTITY, fills, sources=SOURCES) is cause


def test_a_symbol_that_was_never_entered_has_that_as_its_cause() -> None:
    assert probable_cause(Kind.MISSING_LEDGER, ["web_abc"], sources=SOURCES) is Cause.NEVER_ENTERED


def test_the_exchanges_own_orders_are_never_declared() -> None:
    assert origin("autoclose-1755", sources=("*",)) is Origin.EXCHANGE
    assert origin("adl_autoclose", sources=("adl_",)) is Origin.EXCHANGE
    assert origin("q-1", sources=("*",)) is Origin.OURS
    assert origin("anything", sources=("*",)) is Origin.DECLARED
