"""Show the whole story of one plan."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from apply.glance import stopped
from apply.models import Plan
from apply.plans import blocked, timeline
from permits.pages import story
from quantum import advice
from quantum.commands import Command as Base
from quantum.commands import Exit
from quantum.log import safe


class Command(Base):
    help = "Show what became of a plan, with millisecond offsets: plan_show <plan_id> [--json]"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("plan_id", help="the id, or the beginning of one")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *_: Any, **options: Any) -> None:
        found = timeline.of(self._one_id(options["plan_id"]))
        if found is None:
            self.leave(
                Exit.ERROR,
                f"There is no plan {safe(options['plan_id'])}. Ids stand in the log, in permit_list and on the pages.",
            )
        if options["json"]:
            self.data(stopped.whole(found))
            return
        self._print(found)

    def _one_id(self, text: str) -> str:
        ids = list(Plan.objects.filter(plan_id__startswith=text).values_list("plan_id", flat=True)[:6])
        if len(ids) > 1 and text not in ids:
            self.leave(Exit.USAGE, f"Several plans begin so: {', '.join(ids)}")
        return text if text in ids or not ids else ids[0]

    def _print(self, found: timeline.Timeline) -> None:
        plan = found.plan
        heading = f"{plan.symbol} {plan.action} - {plan.state} {plan.error}".strip()
        table = Table(title=escape(safe(heading)), title_justify="left")
        table.add_column("ms", justify="right")
        table.add_column("what")
        table.add_column("")
        for mark in found.marks():
            details = "  ".join(
                f"{name}={value}" for name, value in mark.detail.items() if value not in ("", None)
            )
            table.add_row(f"{found.offset_ms(mark.at):.1f}", escape(mark.what), escape(safe(details)))
        Console(file=sys.stdout).print(table)
        self._say_why(found)
        exit_ = blocked.of_plan(plan)
        if exit_ is not None:
            until = "was" if exit_.freed_at else "is still"
            self.say(
                f"The exit of {safe(plan.symbol)} {until} blocked: {exit_.seconds:.1f} s so far ({exit_.cause})."
            )

    def _say_why(self, found: timeline.Timeline) -> None:
        """The numbers of each denial, what the reason means, and what to do next."""
        why = stopped.of(found)
        if why is None:
            return
        denied = [permit for permit in found.permits if not permit.verdict]
        for permit in denied:
            self._say_numbers(f"{permit.gate} denied {permit.reason}", story.numbers(permit.raw))
            self._advise(permit.reason, gate=permit.gate)
        if not denied:
            self._say_numbers(why.reason, why.compared)
            self._advise(why.reason)
        for way in why.ways:
            if way.command:
                self.say(safe(f"  manage.py {way.command}"))

    def _say_numbers(self, what: str, numbers: list[tuple[str, str]]) -> None:
        told = "  ".join(f"{name}={value}" for name, value in numbers)
        self.say(safe(f"{what}: {told}" if told else what))

    def _advise(self, reason: str, *, gate: str = "") -> None:
        written = advice.of(reason, gate=gate)
        if written is not None:
            self.say(safe(f"  {reason}: {written.means}."))
            if written.next != "none":
                self.say(safe(f"  next: {written.next}."))
