"""What takes an hour: `make deep`. Appends to bench/results/deep.jsonl; stopped and started again on the same commit,
it goes on with the next seed.

First random sequences of the gate against its model, 10,000 unless told otherwise, in rounds of one line and one seed
each. A round that fails prints its shortest sequence and ends the run with 1. Then the chaos run with the seeds 1 to
100, three at once, a line each; one that fails is recorded, kept in var/chaos, and the next one runs. The same seed on
the same commit shows it again.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
RESULTS = ROOT / "bench" / "results" / "deep.jsonl"
SEQUENCES, ROUND = 10_000, 250
STORMS, PLANS = 100, 40
STORMS_AT_ONCE = 3
"""Most of a storm is waiting: two at once are 2.5 a minute on two cores, one after the other 1.3. Each has its own
servers, ports and directory."""
Play = Callable[[int, int], tuple[str, dict[str, int]]]
"""A seed and a number of sequences; what failed ('' for nothing), and how often each answer was seen."""


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="deep", description=__doc__)
    parser.add_argument("sequences", nargs="?", type=int, default=SEQUENCES, help="of the gate")
    parser.add_argument("--storms", type=int, default=STORMS, metavar="N", help="the chaos run, seeds 1 to N")
    asked = parser.parse_args(words)
    commit = _commit()
    return _sequences(commit, asked.sequences) or _storms(commit, asked.storms)


def _storms(commit: str, wanted: int) -> int:
    done = {int(str(line["seed"])): line for line in _done(commit) if line.get("what") == "chaos"}
    missing = [seed for seed in range(1, wanted + 1) if seed not in done]
    with ThreadPoolExecutor(STORMS_AT_ONCE) as at_once:
        try:
            done |= dict(zip(missing, at_once.map(partial(_storm, commit), missing), strict=True))
        except KeyboardInterrupt:
            at_once.shutdown(cancel_futures=True)  # or all the others would still be begun
            raise
    failed = [seed for seed in range(1, wanted + 1) if done[seed]["result"] != "passed"]
    print(
        f"chaos: {wanted - len(failed)} of {wanted} storms passed", *(["failed:", failed] if failed else [])
    )
    return 1 if failed else 0


def _storm(commit: str, seed: int) -> dict[str, object]:
    """In a process of its own: Django reads its settings once. It ends by itself, and cleans up behind it."""
    words = f"-m tests.chaos --json --quiet --plans {PLANS} --seed {seed}"
    ended = subprocess.run([sys.executable, *words.split()], cwd=ROOT, capture_output=True, text=True)
    if ended.returncode in (-signal.SIGINT, 130):
        raise KeyboardInterrupt  # Ctrl-C reached it as well: no result, and its seed is played the next time
    try:
        told: dict[str, object] = json.loads(ended.stdout)
    except ValueError:
        print(ended.stderr[-2000:], file=sys.stderr)
        told = {"seed": seed, "result": "failed", "findings": ["the run itself failed"]}
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = {"commit": commit, "what": "chaos", **told, "at": at}
    _append(line)
    print(
        f"chaos seed {seed}: {line['result']}, {told.get('seconds')} s {told['findings'] or ''}", flush=True
    )
    return line


def _append(line: dict[str, object]) -> None:
    with RESULTS.open("a") as results:
        results.write(json.dumps(line) + "\n")


def _sequences(commit: str, wanted: int) -> int:
    done = [line for line in _done(commit) if "sequences" in line]
    passed = sum(int(str(line["sequences"])) for line in done if line["result"] == "passed")
    seed = 1 + max((int(str(line["seed"])) for line in done), default=0)
    print(f"{commit}: {passed} of {wanted} sequences have passed", flush=True)
    if passed >= wanted:
        return 0
    play = _prepare()
    while passed < wanted:
        started, sequences = time.monotonic(), min(ROUND, wanted - passed)
        failure, seen = play(seed, sequences)
        line: dict[str, object] = {
            "commit": commit,
            "seed": seed,
            "sequences": sequences,
            "result": "failed" if failure else "passed",
            "spent": seen.get("spent", 0),
            "seconds": round(time.monotonic() - started, 1),
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        _append(line)
        if failure:
            print(f"seed {seed} failed:\n{failure}", file=sys.stderr)
            return 1
        passed += ROUND if wanted - passed >= ROUND else wanted - passed
        print(
            f"seed {seed}: {passed} of {wanted} passed, {line['seconds']} s, {line['spent']} pairs spent",
            flush=True,
        )
        seed += 1
    return 0


def _commit() -> str:
    """With a mark when the tree is not what was committed: such a result proves nothing about the commit."""
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results")
    return _git("rev-parse", "--short=12", "HEAD") + ("+changes" if changed else "")


def _git(*words: str) -> str:
    command = ["git", *words]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def _done(commit: str) -> list[dict[str, object]]:
    if not RESULTS.exists():
        return []
    lines = [json.loads(line) for line in RESULTS.read_text().splitlines() if line]
    return [line for line in lines if line["commit"] == commit]


def _prepare() -> Play:
    """A server, keys and settings of its own, as the tests have them."""
    import django

    os.environ["DJANGO_SETTINGS_MODULE"] = "quantum.settings"
    import tests.environment  # noqa: F401  before Django reads its settings

    django.setup()
    from django.conf import settings

    from quantum import embedded, signing
    from quantum.redis import command_client

    embedded.start(directory=settings.VAR_DIR / "valkey", unix_socket=settings.EMBEDDED_SOCKET)
    if not embedded.wait_until_ready(unix_socket=settings.EMBEDDED_SOCKET):
        raise SystemExit("the embedded Valkey does not start")
    signing.ensure_keys(settings.PERMIT_KEYS_DIR)

    from django.test import override_settings
    from hypothesis import seed as seeded
    from hypothesis.stateful import run_state_machine_as_test

    from tests.permits.gate_machine import WAIT_MS, machine_on, terms

    def play(seed: int, sequences: int) -> tuple[str, dict[str, int]]:
        machine = seeded(seed)(machine_on(command_client()))
        try:
            with override_settings(APPLY_PERMIT_WAIT_MS=WAIT_MS):
                run_state_machine_as_test(machine, settings=terms(sequences=sequences, derandomize=False))
        # Whatever the sequence raised is the finding, and goes into the record.
        except Exception as failure:  # noqa: BLE001
            notes = "\n".join(getattr(failure, "__notes__", []))
            return f"{type(failure).__name__}: {failure}\n{notes}", dict(machine.seen)
        return "", dict(machine.seen)

    return play


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
