"""Commands that change something: who, why, and a yes on a terminal."""

from __future__ import annotations

import getpass
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings

from quantum.audit import REASON_MIN
from quantum.commands import Command, Exit


class ActCommand(Command):
    def add_act_arguments(self, parser: ArgumentParser, *, always: bool = True) -> None:
        """always: the command does nothing but act; others ask for the reason when they come to it."""
        parser.add_argument(
            "--reason", required=always, default="", help=f"why, at least {REASON_MIN} characters"
        )
        parser.add_argument("--by", default="", help="who; default: the login name")
        parser.add_argument("--yes", action="store_true", help="do not ask on a terminal")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def who_and_why(self, options: dict[str, Any]) -> dict[str, str]:
        reason, by = options["reason"].strip(), options["by"].strip() or getpass.getuser()
        for name, said in (("--reason", reason), ("--by", by)):
            if any("\ud800" <= letter <= "\udfff" for letter in said):  # bytes that are no UTF-8
                self.leave(Exit.USAGE, f"{name} is not readable as UTF-8. Nothing was changed.")
        if len(reason) < REASON_MIN:
            self.leave(Exit.USAGE, f"--reason needs at least {REASON_MIN} characters: somebody will ask.")
        return {"by": by[:60], "reason": reason[:400]}

    def confirm(self, options: dict[str, Any], *, before: str, after: str) -> None:
        """Before and after, with account and mode; scripts, which have no terminal, gave a reason already."""
        self.say(f"{settings.APPLY_MODE.upper()} {settings.ACCOUNT}: {before} -> {after}")
        self.ask(options)

    def ask(self, options: dict[str, Any]) -> None:
        if options["yes"] or not sys.stdin.isatty():
            return
        if input("Go on? [y/N] ").strip().lower() not in ("y", "yes"):
            self.leave(Exit.OK, "Nothing was changed.")
