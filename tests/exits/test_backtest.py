"""The backtest's arithmetic against figures computed by hand, its files, its table and its picture."""

from __future__ import annotations

import json
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from django.conf import settings
from django.core.management import call_command

from apply.exits import paths
from quantum.commands import Exit

FLAT = ["100"] * 61
TOLD = ["101", "102.3", "103", "101.5", "90", "80"]


def write(folder: Path, closes: list[str]) -> Path:
    """As Binance's own files are, with columns that nobody reads."""
    lines, opened = ["open_time,open,high,low,close,volume,close_time"], closes[0]
    for at, close in enumerate(closes):
        high, low = max(opened, close, key=Decimal), min(opened, close, key=Decimal)
        open_ms = 1_767_225_600_000 + at * 60_000
        lines.append(f"{open_ms},{opened},{high},{low},{close},12.5,{open_ms + 59_999}")
        opened = close
    file = folder / "hand.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def run(*arguments: str) -> dict[str, Any]:
    out = StringIO()
    call_command("exit_backtest", *arguments, "--json", stdout=out, stderr=StringIO())
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def by_scorer(*arguments: str) -> dict[str, dict[str, Any]]:
    return {row["scorer"]: row for row in run(*arguments)["runs"]}


def figures(row: dict[str, Any]) -> tuple[object, ...]:
    closed = [(one["action"], one["quantity"], one["price"]) for one in row["exits"]]
    return row["profit"], row["fees"], row["drawdown"], row["in_trade_s"], closed, row["blocked"]


def test_the_hand_computed_sample_gives_the_hand_computed_figures(tmp_path: Path) -> None:
    """1 long at 100, R = 1, fee 0.05 % of each side's value. The way in costs 0.05.

    rules, close by close (worth = wallet + open profit):
      101    R_net 1 - 0.0005 * 201 = 0.8995         worth -0.05 + 1 = 0.95
      102.3  R_net 2.3 - 0.0005 * 202.3 = 2.19885: a quarter goes at 102.3
             wallet -0.05 + 0.25 * 2.3 - 0.0005 * 25.575 = 0.5122125
             worth 0.5122125 + 0.75 * 2.3 = 2.2372125; best 2.3 R: the stop is locked at 101.15
      103    still the rung of 2 R; best 3 R: the stop moves to 101.5
             worth 0.5122125 + 0.75 * 3 = 2.7622125, the best there is
      101.5  the stop is met: 0.75 goes
             wallet 0.5122125 + 0.75 * 1.5 - 0.0005 * 76.125 = 1.59915, four minutes after the entry
      drawdown 2.7622125 - 1.59915 = 1.1630625; fees 0.05 + 0.0127875 + 0.0380625 = 0.10085
    hold: to 80: -20 - 0.05 - 0.04 = -20.09; best 3 - 0.05 = 2.95; drawdown 23.04; six minutes
    stop: at 90, beyond 99: -10 - 0.05 - 0.045 = -10.095; drawdown 2.95 + 10.095 = 13.045; five minutes
    """
    found = by_scorer(str(write(tmp_path, FLAT + TOLD)), "--amount", "1")
    rules_closed = [("PARTIAL_25", "0.25", "102.3"), ("FULL_CLOSE_PROPOSED", "0.75", "101.5")]
    assert figures(found["rules"]) == ("1.59915", "0.10085", "1.1630625", 240, rules_closed, {})
    assert figures(found["hold"]) == ("-20.09", "0.09", "23.04", 360, [], {})
    stop_closed = [("FULL_CLOSE_PROPOSED", "1", "90")]
    assert figures(found["stop"]) == ("-10.095", "0.095", "13.045", 300, stop_closed, {})


def test_an_exit_below_the_smallest_quantity_is_blocked_by_the_rule_apply_has(tmp_path: Path) -> None:
    """A quarter of 1 is less than 0.3, so all of it goes at 101.5: 1.5 - 0.05 - 0.05075; best 2.95."""
    found = by_scorer(str(write(tmp_path, FLAT + TOLD)), "--amount", "1", "--min-quantity", "0.3")["rules"]
    closed = [("FULL_CLOSE_PROPOSED", "1", "101.5")]
    assert figures(found) == ("1.39925", "0.10075", "1.55075", 240, closed, {"below_min": 1})


def test_a_short_is_the_same_upside_down(tmp_path: Path) -> None:
    """1 short at 100: the price 98 is 2 R, less 0.0005 * 198 in fees 1.901: nothing is taken. At 97 it is 2.9015:
    a quarter goes, 0.75 - 0.012125; the rest at the end at 98.5, which the stop at 98.5 meets: 1.125 - 0.0369375."""
    found = by_scorer(str(write(tmp_path, [*FLAT, "98", "97", "98.5"])), "--amount", "-1")["rules"]
    assert [one["price"] for one in found["exits"]] == ["97", "98.5"]
    assert Decimal(found["profit"]) == Decimal("-0.05") + Decimal("0.737875") + Decimal("1.0880625")


def test_a_scorer_of_the_users_stands_beside_ours(tmp_path: Path) -> None:
    """The eager one takes a quarter at 101 and nothing more: 0.25 - 0.012625 there, 0.75 * 0 - 0.0375 at the end."""
    file = write(tmp_path, [*FLAT, "101", "100"])
    found = by_scorer(str(file), "--amount", "1", "--scorer", "tests.exits.by_hand.Eager", "--scorer", "hold")
    assert list(found) == ["eager", "hold"]
    assert Decimal(found["eager"]["profit"]) == Decimal("-0.05") + Decimal("0.237375") - Decimal("0.0375")


# ---- files that are none


GOOD = [f"{1_767_225_600_000 + at * 60_000},100,101,99,100" for at in range(63)]
HEAD = "open_time,open,high,low,close"


@pytest.mark.parametrize(
    ("at", "line", "told"),
    [
        (0, "time,price", "line 1: expected the names of the columns, open_time, open, high, low, close among them"),
        (3, "1767225720000,100,101,99", "line 4: expected 5 values as in line 1, got 4"),
        (4, "1767225840000,100,101,99,100", "line 5: expected open_time 1767225780000, 60000 ms after"),
        (4, "2026-01-01,100,101,99,100", "line 5: expected open_time in milliseconds since 1970, 13 digits"),
        (5, "1767225840000,100,101,99,NaN", "line 6: expected close as a plain number above 0"),
        (5, "1767225840000,100,101,99,1e2", "line 6: expected close as a plain number above 0"),
        (6, "1767225900000,100,98,99,100", "line 7: expected low <= open, close <= high"),
        (7, '1767225960000,"100,101,99,100', "expected"),
        (8, "\0", "line 9: expected"),
        (2, "1767225600000,100,101,99,100", "line 3: expected an open_time after that of the line before"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_told_by_line_and_by_what_is_expected(
    tmp_path: Path, at: int, line: str, told: str
) -> None:
    lines = [HEAD, *GOOD]
    lines[at] = line
    file = tmp_path / "wrong.csv"
    file.write_text("\n".join(lines))
    assert told in refused(str(file))


def test_a_file_that_cannot_be_judged_is_told(tmp_path: Path) -> None:
    assert "No such file" in refused(str(tmp_path / "none.csv"))
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in refused(str(binary))
    short = tmp_path / "short.csv"
    short.write_text("\n".join([HEAD, *GOOD[:61]]))
    assert "61 klines; 61 come before the entry and one after it" in refused(str(short))
    short.write_text(HEAD)
    assert "line 2: expected at least two klines" in refused(str(short))


@pytest.mark.parametrize(
    "wrong",
    [("--amount", "0"), ("--fee-pct", "-1"), ("--risk-pct", "0"), ("--step", "x"), ("--scorer", "nobody")],
)
def test_a_wrong_word_is_refused(wrong: tuple[str, str]) -> None:
    assert refused("--path", "turn", *wrong)


def refused(*arguments: str) -> str:
    told = StringIO()
    with pytest.raises(SystemExit) as left:
        call_command("exit_backtest", *arguments, stdout=StringIO(), stderr=told)
    assert left.value.code == Exit.USAGE
    return told.getvalue()


# ---- the shipped paths


def test_the_committed_picture_is_what_the_command_makes(tmp_path: Path, capsys: Any) -> None:
    made, told = tmp_path / "made.svg", StringIO()
    call_command("exit_backtest", "--picture", str(made), stderr=told)
    committed = settings.BASE_DIR / "docs/pictures/exit_backtest.svg"
    assert made.read_text() == committed.read_text(), (
        "manage.py exit_backtest --picture docs/pictures/exit_backtest.svg"
    )
    assert "Synthetic" in told.getvalue()
    assert "Synthetic" in made.read_text()
    ElementTree.fromstring(made.read_text())  # noqa: S314  our own file
    table = capsys.readouterr().out
    assert all(word in table for word in (*paths.PATHS, "rules", "hold", "stop", "below_min"))


def test_a_seed_is_one_path_and_another_seed_another() -> None:
    first = paths.klines("turn", seed=1)
    assert first == paths.klines("turn", seed=1) != paths.klines("turn", seed=2)
    assert all(one.is_sensible for one in first)


def test_the_shipped_paths_say_that_they_are_synthetic() -> None:
    assert run("--path", "dust")["synthetic"] is True
