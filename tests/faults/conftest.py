"""Weather that a row leaves behind ends with it; and proof comes as soon as the exchange can give it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from apply.proving import resolver
from tests.house import House


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver leaves an order to apply for one second instead of three. What the exchange needs to prove that
    it never had an order (recvWindow) stays as it is."""
    monkeypatch.setattr(resolver, "LEAVE_TO_APPLY_S", 1.0)
    monkeypatch.setattr(resolver, "ASK_EVERY_S", 0.3)


@pytest.fixture
def row(house: House, quick: None) -> Iterator[House]:
    """The house of one row of the list of faults, with the exchange as it was afterwards."""
    yield house
    house.paper.clear_scenario()
    house.paper.pull_stream("clear")
    house.paper.set_hedge_mode(on=False)
    house.paper.set_filters(symbol="BTCUSDT", step="0.001", quantity_min="0.001")
