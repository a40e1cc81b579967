"""Three storms at once, other ones with every commit, and the same ones whenever that commit is run again.

A storm that broke nothing and only came late says nothing where the machine did not run meanwhile (decision 036): it is
played again. What is kept at any speed - one order a plan, two keys, the books - is judged on every machine, at once.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.stand_ins.running import ROOT
from tools.machine import Machine

STORMS = 3
PLAYS = 3
LATE, NO_END = 3, 4
"""Exit statuses of a storm whose findings are all of time, and of one that itself did not come to its end."""
STOOD_S = 2.0
"""A fifth of the time in which a fresh plan must pass."""


def main(words: Sequence[str]) -> int:
    asking = ["git", "rev-parse", "HEAD"]
    head = subprocess.run(asking, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    seeds = random.Random(head).sample(range(1000, 1_000_000), STORMS)
    print(f"chaos: seeds {' '.join(map(str, seeds))} of commit {head[:12] or 'none'}", flush=True)
    one = [sys.executable, "-m", "tests.chaos", *words]
    machine = Machine()

    def away(began: float, ended: float) -> str:
        return machine.away(began, ended, stood_s=STOOD_S)

    def play(seed: int) -> int:
        return subprocess.run([*one, "--seed", str(seed)], cwd=ROOT).returncode

    with ThreadPoolExecutor(STORMS) as at_once:  # most of a storm is waiting
        return max(at_once.map(lambda seed: judged(seed, play, away), seeds))


def judged(seed: int, play: Callable[[int], int], away: Callable[[float, float], str]) -> int:
    status = NO_END
    for left in reversed(range(PLAYS)):
        began = time.time()
        status = play(seed)
        why = away(began, time.time()) if status in (LATE, NO_END) else ""
        if not why:
            return status
        print(f"chaos seed {seed}: {why}{'; once more' if left else ''}", flush=True)
    if status == NO_END:
        return status
    print(
        f"chaos seed {seed}: NOT JUDGED whether it comes back in time; every other invariant held", flush=True
    )
    return 0
