"""From a proposal to its order, by the ways a bot has: the stream and the hash, beside a plan published at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.parts import Row, say, spread
from bench.product import House

MORE_MS, STRETCH_MS = 10.0, 4.0


def rows(house: House, *, n: int, gap_s: float) -> Iterator[Row]:
    """In turns, ten at a time: the machine's moods must not fall on one of them."""
    say("bench: proposal -> order received, by stream and hash, beside plan -> order")
    took: dict[str, list[float]] = {"plan": [], "stream": [], "hash": []}
    asks = {"plan": None, "stream": Asking(house, _to_stream), "hash": Asking(house, _to_hash)}
    for _ in range(max(n // 10, 1)):
        for way, ask in asks.items():
            took[way] += house.exits(10, gap_s=gap_s, ask=ask)
    plan_ms = spread(took.pop("plan"))["p50_ms"]
    for way, found in took.items():
        met = spread(found)["p50_ms"] <= plan_ms + MORE_MS
        yield Row(
            f"proposal_to_order_{way}",
            len(found),
            **spread(found),
            baseline_p50_ms=plan_ms,
            target=f"p50 <= plan -> order of the same run + {MORE_MS:.0f} ms",
            met=met,
            stretch=f"+ {STRETCH_MS:.0f} ms",
            stretch_met=spread(found)["p50_ms"] <= plan_ms + STRETCH_MS,
        )


class Asking:
    """Each call proposes once and says which order must come of it."""

    def __init__(self, house: House, write: Any) -> None:
        self._house = house
        self._write = write

    def __call__(self) -> str:
        from django.conf import settings

        from apply.proposals.proposal import read
        from quantum import clock
        from quantum.redis import command_client

        said = {
            "symbol": self._house.next_symbol(),
            "harvest_action": "PARTIAL_25",
            "kill_score": f"0.{self._house.next_number() + 1}",
            "computed_at_utc": f"{clock.now_s():.3f}",
            "source": "bench",
        }
        plan_id = read(said).plan(mode=settings.APPLY_MODE).plan_id
        self._write(command_client(), settings.KEYS, said)
        return f"q-{plan_id}-25"


def _to_stream(client: Any, keys: Any, said: dict[str, str]) -> None:
    client.xadd(keys.proposal_stream, said)


def _to_hash(client: Any, keys: Any, said: dict[str, str]) -> None:
    client.hset(keys.proposal(said["symbol"]), mapping=said)
