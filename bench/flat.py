"""Plan -> order in a house that holds one symbol, and in one that holds two hundred."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from bench import parts, product
from bench.parts import Row, apart, say, spread

HOUSES = (1, 200)
TURNS = 3
ROUNDS, EXITS = 4, 20
"""A quarter off twenty times, and thirty times while it warms up, leaves more than a step."""
GAP_S = 0.4
"""One symbol's exits follow each other; one that comes while the last is under way is refused, and right so."""
POSITION = "9000000"
TIMES_ONE = 1.15


def rows_of() -> Iterator[Row]:
    """In turns, as the floor is: the machine is another one in the next minute."""
    took: dict[int, list[float]] = {held: [] for held in HOUSES}
    for turn in range(TURNS):
        for held in HOUSES:
            say(f"bench: plan -> order, {held} symbols held ({turn + 1} of {TURNS})")
            symbols = ",".join(_symbols(held))
            [row] = apart(_exits, more_env={"APPLY_ALLOWLIST": symbols}, held=held)
            took[held] += row.more["took_ms"]
    one, many = (spread(took[held]) for held in HOUSES)
    ratio = many["p50_ms"] / one["p50_ms"]
    yield Row(
        "plan_to_order_200_symbols",
        len(took[HOUSES[-1]]),
        **many,
        baseline_p50_ms=one["p50_ms"],
        ratio=round(ratio, 3),
        target=f"p50 <= {TIMES_ONE} x that of a house of one symbol",
        met=ratio <= TIMES_ONE,
    )


def _symbols(held: int) -> list[str]:
    return [f"F{number:03d}USDT" for number in range(held)]


def _exits(_folder: Path, *, held: int) -> list[Row]:
    with parts.product(dict(os.environ)) as process:
        house = product.House(process.pid, _symbols(held))
        house.lift_limits()
        house.wait(position=POSITION, gap_s=GAP_S)
        took: list[float] = []
        for _ in range(ROUNDS):
            house.fill_up(POSITION)
            took += house.exits(EXITS, gap_s=GAP_S)
    return [Row("exits", len(took), more={"took_ms": took})]
