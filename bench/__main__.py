"""make bench: floor, poll baseline and product in one run; one JSON line each on stdout.

Ends non-zero where a required figure is missed. The results of the last run are kept in bench/results/.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

from bench import floor, product, scripts, waits
from bench.parts import ROOT, Row, apart, machine, place, say, spread
from quantum import embedded
from quantum.exchange.paper.process import PaperExchangeProcess

P50_TIMES_FLOOR = 1.8
P99_MS = 60.0
COMMANDS_PER_S = 20.0
CPU_PERCENT = 3.0
PSS_MB = 120.0
POLLS = 20
ONE_WAY_MS = 50.0
"""Half of the 100 ms round trip: the exchange notes the time at which the order arrives."""
OVERHEAD_MS = 15.0
VISIBLE_P95_MS = 100.0
ONLY = ("", "wait", "rivals", "scripts", "rows", "floor", "latency", "round_trip", "idle")
RIVALS = ("poll", "blpop", "narrow", "fixed", "once", "hub")
"""All ways to wait that decision 015 compares; a whole run measures the product's and the baseline only."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("-n", type=int, default=300, help="exits per scenario")
    parser.add_argument("--gap-ms", type=float, default=30, help="quiet time between two of them")
    parser.add_argument("--idle-s", type=float, default=20, help="how long idle is watched")
    parser.add_argument("--only", default="", choices=ONLY, help="this part alone")
    asked = parser.parse_args()
    say(f"bench: {json.dumps(machine())}")
    rows = []
    for row in _scenarios(asked):
        rows.append(row)
        print(row.line(), flush=True)
    _keep(rows, asked.only)
    missed = [row.scenario for row in rows if row.met is False]
    if missed:
        say(f"bench: missed: {', '.join(missed)}")
    return 1 if missed else 0


def _scenarios(asked: argparse.Namespace) -> Iterator[Row]:
    gap_s = asked.gap_ms / 1000
    floor_p50 = 0.0
    if asked.only in ("", "wait"):
        yield from apart(waits.rows, designs=("poll", "blpop"))
    if asked.only == "rivals":
        yield from apart(waits.rows, designs=RIVALS)
    if asked.only in ("", "scripts"):
        yield from apart(scripts.rows, n=max(asked.n, 1000))
    if asked.only in ("", "floor", "latency"):
        for row in _floor(asked.n, gap_s):
            if row.scenario == "floor":
                floor_p50 = row.p50_ms or 0.0
            yield row
    if asked.only in ("", "latency", "round_trip", "rows"):
        with place() as folder, product.running(folder) as house:
            if asked.only in ("", "latency"):
                yield _latency(house, asked.n, gap_s, floor_p50)
            if asked.only in ("", "round_trip"):
                yield _round_trip(house, max(asked.n // 3, 50), gap_s)
            if asked.only in ("", "rows"):
                yield _visible(house, max(asked.n // 3, 50), gap_s)
    if asked.only in ("", "idle"):
        with place() as folder, product.idling(folder) as idle:
            yield _idle(idle, asked.idle_s)


def _floor(n: int, gap_s: float) -> Iterator[Row]:
    with place() as folder:
        socket = folder / "v.sock"
        server = embedded.start(directory=folder / "valkey", unix_socket=socket)
        try:
            if not embedded.wait_until_ready(unix_socket=socket):
                raise TimeoutError("the floor's Valkey does not answer")
            say("bench: floor")
            chain = floor.chain(str(socket), n=n, gap_s=gap_s, poll=False)
            polled = floor.chain(str(socket), n=POLLS * 2, gap_s=gap_s, poll=True)
        finally:
            server.terminate()
            server.wait(5)
        commits = floor.commit(folder, n=n, gap_s=gap_s / 10)
        with PaperExchangeProcess(data_path=folder / "paper.sqlite3") as paper:
            received, answered = floor.order(paper, n=n, gap_s=gap_s)
    parts = {
        "chain_p50_ms": round(statistics.median(chain), 3),
        "commit_p50_ms": round(statistics.median(commits), 3),
        "order_received_p50_ms": round(statistics.median(received), 3),
        "order_answered_p50_ms": round(statistics.median(answered), 3),
    }
    whole = parts["chain_p50_ms"] + 2 * parts["commit_p50_ms"] + parts["order_received_p50_ms"]
    yield Row("floor", n, p50_ms=round(whole, 3), more=parts)
    baseline = [one + parts["order_received_p50_ms"] for one in polled]
    yield Row("poll_100ms_baseline", len(polled), **spread(baseline), baseline_p50_ms=round(whole, 3))


def _latency(house: product.House, n: int, gap_s: float, floor_p50: float) -> Row:
    say("bench: plan -> order received, exchange at 0 ms")
    took = house.exits(n, gap_s=gap_s)
    found = spread(took)
    ratio = round(found["p50_ms"] / floor_p50, 2) if floor_p50 else None
    met = ratio is not None and ratio <= P50_TIMES_FLOOR and found["p99_ms"] <= P99_MS
    target = f"p50 <= {P50_TIMES_FLOOR} x floor, p99 <= {P99_MS:.0f} ms"
    return Row("plan_to_order", n, **found, baseline_p50_ms=floor_p50, ratio=ratio, target=target, met=met)


def _round_trip(house: product.House, n: int, gap_s: float) -> Row:
    say("bench: plan -> order received, exchange answers after 100 ms")
    house.paper_latency(100)
    took = house.exits(n, gap_s=max(gap_s, 0.15))
    house.paper_latency(0)
    found = spread(took)
    met = found["p50_ms"] <= ONE_WAY_MS + OVERHEAD_MS
    return Row("plan_to_order_100ms", n, **found, target="exchange time (50 ms one way) + 15 ms", met=met)


def _visible(house: product.House, n: int, gap_s: float) -> Row:
    say("bench: permit -> its row and audit event in the database")
    took = house.visible(n, gap_s=gap_s)
    found = spread(took)
    target = f"p95 <= {VISIBLE_P95_MS:.0f} ms after the permit"
    return Row("permit_visible", len(took), **found, target=target, met=found["p95_ms"] <= VISIBLE_P95_MS)


def _idle(idle: product.Idle, seconds: float) -> Row:
    say(f"bench: idle for {seconds:.0f} s")
    found = idle.watch(seconds)
    met = (
        found["redis_commands_per_s"] <= COMMANDS_PER_S
        and found["cpu_percent_of_a_core"] < CPU_PERCENT
        and found["worker_pss_mb_max"] <= PSS_MB
    )
    target = (
        f"<= {COMMANDS_PER_S:.0f} commands/s, < {CPU_PERCENT:.0f} % of a core, <= {PSS_MB:.0f} MB per worker"
    )
    return Row("idle", 1, target=target, met=met, more=found)


def _keep(rows: list[Row], only: str) -> None:
    """A part of the run has a file of its own: it must not pass for the whole."""
    folder: Path = ROOT / "bench" / "results"
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({"machine": machine()}), *(row.line() for row in rows)]
    (folder / f"{only or 'last'}.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
