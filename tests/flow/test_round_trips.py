"""What an exit asks of the exchange: its order, once, and nothing else that it caused itself."""

from __future__ import annotations

import itertools

import pytest

from apply.acting import role, told
from quantum import clock
from quantum.plan import Action
from tests.house import House, wait_for

EXITS = 12
BESIDE_EXITS = {"positionRisk", "positionMode", "openOrders", "listenKey", "time", "income"}
"""What is asked by the clock (here once a second at most), whether exits leave or not."""


def two_beats_later(house: House) -> dict[str, int]:
    """The calls so far, two more reads of positions from now."""
    beats = house.paper.calls()[0]["positionRisk"]
    wait_for(lambda: house.paper.calls()[0]["positionRisk"] >= beats + 2, what="two more reads of positions")
    return house.paper.calls()[0]


def between(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {
        name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name, 0)
    }


def calls_once_quiet(house: House) -> dict[str, int]:
    """A start asks for more, each symbol's trades among it; then positions alone are read."""
    for _ in range(10):
        before = two_beats_later(house)
        after = two_beats_later(house)
        if between(before, after).keys() == {"positionRisk"}:
            return after
    raise AssertionError("the exchange is asked for more than positions although nothing happens")


def test_an_exit_asks_the_exchange_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (told, role):  # the fill is heard from the stream, however slow the machine
        monkeypatch.setattr(module, "WITHIN_S", 10.0)
    house.start()
    before, began_s = calls_once_quiet(house), clock.monotonic_s()
    for symbol in itertools.islice(itertools.cycle(House.POSITIONS), EXITS):
        assert house.exit(symbol, Action.PARTIAL_25).state == "filled"
    # What an exit set off beside its way would have been asked by then.
    asked, lasted_s = between(before, two_beats_later(house)), clock.monotonic_s() - began_s
    assert asked.pop("order") == EXITS
    assert asked.keys() <= BESIDE_EXITS, "a call that an exit caused"
    assert all(count <= lasted_s + 2 for count in asked.values()), (asked, lasted_s)
