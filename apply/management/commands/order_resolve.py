"""Show what is known of an order of unknown fate; where nobody can prove it, say what became of it."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from apply.proving import deciding
from apply.proving.deciding import CannotDecide, Evidence
from permits.management.acting import ActCommand
from quantum.commands import Exit
from quantum.log import safe
from quantum.redis import command_client


class Command(ActCommand):
    help = "Show the evidence: order_resolve PLAN_ID; decide: order_resolve PLAN_ID filled --reason '...'"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("plan_id")
        parser.add_argument(
            "fate", nargs="?", choices=deciding.FATES, help="without it the evidence is shown"
        )
        parser.add_argument("--confirm", default="", metavar="ACCOUNT", help="in live: the account, typed")
        parser.add_argument("--dry-run", action="store_true", help="say what would be done")
        self.add_act_arguments(parser, always=False)

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            self._handle(options)
        except DatabaseError as error:
            text = f"The database refuses ({type(error).__name__}). Nothing was changed."
            self.leave(Exit.DEPENDENCY_DOWN, text)

    def _handle(self, options: dict[str, Any]) -> None:
        plan_id, fate = options["plan_id"], options["fate"]
        who = self.who_and_why(options) if fate else {}
        with command_client() as client:
            known = deciding.evidence(plan_id, client=client)
        if known is None:
            self.leave(Exit.USAGE, f"There is no order of plan {safe(plan_id)}.")
        if not fate:
            may = {each: deciding.refusal(known, each) for each in deciding.FATES}
            self._tell(known, options, may=may)
            return
        why_not = deciding.refusal(known, fate)
        if not options["json"]:
            self._show(known)
        if why_not:
            self._tell(known, options, why_not=why_not)
            self.leave(Exit.BLOCKED, f"Nothing was changed. {why_not}")
        before = f"{known.order.symbol} order {known.order.client_order_id}: {known.plan.state}"
        self.say(f"{settings.APPLY_MODE.upper()} {settings.ACCOUNT}: {before} -> {deciding.MEANS[fate]}")
        if options["dry_run"]:
            self._tell(known, options, decided="")
            return
        if settings.APPLY_MODE == "live" and options["confirm"] != settings.ACCOUNT:
            self.leave(Exit.USAGE, f"Nothing was changed. To decide it, type --confirm {settings.ACCOUNT}")
        self.ask(options)
        try:
            decided = deciding.decide(plan_id, fate, **who)
        except CannotDecide as cannot:
            self.leave(Exit.BLOCKED, f"Nothing was changed. {cannot}")
        self._tell(decided, options, decided=fate)

    def _tell(self, known: Evidence, options: dict[str, Any], **more: Any) -> None:
        if options["json"]:
            self.data({**known.as_data(), "dry_run": options["dry_run"], **more})
        elif "may" in more:
            self._show(known)
            for fate, why_not in more["may"].items():
                self.say(f"{fate}: {why_not or 'a person may say so'}")
        elif more.get("decided"):
            self.stdout.write(more["decided"])

    def _show(self, known: Evidence) -> None:
        table = Table("what", "known")
        for part, rows in known.as_data().items():
            told = (
                rows if isinstance(rows, dict) else {f"{number}": row for number, row in enumerate(rows, 1)}
            )
            for name, value in told.items():
                table.add_row(escape(f"{part} {name}"), escape(safe(str(value))))
        Console(file=sys.stderr).print(table)
