"""python -m tests.chaos: one seeded chaos run, judged. 0: every invariant held; 1: findings, and everything is kept."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.chaos import checker, ends, gathering, script
from tests.chaos.evidence import Evidence, Finding, Row
from tests.chaos.stage import Stage
from tests.stand_ins.running import ROOT, within

KEPT = ROOT / "var" / "chaos"
SIGTERM_S = 10.0


def main() -> int:
    asked = _arguments().parse_args()
    say = (lambda _: None) if asked.quiet else (lambda text: print(text, file=sys.stderr, flush=True))
    say(f"chaos: seed {asked.seed}, {asked.plans} plans")
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="quantum-chaos-", dir="/tmp"))  # noqa: S108  a socket's path must be short
    evidence, unable = run(folder, seed=asked.seed, plans=asked.plans, say=say)
    findings = checker.check(evidence)
    summary = _summary(asked.seed, evidence, findings, seconds=round(time.monotonic() - began, 1))
    if findings or asked.keep:
        summary["kept"] = str(_keep(folder, asked.seed, evidence, findings, unable))
    shutil.rmtree(folder, ignore_errors=True)
    for finding in findings:
        print(finding.line(), file=sys.stderr)
    print(json.dumps(summary) if asked.json else _line(summary))
    return 1 if findings else 0


def run(folder: Path, *, seed: int, plans: int, say: object) -> tuple[Evidence, list[str]]:
    from tests.chaos.acts import Acts
    from tests.chaos.player import Player

    stage = Stage(folder)
    evidence = Evidence()
    try:
        stage.start_up()
        stage.be_django()
        acts = Acts(stage, seed)
        player = Player(stage, acts, say)  # type: ignore[arg-type]
        player.play(script.make(seed=seed, plans=plans))
        player.rest()
        gathering.from_redis(evidence, stage.valkey)
        player.restless += _stop(stage)
        gathering.from_files(evidence, stage)
        evidence.published, evidence.faults, evidence.poisons = acts.published, acts.faults, acts.poisons
        evidence.probes, evidence.faults_of_end = player.probes, player.restless
        return evidence, player.unable
    finally:
        stage.end()


def _stop(stage: Stage) -> list[str]:
    [up] = stage.ups()
    os.kill(up, signal.SIGTERM)
    try:
        within(SIGTERM_S, lambda: stage.processes() == [], "everything has ended")
    except AssertionError as late:
        return [f"SIGTERM: {late}"]
    return []


def _summary(seed: int, evidence: Evidence, findings: list[Finding], *, seconds: float) -> Row:
    calm = ends.untouched(evidence)
    took = [probe["took_s"] for probe in evidence.probes if probe["took_s"] is not None]
    return {
        "seed": seed,
        "plans": len(evidence.published),
        "filled": len(ends.filled(evidence, evidence.published)),
        "untouched": len(calm),
        "untouched_filled": len(ends.filled(evidence, calm)),
        "states": dict(Counter(row["state"] for row in evidence.plans)),
        "faults": dict(Counter(fault["kind"] for fault in evidence.faults)),
        "orders": len(evidence.orders),
        "back_s_max": round(max(took, default=0.0), 1),
        "findings": [finding.line() for finding in findings],
        "result": "failed" if findings else "passed",
        "seconds": seconds,
    }


def _line(summary: Row) -> str:
    told = (
        f"chaos seed {summary['seed']}: {summary['result']}, {summary['plans']} plans, {summary['filled']} filled, "
        f"{summary['untouched_filled']} of {summary['untouched']} untouched ones, "
        f"{sum(summary['faults'].values())} faults, {summary['orders']} orders, back within {summary['back_s_max']} s, "
        f"{summary['seconds']} s"
    )
    return told + (f"; {len(summary['findings'])} findings, all kept in {summary['kept']}" if "kept" in summary else "")


def _keep(folder: Path, seed: int, evidence: Evidence, findings: list[Finding], unable: list[str]) -> Path:
    kept = KEPT / f"seed-{seed}"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(folder, kept, ignore=lambda _, names: [name for name in names if name.endswith(".sock")])
    (kept / "evidence.json").write_text(evidence.as_json())
    (kept / "findings.txt").write_text("\n".join(finding.line() for finding in findings) + "\n")
    (kept / "unable.txt").write_text("\n".join(unable) + "\n")
    return kept


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--plans", type=int, default=40)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--keep", action="store_true", help="keep everything of a run that passed, too")
    parser.add_argument("--quiet", action="store_true", help="no talk on stderr")
    return parser


if __name__ == "__main__":
    sys.exit(main())
