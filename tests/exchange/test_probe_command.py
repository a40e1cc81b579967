"""The probe's command: when it refuses to ask for orders, and what it hands out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.management import call_command

from quantum.commands import Exit
from quantum.exchange import connect
from quantum.management.commands.exchange_probe import Command
from tests.paper.desk import Desk


@pytest.fixture
def at_paper(desk: Desk, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Desk:
    keys = desk.exchange.keys
    monkeypatch.setattr(connect, "credentials", lambda _kind: (keys.trade_key, keys.trade_secret))
    settings.PAPER_URL = f"http://127.0.0.1:{desk.exchange.port}"
    return desk


def test_all_holds_at_the_paper_exchange(at_paper: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("exchange_probe", "solusdt", "--yes", "--json")
    told = json.loads(capsys.readouterr().out)
    assert {row["verdict"] for row in told["findings"]} == {"holds"}
    assert told["left_behind"] == []
    assert told["orders"] == "passed no gate"
    assert told["counted"] == {"holds": 14, "does not hold": 0, "not decided": 0, "not tested": 0}


def test_it_says_before_the_first_order_that_no_gate_is_passed(
    at_paper: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    def no(_command: Command, _text: str) -> bool:
        said.append(capsys.readouterr().err)
        return False

    monkeypatch.setattr(Command, "_may", no)
    call_command("exchange_probe", "SOLUSDT", "--yes")
    assert "THESE ORDERS PASS NO GATE" in said[0]


def test_what_was_not_tested_is_counted_in_the_last_line(
    at_paper: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("exchange_probe", "SOLUSDT", "--read-only")
    out, err = capsys.readouterr()
    last = out.splitlines()[-1]
    assert last == "14 assumptions - holds: 6, does not hold: 0, not decided: 0, not tested: 8"
    assert "Read-only: no order is placed." in err


def test_one_that_does_not_hold_ends_with_drift(at_paper: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    at_paper.exchange.push_scenario({"next": "getOrder", "do": "refuse", "code": -2011})
    with pytest.raises(SystemExit) as left:
        call_command("exchange_probe", "SOLUSDT", "--read-only")
    assert left.value.code == Exit.DRIFT
    assert "does not hold  A client id nobody used is -2013" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("mode", "more"),
    [("live", ["--yes"]), ("live", ["--yes", "--confirm", "other"]), ("dry_run", ["--yes"]), ("paper", [])],
)
def test_it_refuses_orders_nobody_could_have_meant(
    at_paper: Desk, settings: Any, mode: str, more: list[str]
) -> None:
    settings.APPLY_MODE = mode
    before = len(at_paper.exchange.log())
    with pytest.raises(SystemExit) as left:
        call_command("exchange_probe", "SOLUSDT", *more)
    assert left.value.code == Exit.USAGE
    assert len(at_paper.exchange.log()) == before
