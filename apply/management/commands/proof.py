"""What can be claimed of this house, computed from records. Exit 0: clean. 6: something is wrong, each with its name.
7: nothing is, but a part cannot be told; so is a span in which no exit passed."""

from __future__ import annotations

import datetime as dt
import re
import sys
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.db import Error as DatabaseError

from apply.models import Plan
from apply.plans.blocked import FREED
from apply.proof_report import look, report, told
from apply.proof_report.report import Outcome, Report, Span
from quantum import clock
from quantum.commands import Command as Base
from quantum.commands import Exit
from quantum.log import safe
from quantum.models import ProofRun

EXITS = {Outcome.CLEAN: Exit.OK, Outcome.WRONG: Exit.BROKEN, Outcome.CANNOT_TELL: Exit.CANNOT_TELL}
LOOK_EVERY_S = 0.5
_AGO = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def when(text: str) -> dt.datetime:
    """A moment (UTC where it says no zone), or how long ago: 90s, 15m, 24h, 7d."""
    ago = _AGO.fullmatch(text)
    try:
        if ago:
            return clock.now() - dt.timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        found = dt.datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise ArgumentTypeError(f"{text!r} is no moment; say 2026-01-31T12:00 or 24h") from None
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


class Command(Base):
    help = (
        "What can be claimed of this house, computed from records: proof [--since 24h] [--json|--md|--html]"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--since", type=when, help="a moment, or 24h, 7d ago; default: this instance's start"
        )
        parser.add_argument("--until", type=when, help="default: now")
        parser.add_argument(
            "--live", type=int, metavar="N", help="watch until N exits have passed, then report"
        )
        parser.add_argument("--within", type=float, default=3600, metavar="S", help="how long --live watches")
        parser.add_argument(
            "--signatures", action="store_true", help="verify every permit's too: about 0.1 ms each"
        )
        ways = parser.add_mutually_exclusive_group()
        for way in ("json", "html", "md"):
            ways.add_argument(f"--{way}", action="store_true", help=f"as {way} on stdout")

    def handle(self, *_: Any, **options: Any) -> None:
        live, since, until = options["live"], options["since"], options["until"]
        if live is not None and (live < 1 or since or until):
            self.leave(Exit.USAGE, "--live takes a number from 1 on, and neither --since nor --until")
        if since and since >= (until or clock.now()):
            self.leave(Exit.USAGE, "--since must lie before --until")
        try:
            begin = clock.now()
            passed = self._watch(live, begin, options["within"]) if live else None
            span = Span(begin if live else since or look.from_the_start(), until or clock.now())
            history, why_not = look.exchange()
            asked, tell = options["signatures"], self._verified
            found = look.whole(span, history=history, why_not=why_not, signatures=asked, tell=tell)
            keep(found)
        except DatabaseError as failure:
            text = f"The database refuses ({type(failure).__name__}): nothing can be told."
            self.leave(Exit.DEPENDENCY_DOWN, text)
        self._write(found, options)
        if passed is not None and passed < live and found.outcome is not Outcome.WRONG:
            self.leave(
                Exit.CANNOT_TELL, f"Only {passed} of {live} exits passed within {options['within']:.0f} s."
            )
        self.leave(EXITS[found.outcome])

    def _watch(self, wanted: int, begin: dt.datetime, within_s: float) -> int:
        """How many have passed when it ends: enough of them, its time over, or Ctrl-C."""
        end_s, shown = clock.monotonic_s() + within_s, -1
        mine = Plan.objects.filter(created_at__gte=begin, state__in=FREED).exclude(result_id="")
        passed = 0
        try:
            while passed < wanted and clock.monotonic_s() < end_s:
                passed = mine.count()
                if passed != shown:
                    shown = passed
                    self._progress(f"{passed} of {wanted} exits have passed")
                if passed < wanted:
                    clock.sleep_s(LOOK_EVERY_S)
        except KeyboardInterrupt:
            self.say("")
        return passed

    def _verified(self, n: int, total: int) -> None:
        self._progress(f"{n:,} of {total:,} permits: signatures verified")

    def _progress(self, text: str) -> None:
        if sys.stderr.isatty():
            self.stderr.write(f"\r{text}", ending="")
        else:
            self.say(text)

    def _write(self, found: Report, options: dict[str, Any]) -> None:
        if options["json"]:
            self.data(report.as_data(found))
        elif options["md"]:
            self.stdout.write(told.markdown(found))
        elif options["html"]:
            self.stdout.write(told.html(found))
        else:
            for line in told.lines(found):
                self.stdout.write(safe(line))


def keep(found: Report) -> None:
    """For the page, which asks no exchange."""
    ProofRun.objects.create(
        outcome=found.outcome, since=found.span.since, until=found.span.until, data=report.as_data(found)
    )
