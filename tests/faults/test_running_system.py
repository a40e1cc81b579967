"""The whole product as `up` runs it, real roles and all: whatever is killed, exits flow again within 10 s."""

from __future__ import annotations

import itertools
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from quantum import clock
from quantum import plan as plans
from quantum.plan import Action, ExitPlan
from quantum.profiles import DEMO_SYMBOLS
from tests.stand_ins.product import Product
from tests.stand_ins.running import BACK_S, STARTED_S, within

pytestmark = pytest.mark.slow

STREAM, RESULTS = "quantum:stream:apply.plan", "quantum:stream:apply.result"
PUBLIC = ("plan_id", "symbol", "action", "kill_score", "decision", "timestamp")


class Running(Product):
    """Plans come from a bot that knows only the six public fields."""

    _numbers = itertools.count(1)
    _symbols = itertools.cycle(DEMO_SYMBOLS)
    main_deaths = 0

    def start_up(self) -> None:
        self.passed: list[ExitPlan] = []
        self.up(EXIT_BRAIN="off")
        within(STARTED_S, self.all_roles_live, "every role lives after `up`")
        within(STARTED_S, self.an_exit_passes, "the first exit")

    def publish(self) -> ExitPlan:
        plan = plans.make(
            symbol=next(self._symbols),
            action=Action.PARTIAL_25,
            kill_score_text=f"0.{next(self._numbers)}",
            timestamp_text=f"{clock.now_s():.3f}",
            mode="paper",
            source="a bot",
        )
        self.valkey.xadd(STREAM, {name: value for name, value in plan.fields().items() if name in PUBLIC})
        return plan

    def executed(self, plan: ExitPlan) -> bool | None:
        """None: nobody has said anything of it yet."""
        entries: Any = self.valkey.xrevrange(RESULTS, count=50)
        said = [row[b"executed"] for _, row in entries if row[b"plan_id"] == plan.plan_id.encode()]
        return b"True" in said if said else None

    def an_exit_passes(self) -> bool:
        """One fresh plan, and two seconds for it: of one that was refused before the gates had seen the exchange
        nothing more will come, and those seconds would count as the product's."""
        plan = self.publish()
        end = time.monotonic() + 2
        while (executed := self.executed(plan)) is None and time.monotonic() < end:
            time.sleep(0.02)
        if executed:
            self.passed.append(plan)
        return bool(executed)


@pytest.fixture(scope="module")
def system() -> Iterator[Running]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        running = Running(Path(folder))
        try:
            running.start_up()
            yield running
        finally:
            running.end()


def kill_three_times(system: Running, whom: Callable[[], int]) -> None:
    for _ in range(3):
        within(BACK_S, system.is_whole, "everything lives before the kill")
        system.publish()  # at work when it dies
        os.kill(whom(), signal.SIGKILL)
        took_s = within(BACK_S, system.an_exit_passes, "exits flow again after the kill")
        assert took_s <= BACK_S


@pytest.mark.parametrize("role", ["apply", "governor", "p33", "warden"])
def test_exits_flow_again_after_a_worker_at_work_is_killed(system: Running, role: str) -> None:
    kill_three_times(system, lambda: system.holders()[role])


def test_exits_flow_again_after_an_idle_worker_is_killed_and_so_does_the_queue(system: Running) -> None:
    kill_three_times(system, system.idle_worker)
    sent = system.canary()
    within(15, lambda: system.canary() != sent, "a job still comes through the queue")


def test_exits_flow_again_after_the_sentinel_is_killed_and_no_orphan_is_left(system: Running) -> None:
    kill_three_times(system, system.sentinel)
    within(BACK_S, lambda: len(system.processes()) == USUAL, "as many processes as before")


def test_exits_flow_again_after_the_main_process_is_killed_and_no_orphan_is_left(system: Running) -> None:
    kill_three_times(system, system.main)
    system.main_deaths += 3
    within(BACK_S, lambda: len(system.processes()) == USUAL, "as many processes as before")


USUAL = 14
"""up, Valkey, the paper exchange, gunicorn and its worker, main, sentinel, five workers, pusher, monitor."""


def test_a15_after_a_storm_of_restarts_no_exit_was_ordered_twice_and_each_was_told(system: Running) -> None:
    """After all those kills: every plan has at most one order in the exchange's own log. What the user reads
    meanwhile: what ended is started again, each time with the number of starts of the last minute."""
    ours = [row["client_id"] for row in system.exchange().log() if row["client_id"].startswith("q-")]
    assert system.passed
    assert {f"q-{plan.plan_id}-25" for plan in system.passed} <= set(ours), "an exit that passed has no order"
    assert len(ours) == len(set(ours))
    said = [line for line in system.log.read_text().splitlines() if "starts_in_last_minute=" in line]
    assert len(said) >= system.main_deaths


@pytest.mark.parametrize("to", ["main process", "whole group"])
def test_a18_sigterm_after_kills_ends_everything_within_ten_seconds(system: Running, to: str) -> None:
    """The last of this file: the one that was hurt so often ends. And once more, on the folder that it left."""
    if system.processes() == []:
        system.start_up()
        for whom in (system.idle_worker, system.sentinel, lambda: system.holders()["apply"]):
            within(BACK_S, system.is_whole, "everything lives before the kill")
            os.kill(whom(), signal.SIGKILL)
    within(BACK_S, system.is_whole, "everything lives before it is told to end")
    within(BACK_S, system.an_exit_passes, "exits flow")
    [up] = system.ups()
    if to == "main process":
        os.kill(up, signal.SIGTERM)
    else:
        os.killpg(up, signal.SIGTERM)
    within(BACK_S, lambda: system.processes() == [], "everything has ended")
