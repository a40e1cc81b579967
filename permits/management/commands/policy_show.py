"""Show the Governor's policy, and who made it so."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.db import Error as DatabaseError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from permits.models import PolicyVersion
from permits.policy import policies, rules
from quantum.commands import Command as Base
from quantum.commands import Exit
from quantum.log import safe


class Command(Base):
    help = "Show the policy that holds, and its history: policy_show [--history N] [--json]"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--history", type=int, default=5, metavar="N", help="so many versions; default 5")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            version, said = policies.newest()
            history = [_version(row) for row in PolicyVersion.objects.all()[: max(0, options["history"])]]
        except DatabaseError as error:
            self.leave(Exit.DEPENDENCY_DOWN, f"The database cannot be read ({type(error).__name__}).")
        differs = rules.difference(policies.seed(), said) if version else {}
        if options["json"]:
            self.data(
                {"version": version, "rules": said, "differs_from_settings": differs, "history": history}
            )
            return
        self._print(version, said, history)
        if differs:
            self.say(f"Differs from the settings in {', '.join(differs)}; the database wins.")

    def _print(self, version: int, said: rules.Rules, history: list[dict[str, Any]]) -> None:
        title = f"policy v{version}" if version else "no version yet: the settings hold"
        table = Table("rule", "value", title=title, title_justify="left")
        for name, (_, value) in rules.difference({}, said).items():
            table.add_row(escape(safe(name)), escape(safe(rules.worded(name, value))))
        console = Console(file=sys.stdout)
        console.print(table)
        past = Table("version", "at", "by", "why", title="history", title_justify="left")
        for one in history:
            past.add_row(str(one["version"]), one["at"], escape(safe(one["by"])), escape(safe(one["reason"])))
        console.print(past)


def _version(row: PolicyVersion) -> dict[str, Any]:
    return {"version": row.version, "at": row.at.isoformat(), "by": row.by, "reason": row.reason}
