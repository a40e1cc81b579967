"""Change the Governor's policy."""

from __future__ import annotations

import getpass
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError

from permits.policy import drafts, policies, rules
from quantum.commands import Command as Base
from quantum.commands import Exit
from quantum.log import safe


class Command(Base):
    help = (
        "Change limits: policy_set NAME=VALUE ... --reason WHY, or --draft FILE. NAME is a limit in total "
        f"({', '.join(rules.KINDS)}), each.NAME for every symbol, NAME with --symbol for one, allowlist or "
        "approval_symbols; operator.gates, operator.max_notional, and with --symbol operator.max_quantity. VALUE "
        "none: no limit; default: not said, which for a symbol means what each.NAME says, and else no limit. "
        "The Governor obeys within a second."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("words", nargs="*", metavar="NAME=VALUE")
        parser.add_argument("--draft", metavar="FILE", help=drafts.HELP)
        parser.add_argument("--symbol", default="", help="for this symbol alone")
        parser.add_argument("--shadow", action="store_true", help="a shadow rule: recorded, never blocks")
        parser.add_argument("--reason", default="", help="why, in at least 8 characters")
        parser.add_argument("--by", default="", help="who; default is your login name")
        parser.add_argument("--expect", type=int, metavar="VERSION", help="refuse if it is another by now")
        parser.add_argument("--dry-run", action="store_true", help="show the change, make none")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *_: Any, **options: Any) -> None:
        if not options["words"] and not options["draft"]:
            self.leave(Exit.USAGE, "Nothing to change: give NAME=VALUE, or --draft FILE.")
        try:
            version, before = policies.newest()
            after = drafts.after(before, **{name: options[name] for name in drafts.OPTIONS})
            changes = rules.difference(before, after)
            self.say(f"{settings.APPLY_MODE.upper()} {settings.ACCOUNT}, policy v{version}:")
            for name, (old, new) in changes.items():
                self.say(safe(f"{name}: {rules.worded(name, old)} -> {rules.worded(name, new)}"))
            expected = version if options["expect"] is None else options["expect"]
            if changes and not options["dry_run"]:
                by, reason = options["by"] or getpass.getuser(), options["reason"]
                version = policies.change(
                    rules=after, by=by, reason=reason, expected_version=expected
                ).version
        except rules.Nonsense as nonsense:
            self.leave(Exit.USAGE, "Refused:\n" + "\n".join(f"  {safe(one)}" for one in nonsense.problems))
        except policies.ChangedMeanwhile as changed:
            self.leave(Exit.BLOCKED, f"Refused: {changed}.")
        except DatabaseError as error:
            self.leave(
                Exit.DEPENDENCY_DOWN, f"The database refuses ({type(error).__name__}). Nothing changed."
            )
        if not changes:
            self.say("That is what the policy says already; nothing was changed.")
        if options["json"]:
            self.data({"version": version, "changes": changes, "dry_run": options["dry_run"]})
        else:
            self.stdout.write(str(version))
