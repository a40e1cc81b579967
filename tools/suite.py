"""The suite, beside each other on four workers: python -m tools.suite [pytest's words].

With SECOND_LOOK=1, as in .ci/run, tests that failed in company run again alone (docs/decisions/036). What fails on a
machine that ran fails the suite; what fails while it stood still, or while much of it was somebody else's, says
nothing, and is asked again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.machine import Machine

ROOT = Path(__file__).resolve().parents[1]

# Four on two cores: many tests wait for something.
IN_COMPANY = ("-n", "4", "--dist", "loadgroup", "--no-loadscope-reorder")
"""In the order of tests/conftest.py: xdist's own takes the groups of most tests first, not those of most time."""
BAD_LUCK = 3
"""So many failures of a machine that ran may be chance; more are none."""
LOOKS = 4
FAILED = 1
"""pytest's exit status for failed tests; every other one but 0 is no result at all."""


@dataclass(frozen=True)
class Failure:
    test: str
    began: float
    ended: float


@dataclass(frozen=True)
class Look:
    status: int
    failures: list[Failure]


def judged(look: Callable[[Sequence[str]], Look], away: Callable[[Failure], str], *, again: bool) -> int:
    """The suite's exit status after as many looks as it takes: at all tests, then at the named ones alone."""
    found = look(())
    for number in range(1, LOOKS):
        if found.status != FAILED or not again:
            return found.status
        whys = {failure.test: away(failure) for failure in found.failures}
        for test, why in whys.items():
            print(f"suite: failed, {why or 'the machine ran'}: {test}")
        counted = [test for test, why in whys.items() if not why]
        if not whys or len(counted) > (BAD_LUCK if number == 1 else 0):
            print(f"suite: failed while the machine ran: {len(counted)}")
            return found.status
        print("suite: once more, alone", flush=True)
        found = look([failure.test for failure in found.failures])
    return found.status


def main(words: list[str]) -> int:
    began = time.time()
    machine = Machine()

    def look(only: Sequence[str]) -> Look:
        how = [f"--only={test}" for test in only] or IN_COMPANY
        with tempfile.NamedTemporaryFile("r", suffix=".failures") as told:
            ours = ("-p", "tests.failures", f"--failures={told.name}")
            run = subprocess.run([sys.executable, "-m", "pytest", *ours, *how, *words], cwd=ROOT, check=False)
            return Look(run.returncode, [Failure(**json.loads(line)) for line in told])

    def away(failure: Failure) -> str:
        return machine.away(failure.began, failure.ended)

    status = judged(look, away, again=os.environ.get("SECOND_LOOK") == "1")
    ended = time.time()
    stood_s, percent = machine.stood_s(began, ended), machine.taken_percent(began, ended)
    print(
        f"suite: the machine stood still for {stood_s:.1f} of {ended - began:.0f} s, {percent:.1f} % was taken"
    )
    return status


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
