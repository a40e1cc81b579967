"""Two hundred symbols held: how long the Brain takes, and what a sweep costs the exchange.

The roles run in threads of this process, over the paper exchange's HTTP and its user stream. The Brain is measured
from the consumer's hand-over of a plan until its signed permit stands in Redis, alone in the process; of
calls and weight the exchange itself keeps count.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

from bench.parts import Row, say, spread, wait_until
from bench.waits import on_server

SYMBOLS = tuple(f"W{number:03d}USDT" for number in range(200))
LISTED = {
    "start_price": "100.00", "tick": "0.01", "step": "1", "quantity_min": "1", "quantity_max": "10000000",
    "market_quantity_max": "10000000", "notional_min": "5",
}  # fmt: skip
ENVIRONMENT = {"APPLY_ALLOWLIST": ",".join(SYMBOLS), "LOG_LEVEL": "ERROR"}
BRAIN_P50_MS = 5.0
WEIGHT_1M_MAX = 2400 // 3
WARM = 20
EXIT_GAP_S = 1.0
"""Sixty exits a minute. Each costs a userTrades call (weight 5) besides the sweeps: its proof."""


class Terms:
    """What a role needs of roles.Watch: there is only this process, and so no lease."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.consumer = f"{role}-bench"
        self.stopping = False

    def keep(self) -> bool:
        return not self.stopping


class Roles:
    def __init__(self) -> None:
        self._running: list[tuple[Terms, threading.Thread]] = []

    def start(self, *names: str) -> None:
        for name in names:
            terms = Terms(name)
            thread = threading.Thread(target=self._run, args=(terms,), name=name, daemon=True)
            self._running.append((terms, thread))
            thread.start()

    def _run(self, terms: Terms) -> None:
        from quantum import roles

        roles.find(terms.role).run(cast("roles.Watch", terms))

    def stop(self) -> None:
        for terms, _ in self._running:
            terms.stopping = True
        for _, thread in self._running:
            thread.join(8)


class Counts:
    """What was asked of the exchange, and how often p33 swept, between two looks."""

    def __init__(self, paper: Any) -> None:
        self._paper = paper
        self._swept = 0

    @contextmanager
    def sweeps(self) -> Iterator[None]:
        from positions.drift.sweep import Sweep

        look = Sweep.look

        def counted(sweep: Sweep, *read: Any, **more: Any) -> None:
            self._swept += 1
            look(sweep, *read, **more)

        with patch.object(Sweep, "look", counted):
            yield

    def look(self) -> tuple[dict[str, int], int, int]:
        return *self._paper.calls(), self._swept

    def over(self, seconds: float, act: Any) -> dict[str, Any]:
        before, started = self.look(), time.monotonic()
        act(started + seconds)
        took_s, after = time.monotonic() - started, self.look()
        calls = {name: count - before[0].get(name, 0) for name, count in after[0].items()}
        return {
            "seconds": round(took_s, 1),
            "sweeps": after[2] - before[2],
            "calls": {name: count for name, count in calls.items() if count},
            "weight_per_min": round((after[1] - before[1]) * 60 / took_s),
        }


def rows(folder: Path, *, n: int, calls_s: float) -> list[Row]:
    """In a process whose settings are this place's, with ENVIRONMENT."""
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    roles = Roles()
    with on_server() as client, _exchange(folder) as paper:
        counts = Counts(paper)
        with counts.sweeps(), _timed_brain() as took:
            try:
                roles.start("p33")
                wait_until(_adopted, what="200 symbols to be adopted")
                return [_brain(client, n, took), _calls(client, counts, roles, calls_s)]
            finally:
                roles.stop()


@contextmanager
def _exchange(folder: Path) -> Iterator[Any]:
    from django.conf import settings

    from quantum.exchange.paper.auth import PaperKeys
    from quantum.exchange.paper.process import PaperExchangeProcess

    listed = folder / "symbols.json"
    listed.write_text(json.dumps([{"symbol": symbol, **LISTED} for symbol in SYMBOLS]))
    secrets = [settings.ENVIRONMENT.secret(f"BINANCE_{use}_{part}") for use in ("READ", "TRADE")
               for part in ("KEY", "SECRET")]  # fmt: skip
    port = int(settings.PAPER_URL.rsplit(":", 1)[1])
    data = folder / "paper.sqlite3"
    with PaperExchangeProcess(
        data_path=data, keys=PaperKeys(*secrets), port=port, symbols_path=listed
    ) as paper:
        for number, symbol in enumerate(SYMBOLS):
            paper.set_position(symbol=symbol, amount="100000", client_order_id=f"entry-{number}")
        yield paper


def _adopted() -> bool:
    from positions.models import Balance

    return Balance.objects.filter(symbol__in=SYMBOLS).count() == len(SYMBOLS)


def _publish(client: Any, number: int) -> str:
    from django.conf import settings

    from apply.plans import publish
    from quantum import clock
    from quantum import plan as plans
    from quantum.plan import Action

    plan = plans.make(
        symbol=SYMBOLS[number % len(SYMBOLS)],
        action=Action.PARTIAL_25,
        kill_score_text=f"0.{number + 1}",
        timestamp_text=f"{clock.now_s():.3f}",
        mode=settings.APPLY_MODE,
        source="bench",
    )
    publish.publish(client, plan, actor="bench")
    return plan.plan_id


@contextmanager
def _timed_brain() -> Iterator[list[float]]:
    """Around the start of p33 too: its consumer keeps the method it was given then."""
    from permits.desk.gatekeeper import Gatekeeper

    took: list[float] = []
    handle = Gatekeeper.handle

    def timed(keeper: Gatekeeper, entry: Any) -> bool:
        started_ns = time.perf_counter_ns()
        acked = handle(keeper, entry)
        took.append((time.perf_counter_ns() - started_ns) / 1e6)
        return acked

    with patch.object(Gatekeeper, "handle", timed):
        yield took


def _brain(client: Any, n: int, took: list[float]) -> Row:
    from permits.models import Permit

    say("bench: the Brain's answers, 200 symbols held")
    asked = []
    for number in range(WARM + n):
        asked.append(_publish(client, number))
        time.sleep(0.02)
    wait_until(lambda: len(took) >= len(asked), what="the Brain's last answer")
    granted = Permit.objects.filter(plan_id__in=asked, gate="p33", verdict=True)
    wait_until(lambda: granted.count() >= len(asked) or not _recording(asked), what="the permits' rows")
    found, denied = spread(took[WARM : len(asked)]), len(asked) - granted.count()
    more = {"denied": denied, "measured": "consumer's hand-over -> signed permit in Redis, fresh snapshot"}
    target = f"p50 <= {BRAIN_P50_MS:.0f} ms, none denied"
    met = found["p50_ms"] <= BRAIN_P50_MS and not denied
    return Row("brain_answers", n, **found, target=target, met=met, more=more)


def _recording(asked: list[str]) -> bool:
    from permits.models import Permit

    return Permit.objects.filter(plan_id__in=asked, gate="p33").count() < len(asked)


def _calls(client: Any, counts: Counts, roles: Roles, seconds: float) -> Row:
    from django.conf import settings

    from apply.models import Plan

    say(f"bench: calls per sweep, {seconds:.0f} s of quiet, then as long with exits")
    quiet = counts.over(seconds, lambda until: time.sleep(until - time.monotonic()))
    # The Brain's plans were asked for to be judged only: a backlog of them is not what is counted here.
    client.xtrim(settings.KEYS.plan_stream, maxlen=0, approximate=False)
    roles.start("governor", "apply", "warden")
    client.delete(settings.KEYS.trading_state)  # the server was armed by hand; now apply arms it
    wait_until(lambda: client.exists(settings.KEYS.trading_state), what="apply to arm the gate")
    sent: list[str] = []

    def exits(until: float) -> None:
        while time.monotonic() < until:
            sent.append(_publish(client, 10_000 + len(sent)))
            time.sleep(EXIT_GAP_S)

    busy = counts.over(seconds, exits)
    done = Plan.objects.filter(plan_id__in=sent, state=Plan.State.FILLED)
    wait_until(lambda: done.count() >= len(sent) - 1, what="the exits to be filled")
    spans = (quiet, busy)
    # A sweep's read may lie on the other side of either count.
    once = all(abs(span["calls"].get("positionRisk", 0) - span["sweeps"]) <= 1 for span in spans)
    of_exits = round(5 * busy["calls"].get("userTrades", 0) * 60 / busy["seconds"])
    room = WEIGHT_1M_MAX - (busy["weight_per_min"] - of_exits)
    light = max(span["weight_per_min"] for span in spans) < WEIGHT_1M_MAX
    return Row(
        "calls_per_sweep_200",
        len(sent),
        target=f"one positions call per sweep, weight < {WEIGHT_1M_MAX} a minute at 60 exits",
        met=once and light,
        more={"quiet": quiet, "with_exits": busy, "exits_per_min_max": room // 5},
    )
