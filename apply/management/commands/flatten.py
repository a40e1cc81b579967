"""Close everything now, through both gates."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError

from apply.management.waiting import WaitingCommand
from apply.models import Plan
from apply.operators import flatten
from apply.operators.flatten import Line
from apply.proposals.taking import Taken
from permits.management.acting import ActCommand
from permits.policy.rules import Nonsense
from quantum import amounts
from quantum.commands import Exit
from quantum.log import safe
from quantum.redis import RedisError, command_client


class Command(ActCommand, WaitingCommand):
    help = "Close positions now, through both gates: flatten BTCUSDT --reason '...'; flatten --all --reason '...'"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("symbols", nargs="*", metavar="SYMBOL")
        parser.add_argument("--all", action="store_true", help="every symbol that is not surely flat")
        parser.add_argument(
            "--confirm", default="", metavar="ACCOUNT", help="of --all, and in live: the account, typed"
        )
        parser.add_argument("--dry-run", action="store_true", help="show what would be closed, close nothing")
        self.add_wait_argument(parser)
        self.add_act_arguments(parser)

    def handle(self, *_: Any, **options: Any) -> None:
        if bool(options["symbols"]) == options["all"]:
            self.leave(Exit.USAGE, "Name symbols, or say --all.")
        said, client = self.who_and_why(options), command_client()
        named = {symbol.strip().upper() for symbol in options["symbols"]}
        try:
            lines = flatten.preview(client, symbols=named)
            for line in lines:
                self._announce(line)
            if not lines:
                self.say("No symbol has a position, as ledger and p33 tell: there is nothing to close.")
            if options["dry_run"] or not lines:
                self._tell(options, lines, {}, {})
                self.leave(Exit.OK, "Nothing was done.")
            self._confirmed(options, lines)
            taken = flatten.flatten(client, lines, **said)
            ids = [each.plan.plan_id for each in taken.values() if each.plan]
            found = {plan.symbol: plan for plan in self.ended(ids, wait=options["wait"]).values()}
        except RedisError as error:
            self.leave(
                Exit.DEPENDENCY_DOWN, f"Redis gave no answer ({type(error).__name__}). Nothing was done."
            )
        except DatabaseError as error:
            self.leave(
                Exit.DEPENDENCY_DOWN,
                f"The database refuses ({type(error).__name__}). What was proposed: plan_list --source flatten",
            )
        except Nonsense as nonsense:
            self.leave(Exit.BROKEN, safe(f"The policy cannot be read: {nonsense}. Nothing was done."))
        self._tell(options, lines, taken, found)
        self._leave(taken, found, wait=options["wait"])

    def _announce(self, line: Line) -> None:
        age = "" if line.age_s is None else f", read {line.age_s:.0f} s ago"
        self.say(
            safe(
                f"{settings.APPLY_MODE.upper()} {settings.ACCOUNT} {line.symbol}: the exchange holds "
                f"{_amount(line.exchange, 'unknown')}{age}, the ledger says {_amount(line.ledger, 'never entered')} "
                f"-> 0 by one reduce-only order, if both gates grant it"
            )
        )
        if not line.told:
            self.say(
                safe(f"{line.symbol}: p33 has not told it lately (see doctor); it is asked for all the same.")
            )
        if not line.allowed:
            self.say(safe(f"{line.symbol} is not on the policy's allow-list: its proposal will be refused."))

    def _confirmed(self, options: dict[str, Any], lines: list[Line]) -> None:
        if not options["all"] and settings.APPLY_MODE != "live":
            return self.ask(options)
        typed = options["confirm"]
        if not typed and sys.stdin.isatty():
            typed = input(f"This closes {len(lines)} positions. Type the account's name to go on: ").strip()
        if typed != settings.ACCOUNT:
            self.leave(Exit.USAGE, f"Nothing was done. To go on, type --confirm {settings.ACCOUNT}")
        return None

    def _tell(
        self, options: dict[str, Any], lines: list[Line], taken: dict[str, Taken], found: dict[str, Plan]
    ) -> None:
        rows = [_row(line, taken.get(line.symbol), found.get(line.symbol)) for line in lines]
        if options["json"]:
            self.data({"dry_run": options["dry_run"], "symbols": rows})
            return
        for row in rows if taken else []:
            words = (row["symbol"], row["plan_id"], row["state"], row["why"])
            self.stdout.write(safe("  ".join(word for word in words if word)))

    def _leave(self, taken: dict[str, Taken], found: dict[str, Plan], *, wait: bool) -> None:
        if any(each.plan is not None and not each.published for each in taken.values()):
            self.leave(
                Exit.DEPENDENCY_DOWN, "Redis gave no answer: what is recorded is published when it is back."
            )
        if any(each.plan is None for each in taken.values()):
            self.leave(Exit.BLOCKED)
        self.leave(self.verdict(list(found.values()), wait=wait))


def _row(line: Line, taken: Taken | None, plan: Plan | None) -> dict[str, Any]:
    refused = str(taken.reason or "") if taken else ""
    return {
        "symbol": line.symbol,
        "exchange": _amount(line.exchange, ""),
        "ledger": _amount(line.ledger, ""),
        "plan_id": plan.plan_id if plan else "",
        "state": plan.state if plan else "refused" if refused else "",
        "why": (plan.gate_reason or plan.error) if plan else refused,
    }


def _amount(value: Decimal | None, otherwise: str) -> str:
    return otherwise if value is None else amounts.plain(value)
