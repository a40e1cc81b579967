"""Many symbols at once: none waits for another, and the exchange is asked once for all of them (lesson 19)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from permits.models import Permit
from positions.drift.sweep import Sweep
from positions.models import Balance, Incident
from quantum.exchange.paper.process import PaperExchangeProcess
from quantum.redis import Client
from tests.house import House, wait_for

LISTED = {
    "start_price": "100.00", "tick": "0.01", "step": "1", "quantity_min": "1", "quantity_max": "10000000",
    "market_quantity_max": "10000000", "notional_min": "5",
}  # fmt: skip
ASKED_ONCE_FOR_ALL = {"positionRisk", "openOrders", "positionMode", "listenKey", "keepListenKey"}

Housing = Callable[[int], House]


def names(count: int) -> tuple[str, ...]:
    return tuple(f"M{number:03d}USDT" for number in range(count))


@pytest.fixture
def house_of(
    redis: Client, keys: None, paper_process: PaperExchangeProcess, transactional_db: None, settings: Any,
    tmp_path: Path,
) -> Iterator[Housing]:  # fmt: skip
    """A house that is not running yet, at an exchange of its own with so many symbols and a position in each."""
    with ExitStack() as ends:

        def build(count: int) -> House:
            listed = tmp_path / "symbols.json"
            listed.write_text(json.dumps([{"symbol": name, **LISTED} for name in names(count)]))
            data = tmp_path / "wide.sqlite3"
            paper = PaperExchangeProcess(data_path=data, keys=paper_process.keys, symbols_path=listed)
            ends.enter_context(paper)
            settings.PAPER_URL = f"http://127.0.0.1:{paper.port}"
            settings.APPLY_ALLOWLIST = names(count)
            for name in names(count):
                paper.set_position(symbol=name, amount="1000", client_order_id=House.entry_id())
            house = House(redis=redis, paper=paper)
            ends.callback(house.stop)
            return house

        yield build
    for connection in connections.all():
        connection.close_if_unusable_or_obsolete()


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["clear", "refuse"], ids=["with the stream", "without it"])
def test_ten_symbols_at_300_ms_latency_every_plan_gets_its_permit(house_of: Housing, stream: str) -> None:
    """The predecessor asked symbol by symbol, and a quarter of the plans never got a permit."""
    house = house_of(10)
    house.paper.pull_stream(stream)
    house.start()
    house.paper.set_latency(ms=300)
    reads = house.paper.calls()[0]["positionRisk"]
    wait_for(lambda: house.paper.calls()[0]["positionRisk"] >= reads + 2, what="reads at this latency")
    plans = [house.publish(house.make(symbol)) for symbol in names(10)]
    rows = [house.ended(plan) for plan in plans]
    assert [(row.state, row.error, row.gate_reason) for row in rows] == [("filled", "", "")] * 10
    granted = Permit.objects.filter(plan_id__in=[plan.plan_id for plan in plans], verdict=True)
    wait_for(lambda: granted.count() == 20, what="both permits of each plan to be on record")
    assert {order["symbol"] for order in house.orders()} == set(names(10))


@pytest.mark.slow
def test_two_hundred_symbols_cost_one_call_per_sweep(
    house_of: Housing, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = house_of(200)
    swept: list[int] = []
    look = Sweep.look

    def counted(sweep: Sweep, read: Any, rules: Any, **more: Any) -> None:
        look(sweep, read, rules, **more)
        swept.append(len(read.positions))

    monkeypatch.setattr(Sweep, "look", counted)
    house.start("p33")
    wait_for(lambda: Balance.objects.count() == 200, what="200 symbols to be adopted", within_s=15)
    settled = len(swept)
    wait_for(lambda: len(swept) > settled + 1, what="the line to be live and quiet")
    calls, first = house.paper.calls()[0], len(swept)
    wait_for(lambda: len(swept) >= first + 5, what="five sweeps")
    later, sweeps = house.paper.calls()[0], len(swept) - first
    asked = {name: count - calls.get(name, 0) for name, count in later.items() if count != calls.get(name, 0)}
    # A sweep's read may lie on the other side of either count.
    assert sweeps - 1 <= asked["positionRisk"] <= sweeps + 1
    assert asked.keys() <= ASKED_ONCE_FOR_ALL, "a call for a single symbol"
    assert sum(asked.values()) <= sweeps + 4
    assert set(swept[first:]) == {200}
    assert not Incident.objects.exists()
