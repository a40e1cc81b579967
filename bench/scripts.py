"""The gate's two scripts by themselves: the consume beside a bare GET and DEL of two keys, and a permit's issue."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from bench.parts import Row, say, spread
from bench.waits import STATE, grant, make_plan, on_server

CONSUME_TIMES = 1.5
ISSUE_P50_MS = 3.0
BARE = """
local gov, p33 = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
redis.call('DEL', KEYS[1], KEYS[2])
return {gov, p33}
"""


def rows(_folder: Path, *, n: int) -> list[Row]:
    """In a process whose settings are this place's."""
    with on_server() as client:
        return [_consume(client, n), _issue(client, n)]


def _consume(client: Any, n: int) -> Row:
    """The same connection and the same two permits, one script after the other; what lays them out is not timed."""
    from django.conf import settings

    from permits.gate import spending

    say("bench: the consume beside a bare GET and DEL")
    plan = make_plan()
    governor, p33 = pair = tuple(desk.issue(plan, grant()).raw for desk in _desks(client))
    keys = (settings.KEYS.governor_permit(plan.plan_id), settings.KEYS.p33_permit(plan.plan_id))
    spent = (settings.KEYS.receipt(plan.plan_id), settings.KEYS.slot(plan.symbol))
    calls = {"bare": _sent(lambda to: _script(BARE, keys=2)(to, keys=keys, args=())),
             "consume": _sent(lambda to: _spend(to, _long_lived(plan), pair))}  # fmt: skip

    # What the arguments alone cost: the bare script, given the consume's own keys and bytes, which it ignores.
    calls["bare_same_arguments"] = (calls["bare"][0], *calls["consume"][1:])

    def once(name: str) -> float:
        lay = client.pipeline(transaction=False)
        lay.delete(*spent)
        lay.set(keys[0], governor, px=60_000)
        lay.set(keys[1], p33, px=60_000)
        lay.execute()
        started_ns = time.monotonic_ns()
        answer = client.evalsha(*calls[name])
        took_ms = (time.monotonic_ns() - started_ns) / 1e6
        if answer[0] not in (1, governor):
            raise RuntimeError(f"{name} spent nothing: {answer}")
        return took_ms

    for text in (BARE, spending._CONSUME.text):
        client.script_load(text)
    took: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(n + 50):
        for name in calls:
            one_ms = once(name)
            if number >= 50:
                took[name].append(one_ms)
    inside = {f"server_us_{name}": _server_us(client, partial(once, name)) for name in calls}
    found, baseline = spread(took["consume"]), spread(took["bare"])["p50_ms"]
    ratio = found["p50_ms"] / baseline
    return Row(
        "consume",
        n,
        **found,
        baseline_p50_ms=baseline,
        ratio=round(ratio, 2),
        target=f"p50 <= {CONSUME_TIMES} x a bare GET and DEL of two keys",
        met=ratio <= CONSUME_TIMES,
        more={
            "permit_bytes": len(governor) + len(p33),
            "bare_same_arguments_p50_ms": spread(took["bare_same_arguments"])["p50_ms"],
            **inside,
        },
    )


def _desks(client: Any) -> list[Any]:
    from django.conf import settings

    from permits.desk import payloads
    from permits.desk.desk import Desk
    from quantum.signing import Signer

    return [
        Desk(gate=gate, signer=Signer(name=gate, directory=settings.PERMIT_KEYS_DIR), client=client)
        for gate in (payloads.GOVERNOR, payloads.P33)
    ]


class Recording:
    """A client that sends nothing and keeps the words of the one script call it is asked for."""

    def __init__(self) -> None:
        self.words: tuple[Any, ...] = ()

    def evalsha(self, *words: Any) -> Any:
        self.words = words
        return [1]


def _sent(call: Callable[[Any], Any]) -> tuple[Any, ...]:
    recording = Recording()
    call(recording)
    return recording.words


def _spend(client: Any, plan: Any, pair: tuple[bytes, ...]) -> None:
    from permits.gate.spending import Spending, call_for

    late_ms = int(time.time() * 1000) + 600_000
    Spending(commands=client, blocking=client).consume(
        call_for(plan), token="t" * 32, pair=(pair[0], pair[1]), state=STATE, hold=b"", not_after_ms=late_ms
    )


def _long_lived(plan: Any) -> Any:
    """The measured plan must not expire while it is measured."""
    return replace(plan, timestamp_text=f"{time.time() + 600:.3f}")


def _server_us(client: Any, once: Callable[[], float], n: int = 300) -> float:
    """The server's own share of one call, in microseconds: the rest of the row is the way there and back."""

    def so_far() -> float:
        return float(client.info("commandstats")["cmdstat_evalsha"]["usec"])

    before = so_far()
    for _ in range(n):
        once()
    return round((so_far() - before) / n, 1)


def _script(text: str, *, keys: int) -> Any:
    from quantum.redis import Script

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"bare-{keys}.lua"
        path.write_text(text)
        return Script(path)


def _issue(client: Any, n: int) -> Row:
    say("bench: issue of a permit, signature and script")
    desks = _desks(client)
    took = []
    for number in range(n + 50):
        plan, finding = make_plan(), grant()
        for desk in desks:
            started_ns = time.monotonic_ns()
            issued = desk.issue(plan, finding)
            if number >= 50:
                took.append((time.monotonic_ns() - started_ns) / 1e6)
            if not getattr(issued, "fresh", False):
                raise RuntimeError(f"no permit: {issued}")
    found = spread(took)
    met = found["p50_ms"] <= ISSUE_P50_MS
    return Row("permit_issue", len(took), **found, target=f"p50 <= {ISSUE_P50_MS} ms", met=met)
