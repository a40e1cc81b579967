"""The shipped scenarios are the rows D1 to D28, no more and no fewer, and each is what one acceptance test plays."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from django.core.management import call_command

from quantum.exchange.paper import control, scenarios

ROWS = range(1, 29)
TESTS = [Path(__file__).with_name(f"test_{of}_rows.py") for of in ("exchange", "position")]


def tests_by_row() -> dict[int, list[str]]:
    """Number of the row -> the text of every test that bears it in its name."""
    found: dict[int, list[str]] = {}
    for path in TESTS:
        for body in re.split(r"(?m)^(?=def |@pytest)", path.read_text()):
            if named := re.match(r"def test_d(\d\d)_", body):
                found.setdefault(int(named.group(1)), []).append(body)
    return found


def test_there_is_one_scenario_for_every_row_and_no_other() -> None:
    assert [int(name[1:3]) for name in scenarios.names()] == list(ROWS)
    assert [each.row for each in scenarios.shipped()] == [f"D{row}" for row in ROWS]


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_one_test_that_plays_its_scenario(row: int) -> None:
    [name] = [name for name in scenarios.names() if int(name[1:3]) == row]
    [body] = tests_by_row()[row]
    assert f'"{name}"' in body, f"the test of D{row} does not play {name}"


@pytest.mark.parametrize("name", scenarios.names())
def test_a_shipped_scenario_can_be_played_and_says_why_it_looks_like_that(name: str) -> None:
    one = scenarios.load(name)
    control.check_scenario(one.items)
    assert one.items
    assert len(one.title) <= 60
    assert len(one.why) >= 30
    assert "\n" not in one.title + one.why


def test_a_shipped_name_is_read_as_its_file_is_and_the_users_own_may_be_a_bare_list(tmp_path: Path) -> None:
    assert scenarios.read(Path("d01_cut_after_accept")) == scenarios.load("d01_cut_after_accept").items
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps([{"next": "order", "do": "partial", "percent": 50}]))
    assert scenarios.read(mine) == [{"next": "order", "do": "partial", "percent": 50}]
    mine.write_text(json.dumps({"why": "no items"}))
    with pytest.raises(ValueError, match="items"):
        scenarios.read(mine)


def test_an_act_that_is_played_twice_has_two_client_ids() -> None:
    ids = [str(scenarios.load("d26_manual_trade").items[0]) for _ in range(2)]
    assert ids[0] != ids[1]
    assert all("'web_" in each and "*" not in each for each in ids)


def test_the_command_lists_them_one_a_line_and_starts_nothing() -> None:
    out = io.StringIO()
    call_command("paper_exchange", "--list-scenarios", stdout=out)
    lines = out.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == scenarios.names()
    assert "cut after accept" in lines[0]
