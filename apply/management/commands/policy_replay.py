"""Run past plans through a changed policy."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from apply.plans import replay
from permits.policy import policies, rules
from quantum import amounts
from quantum.commands import Command as Base
from quantum.commands import Exit
from quantum.log import safe


class Command(Base):
    help = (
        "What a changed policy would have decided differently about past plans: policy_replay [--last N] "
        "NAME=VALUE ... (words as for policy_set). Changes nothing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("words", nargs="*", metavar="NAME=VALUE", help="none: the policy as it is")
        parser.add_argument("--symbol", default="", help="the words are for this symbol alone")
        parser.add_argument("--last", type=int, default=1000, metavar="N", help="so many plans; default 1000")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *_: Any, **options: Any) -> None:
        version, said = policies.newest()
        try:
            changed = rules.changed(said, options["words"], symbol=options["symbol"])
            policy = policies.of(changed, version=version)
        except rules.Nonsense as nonsense:
            self.leave(Exit.USAGE, "Refused:\n" + "\n".join(f"  {safe(one)}" for one in nonsense.problems))
        plans, before = replay.recent(max(1, options["last"]))
        found = replay.replay(plans, policy, before=before)
        differing = [one for one in found if one.differs]
        if options["json"]:
            self.data(
                {
                    "policy_version": version,
                    "changes": rules.difference(said, changed),
                    "plans": len(found),
                    "differing": [_data(one) for one in differing],
                }
            )
            return
        self.say(f"{len(found)} plans, {len(differing)} decided differently")
        _print(differing)


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


def _print(differing: list[replay.Replayed]) -> None:
    table = Table("plan", "symbol", "was", "would be", "compared")
    for one in differing:
        row = _data(one)
        compared = " ".join(f"{name}={value}" for name, value in row["compared"].items())
        table.add_row(
            row["plan_id"], escape(safe(row["symbol"])), row["was"], row["would_be"], escape(safe(compared))
        )
    Console(file=sys.stdout).print(table)
