"""Lanes without processes: plans of a symbol one by one and in order, symbols beside each other, waits beside all."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from apply.acting.lanes import SENDERS_MAX, After, Lanes, Wait
from tests.house import wait_for

SOON_S = 5.0
NOT_YET_S = 0.1
"""What must not happen is given this long to happen."""
PLANS = 20


class Road:
    """Lanes whose waits and sends stop where the test holds them, and everything they did in its order."""

    def __init__(self) -> None:
        self.lanes = Lanes()
        self.told: list[str] = []
        self._changed = threading.Condition()
        self._held: dict[str, threading.Event] = {}

    def plan(self, name: str, symbol: str) -> None:
        self.lanes.put(symbol, self._wait(name), done=lambda: self._tell(f"{name} left"))

    def hold(self, *points: str) -> None:
        for point in points:
            self._held[point] = threading.Event()

    def go_on(self, *points: str) -> None:
        for point in points or tuple(self._held):
            self._held[point].set()

    def sees(self, *events: str, within_s: float = SOON_S) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: set(events) <= set(self.told), within_s)

    def sending(self) -> list[str]:
        return [event for event in self.told if event.endswith(" sends")]

    def _wait(self, name: str) -> Wait:
        def wait() -> After:
            self._pass(f"{name} waits")
            return lambda: self._pass(f"{name} sends")

        return wait

    def _pass(self, point: str) -> None:
        self._tell(point)
        if point in self._held:
            assert self._held[point].wait(SOON_S * 4), f"nobody let {point!r} go on"

    def _tell(self, what: str) -> None:
        with self._changed:
            self.told.append(what)
            self._changed.notify_all()


@pytest.fixture
def road() -> Iterator[Road]:
    made = Road()
    yield made
    made.go_on()
    made.lanes.drain()


def test_the_plans_of_one_symbol_run_one_at_a_time_in_the_order_they_came(road: Road) -> None:
    road.hold("0 waits")
    names = [str(number) for number in range(PLANS)]
    for name in names:
        road.plan(name, "BTCUSDT")
    road.go_on()
    assert road.sees(f"{names[-1]} left")
    assert road.told == [f"{name} {step}" for name in names for step in ("waits", "sends", "left")]


@pytest.mark.parametrize("where", ["waits", "sends"])
def test_a_plan_that_takes_long_holds_its_own_symbol_and_no_other(road: Road, where: str) -> None:
    """It waits for a permit, or for an exchange that answers slowly."""
    road.hold(f"long {where}")
    road.plan("long", "BTCUSDT")
    assert road.sees(f"long {where}")
    road.plan("behind it", "BTCUSDT")
    road.plan("beside it", "ETHUSDT")
    assert road.sees("beside it left")
    assert not road.sees("behind it waits", within_s=NOT_YET_S)
    road.go_on()
    assert road.sees("behind it left")
    assert road.told.index("long left") < road.told.index("behind it waits")


def test_more_open_waits_than_there_are_senders_keep_no_order_back(road: Road) -> None:
    open_waits = [f"{number} waits" for number in range(SENDERS_MAX + 4)]
    road.hold(*open_waits)
    for number in range(SENDERS_MAX + 4):
        road.plan(str(number), f"S{number}USDT")
    assert road.sees(*open_waits)
    road.plan("permitted", "BTCUSDT")
    assert road.sees("permitted sends", "permitted left")


def test_senders_are_sixteen_and_one_that_comes_free_takes_the_next(road: Road) -> None:
    """A sender keeps its database connection, so their number is a promise to the database."""
    names = [str(number) for number in range(SENDERS_MAX + 1)]
    road.hold(*(f"{name} sends" for name in names))
    for name in names:
        road.plan(name, f"S{name}USDT")
    assert road.sees(*(f"{name} waits" for name in names))
    wait_for(lambda: len(road.sending()) >= SENDERS_MAX, what="as many orders as there are senders")
    assert not road.sees(*(f"{name} sends" for name in names), within_s=NOT_YET_S)
    assert len(road.sending()) == SENDERS_MAX
    road.go_on(road.sending()[0])
    assert road.sees(*(f"{name} sends" for name in names))


def fails() -> After:
    raise ValueError("a bug")


@pytest.mark.parametrize(
    "wait", [fails, lambda: fails, lambda: None], ids=["its wait", "its send", "told to stop"]
)
def test_a_plan_that_came_to_nothing_frees_its_lane(road: Road, wait: Wait) -> None:
    left = threading.Event()
    road.lanes.put("BTCUSDT", wait, done=left.set)
    assert left.wait(SOON_S)
    road.plan("next", "BTCUSDT")
    assert road.sees("next left")


def test_a_drain_finishes_what_was_begun_and_leaves_what_was_queued_untouched(road: Road) -> None:
    road.hold("begun waits")
    road.plan("begun", "BTCUSDT")
    road.plan("queued", "BTCUSDT")
    assert road.sees("begun waits")
    draining = threading.Thread(target=road.lanes.drain)
    draining.start()
    road.go_on()
    draining.join(SOON_S)
    assert not draining.is_alive()
    assert road.told == ["begun waits", "begun sends", "begun left"]


def test_work_that_belongs_to_no_lane_waits_for_none(road: Road) -> None:
    road.hold("long sends")
    road.plan("long", "BTCUSDT")
    assert road.sees("long sends")
    done = threading.Event()
    road.lanes.work(done.set)
    assert done.wait(SOON_S)
