"""python -m tests.chaos: one seeded chaos run, judged. 0: every invariant held; 1: findings; 3: findings that are all
of time; 4: the run itself did not come to its end. With findings, everything is kept."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.chaos import checker, ends, gathering, rotation, script
from tests.chaos.evidence import Evidence, Finding, Row
from tests.chaos.rotation import LATE, NO_END
from tests.chaos.stage import Stage
from tests.stand_ins.running import ROOT, within

KEPT = ROOT / "var" / "chaos"
SIGTERM_S = 10.0
RUN_S_MAX = 240


def main() -> int:
    asked = _arguments().parse_args()
    if asked.seed is None:
        more = [f"--{word}" for word in ("json", "keep", "quiet") if getattr(asked, word)]
        return rotation.main(["--plans", str(asked.plans), *more])
    say = _nothing if asked.quiet else _say
    say(f"chaos: seed {asked.seed}, {asked.plans} plans")
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="quantum-chaos-", dir="/tmp"))  # a socket's path is short
    try:
        evidence, unable = run(folder, seed=asked.seed, plans=asked.plans, say=say)
    # Whatever ended it is shown, and its folder kept; nothing was judged.
    except (Exception, SystemExit):  # noqa: BLE001
        traceback.print_exc()
        _say(f"chaos: the run itself failed; its folder is kept: {_keep(folder, asked.seed)}")
        return NO_END
    findings = checker.check(evidence)
    summary = _summary(asked.seed, evidence, findings, seconds=round(time.monotonic() - began, 1))
    kept = KEPT / f"seed-{asked.seed}"
    shutil.rmtree(kept, ignore_errors=True)  # of an earlier run, that may have failed
    if findings or asked.keep:
        summary["kept"] = str(_keep(folder, asked.seed))
        (kept / "evidence.json").write_text(evidence.as_json())
        (kept / "findings.txt").write_text("".join(finding.line() + "\n" for finding in findings))
        (kept / "unable.txt").write_text("".join(each + "\n" for each in unable))
    shutil.rmtree(folder, ignore_errors=True)
    for finding in findings:
        _say(finding.line())
    print(json.dumps(summary) if asked.json else _line(summary))
    late = all(finding.is_of_time() for finding in findings)
    return 0 if not findings else LATE if late else 1


def run(folder: Path, *, seed: int, plans: int, say: Callable[[str], None]) -> tuple[Evidence, list[str]]:
    from tests.chaos.acts import Acts
    from tests.chaos.player import Player

    stage = Stage(folder)
    evidence = Evidence()
    # However it ends, what it started ends with it.
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, _give_up)
    signal.alarm(RUN_S_MAX)
    try:
        stage.start_up()
        stage.be_django()
        acts = Acts(stage, seed)
        player = Player(stage, acts, say)
        player.play(script.make(seed=seed, plans=plans))
        player.rest()
        gathering.from_redis(evidence, stage.valkey)
        player.restless += _stop(stage)
        gathering.from_files(evidence, stage)
        evidence.published, evidence.faults, evidence.poisons = acts.published, acts.faults, acts.poisons
        evidence.probes, evidence.faults_of_end = player.probes, player.restless
        return evidence, player.unable
    finally:
        signal.alarm(0)
        stage.end()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _nothing(_: str) -> None:
    pass


def _give_up(number: int, _: object) -> None:
    raise SystemExit(f"chaos: ended by {signal.Signals(number).name}; a run has {RUN_S_MAX} s")


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
    return told + (
        f"; {len(summary['findings'])} findings, all kept in {summary['kept']}" if "kept" in summary else ""
    )


def _keep(folder: Path, seed: int) -> Path:
    kept = KEPT / f"seed-{seed}"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(folder, kept, ignore=lambda _, names: [name for name in names if name.endswith(".sock")])
    return kept


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument(
        "--seed", type=int, help=f"without one: {rotation.STORMS} that follow from the commit"
    )
    parser.add_argument("--plans", type=int, default=40)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--keep", action="store_true", help="keep everything of a run that passed, too")
    parser.add_argument("--quiet", action="store_true", help="no talk on stderr")
    return parser


if __name__ == "__main__":
    sys.exit(main())
