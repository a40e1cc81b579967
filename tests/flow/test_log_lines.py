"""The lines that operators and other programs read, word for word as the contract has them, from the roles at work."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest

from quantum.plan import Action, ExitPlan
from tests.house import House, wait_for
from tests.permits.governors import limit

STAND_FOR = {"<number>": r"\d+", "<amount>": r"\d+(\.\d+)?", "<ttl>": r"(-2|\d+)"}
BLOCK = "[PERMIT_WAIT] BLOCK plan=<plan>"


class Lines:
    """What the house wrote so far, without its times and levels."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    def about(self, plan: ExitPlan) -> list[str]:
        self._text += self._capsys.readouterr().err
        mine = [line for line in self._text.splitlines() if plan.plan_id in line]
        times_and_levels = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|WARNING) +"
        assert all(re.match(times_and_levels, line) for line in mine)
        return [re.sub(times_and_levels, "", line, count=1) for line in mine]

    def has(self, plan: ExitPlan, start: str) -> None:
        """Exactly one line begins so; more fields may follow. Waited for, because what is beside the path is told after
        the exit has ended."""
        pattern = re.escape(start).replace("<plan>", plan.plan_id)
        for name, stands_for in STAND_FOR.items():
            pattern = pattern.replace(name, stands_for)
        whole = re.compile(pattern + r"( [^ ].*)?")
        with suppress(AssertionError):
            wait_for(lambda: any(map(whole.fullmatch, self.about(plan))), what=start)
        told = [line for line in self.about(plan) if whole.fullmatch(line)]
        assert len(told) == 1, f"{len(told)} lines like {start!r} in:\n" + "\n".join(self.about(plan))


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    return Lines(capsys)


def test_an_exit_that_is_executed_is_told_in_the_contracts_words(house: House, lines: Lines) -> None:
    house.start()
    plan = house.publish(house.make("BTCUSDT", Action.PARTIAL_75))
    assert house.ended(plan).state == "filled"
    for line in (
        "BTCUSDT: Plan <plan> published (decision=EXECUTE, steps=1)",
        "BTCUSDT: ALLOW plan <plan>",
        "BTCUSDT: P3.3 ALLOW plan <plan>",
        "[PERMIT_WAIT] Polling for permits plan=<plan> max_wait=1200ms symbol=BTCUSDT",
        "[PERMIT_WAIT] Governor permit found plan=<plan> wait=<number>ms",
        "[PERMIT_WAIT] P3.3 permit found plan=<plan> wait=<number>ms",
        "[PERMIT_WAIT] OK plan=<plan> wait_ms=<number> safe_qty=<amount> symbol=BTCUSDT",
        "BTCUSDT: Executing step CLOSE_PARTIAL_75 plan=<plan>",
        "BTCUSDT: Order <number> executed successfully plan=<plan>",
        "BTCUSDT: Result published (executed=True, error=) plan=<plan>",
    ):
        lines.has(plan, line)


def test_an_exit_whose_wait_ran_out_is_told_in_the_contracts_words(house: House, lines: Lines) -> None:
    house.start()
    house.stop("p33")
    plan = house.publish()
    assert house.ended(plan).error == "permit_timeout_or_missing:missing_p33"
    for line in (
        f"{BLOCK} reason=missing_p33 gov_ttl=<number> p33_ttl=-2 wait_ms=<number> symbol=BTCUSDT",
        "BTCUSDT: Result published (executed=False, error=permit_timeout_or_missing:missing_p33) plan=<plan>",
    ):
        lines.has(plan, line)


def test_an_exit_that_p33_denied_is_told_in_the_contracts_words(house: House, lines: Lines) -> None:
    house.start()
    house.paper.set_position(symbol="BTCUSDT", amount="0", client_order_id=House.entry_id())
    wait_for(lambda: house.exit().gate_reason == "no_position", what="P3.3 to see that nothing is held")
    plan = house.publish()
    assert house.ended(plan).error == "permit_denied:p33_denied"
    lines.has(plan, "BTCUSDT: P3.3 DENY plan <plan> reason=no_position")


def test_an_exit_that_the_governor_denied_is_told_in_the_contracts_words(house: House, lines: Lines) -> None:
    limit("permits_per_5min=1")
    house.start()
    assert house.exit().state == "filled"
    plan = house.publish()
    assert house.ended(plan).error == "permit_denied:governor_denied"
    for line in (
        "BTCUSDT: BLOCKED plan <plan> - burst_limit",
        f"{BLOCK} reason=governor_denied gov_ttl=<number> p33_ttl=<ttl> wait_ms=<number> symbol=BTCUSDT",
    ):
        lines.has(plan, line)
