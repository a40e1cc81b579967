"""Run past plans through a changed policy."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.db import Error as DatabaseError

from permits.governor import replay
from permits.management.tables import table
from permits.policy import drafts, policies, rules
from quantum import amounts
from quantum.commands import Command as Base
from quantum.commands import Exit
from quantum.log import safe


class Command(Base):
    help = (
        "What a changed policy would have decided differently about past plans: policy_replay [--last N] "
        "NAME=VALUE ... (words as for policy_set), or --draft FILE. Changes nothing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("words", nargs="*", metavar="NAME=VALUE", help="none: the policy as it is")
        parser.add_argument("--draft", metavar="FILE", help=drafts.HELP)
        parser.add_argument("--symbol", default="", help="the words are for this symbol alone")
        parser.add_argument(
            "--last",
            type=int,
            default=1000,
            metavar="N",
            help=f"so many plans; default 1000, most {replay.MOST}",
        )
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            version, said = policies.newest()
            given = {name: options[name] for name in drafts.OPTIONS if name != "shadow"}
            changed = drafts.after(said, **given, shadow=False)
            recorded = replay.recent(max(1, options["last"]))
            found = replay.replay(
                recorded.pasts, policies.of(changed, version=version), charges=recorded.charges
            )
            same, of = replay.agree(recorded.pasts)
        except rules.Nonsense as nonsense:
            self.leave(Exit.USAGE, "Refused:\n" + "\n".join(f"  {safe(one)}" for one in nonsense.problems))
        except DatabaseError as error:
            self.leave(Exit.DEPENDENCY_DOWN, f"The database cannot be read ({type(error).__name__}).")
        differing = [_data(one) for one in found if one.differs]
        unknown = [one.past.plan_id for one in found if not one.known]
        if options["json"]:
            self.data(
                {
                    "policy_version": version,
                    "changes": rules.difference(said, changed),
                    "plans": len(found),
                    "differing": differing,
                    "not_enough_recorded": unknown,
                    "by_the_policy_of_their_time": {"agree": same, "of": of},
                }
            )
            return
        self.say(f"{len(found)} plans, {len(differing)} decided differently")
        if unknown:
            self.say(f"{len(unknown)} cannot be told: not enough was recorded when they were decided")
        self.say(f"By the policy of their time {same} of {of} are decided as they were")
        headings = ("plan", "symbol", "was", "would be", "compared")
        self.stdout.write(table(headings, [_row(one) for one in differing]))


def _data(one: replay.Replayed) -> dict[str, Any]:
    return {
        "plan_id": one.past.plan_id,
        "symbol": one.past.symbol,
        "was": one.past.said,
        "would_be": one.reason,
        "compared": {
            name: value if isinstance(value, str) else amounts.plain(value)
            for name, value in one.rule.items()
        },
    }


def _row(said: dict[str, Any]) -> list[str]:
    compared = " ".join(f"{name}={value}" for name, value in said["compared"].items())
    return [said["plan_id"], said["symbol"], said["was"], said["would_be"], compared]
