"""Show, halt, resume."""

from __future__ import annotations

import datetime as dt
import re
from argparse import ArgumentParser
from typing import Any, NoReturn

from django.conf import settings
from django.db import Error as DatabaseError
from django.utils.dateparse import parse_datetime

from permits.management.acting import ActCommand
from permits.models import TradingState
from permits.state import resuming, trading
from permits.state.trading import Scope, StateChanged
from quantum import clock
from quantum.audit import REASON_MIN
from quantum.commands import Exit
from quantum.log import safe
from quantum.redis import RedisError, command_client

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Command(ActCommand):
    help = (
        "Show the trading state: trading_state [show]; stop: trading_state halt --reason '...' [--scope automatic]"
        " [--until 30m]; leave a halt: trading_state resume --reason '...' [--confirm ACCOUNT]"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("act", nargs="?", choices=("show", "halt", "resume"), default="show")
        parser.add_argument(
            "--scope",
            choices=[scope.value for scope in Scope],
            default=Scope.EVERYTHING.value,
            help="of a halt; automatic spares plans that carry an operator's signed permit",
        )
        parser.add_argument("--until", default="", help="of a halt: 30m, 2h, or a time with its zone")
        parser.add_argument(
            "--confirm", default="", metavar="ACCOUNT", help="of a resume: the account, typed"
        )
        parser.add_argument("--reason", default="", help=f"why, at least {REASON_MIN} characters")
        parser.add_argument("--by", default="", help="who; default: the login name")
        parser.add_argument("--dry-run", action="store_true", help="say what would be done")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            {"show": self._show, "halt": self._halt, "resume": self._resume}[options["act"]](options)
        except DatabaseError as error:
            self.leave(
                Exit.DEPENDENCY_DOWN,
                f"The database refuses ({type(error).__name__}): the state was not changed. While apply cannot read "
                f"it either, the lease lapses within {trading.LEASE_MS // 1000} s, and that is HALTED.",
            )

    # ---- show

    def _show(self, options: dict[str, Any]) -> None:
        row, state = trading.newest(), trading.current()
        armed: bool | None
        try:
            armed = state.active and command_client().get(settings.KEYS.trading_state) == state.raw
        except RedisError:
            armed = None
        if options["json"]:
            self.data({"state": _data(row), "armed": armed})
        else:
            self.stdout.write(safe(_text(row)))
            known = {True: "armed", False: "not armed", None: "Redis does not answer: not known"}
            self.say(f"In Redis: {known[armed]}.")
        if armed is None:
            self.leave(Exit.DEPENDENCY_DOWN)

    # ---- halt

    def _halt(self, options: dict[str, Any]) -> None:
        who, until = self.who_and_why(options), self._until(options["until"])
        self._announce(f"HALTED for {options['scope']}{_until_text(until)}")
        if options["dry_run"]:
            return self._tell(options, trading.newest(), projected=None)
        before = trading.newest()
        row = trading.halt(cause=trading.PERSON, scope=Scope(options["scope"]), until=until, **who)
        if before is not None and before.version == row.version:
            self.say(
                f"It was halted already, as widely and as long: v{row.version} stays, your reason is on record."
            )
        self._project_and_tell(options, row)
        return None

    def _until(self, text: str) -> dt.datetime | None:
        if not text:
            return None
        found = re.fullmatch(r"([0-9]{1,5})([smhd])", text)
        if found:
            return clock.now() + dt.timedelta(seconds=int(found[1]) * UNITS_S[found[2]])
        try:
            until = parse_datetime(text)
        except ValueError:
            until = None
        if until is None or until.tzinfo is None or until <= clock.now():
            self.leave(
                Exit.USAGE, "--until is 30m, 2h, 1d, or a time to come with its zone: 2026-01-31T18:00Z"
            )
        return until

    # ---- resume

    def _resume(self, options: dict[str, Any]) -> None:
        who = self.who_and_why(options)
        self._announce("ACTIVE")
        if options["dry_run"]:
            return self._tell(options, trading.newest(), projected=None)
        if settings.APPROVERS_REQUIRED > 1:
            return self._resume_by_two(options, who)
        if options["confirm"] != settings.ACCOUNT:
            self.leave(Exit.USAGE, f"Nothing was changed. To resume, type --confirm {settings.ACCOUNT}")
        self._ask(who)
        self.say(f"Resuming in {resuming.DELAY_S:.0f} s; Ctrl-C leaves it halted.")
        clock.sleep_s(resuming.DELAY_S + 0.1)
        return self._confirm(options, who)

    def _resume_by_two(self, options: dict[str, Any], who: dict[str, str]) -> None:
        """Without --confirm it is a request; with it, the answer to another person's."""
        if options["confirm"]:
            return self._confirm(options, who)
        self._ask(who)
        self.say(
            f"Asked. Another person confirms within 15 minutes: "
            f"trading_state resume --confirm {settings.ACCOUNT} --reason '...'"
        )
        if options["json"]:
            self.data({"requested": True, "state": _data(trading.newest())})
        return None

    def _ask(self, who: dict[str, str]) -> None:
        asked = resuming.request(**who)
        if isinstance(asked, resuming.Refused):
            self._refused(asked)

    def _confirm(self, options: dict[str, Any], who: dict[str, str]) -> None:
        row = resuming.confirm(account=options["confirm"], **who)
        if isinstance(row, resuming.Refused):
            self._refused(row)
        self._project_and_tell(options, row)

    def _refused(self, refused: resuming.Refused) -> NoReturn:
        self.leave(Exit.BLOCKED, f"Nothing was changed: {refused.text}.")

    # ---- both

    def _announce(self, after: str) -> None:
        before = _text(trading.newest())
        self.say(safe(f"{settings.APPLY_MODE.upper()} {settings.ACCOUNT}: {before} -> {after}"))

    def _project_and_tell(self, options: dict[str, Any], row: TradingState) -> None:
        """The database has it: intents obey at once. Redis is told now, and by apply every other second."""
        try:
            trading.arm(command_client(), actor="trading_state")
            newest = trading.newest()
        except (DatabaseError, StateChanged) as error:
            # After the commit: told as not changed, somebody would believe it halted while apply arms it.
            self._tell(options, row, projected=False)
            self.leave(
                Exit.DEPENDENCY_DOWN,
                f"Recorded as v{row.version}. Redis could not be told at once ({type(error).__name__}); apply tells "
                "the gate, within 2 s of having read it.",
            )
        except RedisError as error:
            self._tell(options, row, projected=False)
            self.leave(
                Exit.DEPENDENCY_DOWN,
                f"Recorded, and every intent obeys it from now on. Redis could not be reached "
                f"({type(error).__name__}): the gate learns it from apply within 2 s, or, where apply cannot reach "
                f"Redis either, is not armed at all once the lease lapses, within {trading.LEASE_MS // 1000} s.",
            )
        self._tell(options, newest, projected=True)

    def _tell(self, options: dict[str, Any], row: TradingState | None, *, projected: bool | None) -> None:
        if options["json"]:
            self.data({"state": _data(row), "projected": projected, "dry_run": options["dry_run"]})
        else:
            self.stdout.write(safe(_text(row)))


def _text(row: TradingState | None) -> str:
    if row is None:
        return "HALTED: no trading state was ever set"
    scope = f" for {row.scope}" if row.state == TradingState.State.HALTED else ""
    return (
        f"{row.state}{scope} v{row.version}{_until_text(row.until)} by {row.by} ({row.cause}): {row.reason}"
    )


def _until_text(until: dt.datetime | None) -> str:
    return f" until {until.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC" if until else ""


def _data(row: TradingState | None) -> dict[str, Any] | None:
    if row is None:
        return None
    names = ("version", "state", "scope", "cause", "since", "until", "by", "reason")
    return {name: getattr(row, name) for name in names}
