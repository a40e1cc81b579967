"""Freeze a symbol, lift its hold, list the holds."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any, NoReturn

from django.conf import settings
from django.db import Error as DatabaseError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from permits.management.acting import ActCommand
from permits.models import Hold
from permits.policy import policies
from permits.state import holds
from quantum.audit import REASON_MIN
from quantum.commands import Exit
from quantum.log import safe
from quantum.redis import RedisError, command_client


class Command(ActCommand):
    help = "List holds: hold; freeze a symbol: hold BTCUSDT --reason '...'; lift: hold BTCUSDT --lift --reason '...'"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("symbol", nargs="?", help="without one the open holds are listed")
        parser.add_argument("--lift", action="store_true", help="lift the symbol's hold")
        parser.add_argument(
            "--confirm", default="", metavar="ACCOUNT", help="of a lift in live: the account, typed"
        )
        parser.add_argument("--reason", default="", help=f"why, at least {REASON_MIN} characters")
        parser.add_argument("--by", default="", help="who; default: the login name")
        parser.add_argument("--yes", action="store_true", help="do not ask on a terminal before a lift")
        parser.add_argument("--dry-run", action="store_true", help="say what would be done")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            if not options["symbol"]:
                self._list(options)
            elif options["lift"]:
                self._lift(options)
            else:
                self._place(options)
        except DatabaseError as error:
            self.leave(
                Exit.DEPENDENCY_DOWN, f"The database refuses ({type(error).__name__}). Nothing was changed."
            )

    def _list(self, options: dict[str, Any]) -> None:
        if options["lift"]:
            self.leave(Exit.USAGE, "Name the symbol whose hold is to be lifted.")
        found = list(Hold.objects.filter(lifted_at=None))
        if options["json"]:
            self.data({"holds": [_data(hold) for hold in found]})
            return
        if not found:
            self.say("No symbol is frozen.")
            return
        table = Table("symbol", "id", "since", "by", "why")
        for hold in found:
            since = f"{hold.since:%Y-%m-%d %H:%M:%S} UTC"
            table.add_row(
                *(escape(safe(text)) for text in (hold.symbol, str(hold.pk), since, hold.by, hold.reason))
            )
        Console(file=sys.stdout).print(table)

    def _place(self, options: dict[str, Any]) -> None:
        symbol, who = self._symbol(options), self.who_and_why(options)
        before = _open(symbol)
        self._announce(symbol, before=before, after="frozen")
        if symbol not in policies.newest()[1].get("allowlist", ()):
            self.say(
                f"{safe(symbol)} is not on the policy's allow-list: nothing of it is executed in any case."
            )
        if options["dry_run"]:
            return self._tell(options, before, projected=None)
        try:
            hold = holds.place(command_client(), symbol=symbol, **who)
        except RedisError as error:
            self._tell(options, _open(symbol), projected=False)
            self._not_in_redis(error, "intents of the symbol are refused from now on")
        if before is not None and before.pk != hold.pk:
            self.say(f"Hold {before.pk} was {safe(before.by)}'s; yours stays when its incident ends.")
        elif before is not None:
            self.say(f"It was frozen already: hold {hold.pk} and its reason stay as they are.")
        self._tell(options, hold, projected=True)
        return None

    def _lift(self, options: dict[str, Any]) -> None:
        symbol, who = self._symbol(options), self.who_and_why(options)
        before = _open(symbol)
        if before is None:
            self.leave(Exit.BLOCKED, f"{safe(symbol)} is not frozen.")
        self._announce(symbol, before=before, after="free")
        if options["dry_run"]:
            return self._tell(options, before, projected=None)
        if settings.APPLY_MODE == "live" and options["confirm"] != settings.ACCOUNT:
            self.leave(Exit.USAGE, f"Nothing was changed. To lift it, type --confirm {settings.ACCOUNT}")
        self.ask(options)
        try:
            holds.lift(command_client(), symbol=symbol, **who)
        except RedisError as error:
            self._tell(options, None, projected=False)
            self._not_in_redis(error, "exits of the symbol pass once apply has removed the key")
        self._tell(options, _open(symbol), projected=True)
        return None

    def _symbol(self, options: dict[str, Any]) -> str:
        symbol: str = options["symbol"].strip().upper()  # a typed btcusdt must not freeze nothing
        if not 0 < len(symbol) <= 40:
            self.leave(Exit.USAGE, "A symbol has 1 to 40 characters.")
        return symbol

    def _announce(self, symbol: str, *, before: Hold | None, after: str) -> None:
        now = f"frozen by {before.by}: {before.reason}" if before else "free"
        self.say(safe(f"{settings.APPLY_MODE.upper()} {settings.ACCOUNT} {symbol}: {now} -> {after}"))

    def _not_in_redis(self, error: RedisError, meaning: str) -> NoReturn:
        self.leave(
            Exit.DEPENDENCY_DOWN,
            f"Recorded: {meaning}. Redis could not be reached ({type(error).__name__}); apply brings it up to date "
            f"within 2 s of reaching it.",
        )

    def _tell(self, options: dict[str, Any], hold: Hold | None, *, projected: bool | None) -> None:
        if options["json"]:
            self.data(
                {"hold": _data(hold) if hold else None, "projected": projected, "dry_run": options["dry_run"]}
            )
        else:
            self.stdout.write("frozen" if hold else "free")


def _open(symbol: str) -> Hold | None:
    return Hold.objects.filter(symbol=symbol, lifted_at=None).first()


def _data(hold: Hold) -> dict[str, Any]:
    return {"id": hold.pk, "symbol": hold.symbol, "since": hold.since, "by": hold.by, "reason": hold.reason}
