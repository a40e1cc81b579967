"""Is the audit chain whole? Exit 0: whole. 6: broken, with what and where. 7: nobody can tell, with why."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError
from msgspec.structs import asdict

from quantum import clock
from quantum.chain import verify
from quantum.chain.verify import Outcome, Report
from quantum.commands import Command as Base
from quantum.commands import Exit
from quantum.models import Verification

EXITS = {Outcome.WHOLE: Exit.OK, Outcome.BROKEN: Exit.BROKEN, Outcome.CANNOT_TELL: Exit.CANNOT_TELL}
TOLD_EVERY_S = 0.2


class Command(Base):
    help = (
        "Computes the audit chain again and compares it with its seals and checkpoints: audit_verify [--json]"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--checkpoints",
            type=Path,
            action="append",
            metavar="FILE",
            help="a checkpoint file; once for each host that has one; default: AUDIT_CHECKPOINTS",
        )
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *_: Any, **options: Any) -> None:
        started_s = clock.monotonic_s()
        files = options["checkpoints"] or [settings.AUDIT_CHECKPOINTS]
        try:
            report = verify.verify(files=files, keys=settings.PERMIT_KEYS_DIR, tell=_Progress(self).tell)
        except (DatabaseError, OSError) as failure:
            self.leave(
                Exit.CANNOT_TELL, f"cannot tell: {type(failure).__name__}: {str(failure).strip()[:300]}"
            )
        took_s = round(clock.monotonic_s() - started_s, 3)
        self._keep(report)
        if options["json"]:
            self.data(_data(report, took_s))
        else:
            self._write(report, took_s)
        self.leave(EXITS[report.outcome])

    def _write(self, report: Report, took_s: float) -> None:
        say = self.stdout.write
        say(f"{report.outcome}: {report.events} events in {report.seals} seals, looked at in {took_s:.1f} s")
        say(f"head {report.head}")
        said = ", ".join(str(path) for path in report.files) or "no file"
        say(f"{report.checkpoints} checkpoints, the last of seal {report.last_checkpoint} ({said})")
        if report.unsealed:
            say(f"not sealed yet: {report.unsealed} events, the oldest for {report.oldest_s or 0:.0f} s")
        for problem in report.problems:
            say(f"BROKEN {problem.wrong}: {problem.text}")
        if report.more_problems:
            say(f"and {report.more_problems} more")
        for doubt in report.doubts:
            say(f"cannot tell: {doubt}")

    def _keep(self, report: Report) -> None:
        """For the pages. A user who may only read has looked all the same."""
        with suppress(DatabaseError):
            Verification.objects.create(
                outcome=report.outcome,
                text=_text(report)[:400],
                seals=report.seals,
                events=report.events,
                head=report.head,
            )


class _Progress:
    def __init__(self, command: Base) -> None:
        self._command = command
        self._shown_s = clock.monotonic_s() if sys.stderr.isatty() else float("inf")

    def tell(self, done: int, total: int) -> None:
        now_s = clock.monotonic_s()
        if now_s - self._shown_s >= TOLD_EVERY_S:
            self._shown_s = now_s
            self._command.stderr.write(f"\r{done:,} of {total:,} events", ending="")


def _text(report: Report) -> str:
    first = report.problems[0].text if report.problems else report.doubts[0] if report.doubts else ""
    more = len(report.problems) + report.more_problems - 1
    return f"{first} (and {more} more)" if more > 0 else first


def _data(report: Report, took_s: float) -> dict[str, Any]:
    return {
        "outcome": report.outcome,
        "seals": report.seals,
        "events": report.events,
        "head": report.head,
        "unsealed": {"events": report.unsealed, "oldest_s": report.oldest_s},
        "checkpoints": {
            "files": report.files,
            "lines": report.checkpoints,
            "last_seal": report.last_checkpoint,
        },
        "problems": [asdict(problem) for problem in report.problems],
        "more_problems": report.more_problems,
        "doubts": report.doubts,
        "took_s": took_s,
    }
