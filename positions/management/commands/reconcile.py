"""Compare exchange and ledger; bring them together, with a reason. Never trades."""

from __future__ import annotations

from argparse import ArgumentParser
from decimal import Decimal
from typing import Any, NoReturn

from django.conf import settings
from django.db import Error as DatabaseError
from msgspec.structs import replace

from positions.books.ledger import LedgerChanged
from positions.management import looking
from positions.management.looking import LookCommand, shown, told
from positions.models import CorrectionRequest
from positions.reconcile import closing, reconcile, second
from positions.reconcile.closing import CannotClose
from positions.reconcile.reconcile import Brought, Line, State
from positions.reconcile.second import NotApproved
from quantum import amounts, clock
from quantum.audit import REASON_MIN
from quantum.commands import Exit
from quantum.log import safe
from quantum.redis import RedisError, command_client


class Command(LookCommand):
    help = (
        "Compare exchange and ledger: reconcile [SYMBOL...]. Take the exchange's amount: --adopt --reason '...'; "
        "write your own: reconcile SYMBOL --apply --to AMOUNT --reason '...'. Exit 3: they differ; "
        "4: an order of ours is without an end. Another person's yes: --approve ID --reason '...'."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("symbols", nargs="*", metavar="SYMBOL", help="without any: all that are known")
        act = parser.add_mutually_exclusive_group()
        act.add_argument("--adopt", action="store_true", help="the exchange's amount becomes the ledger's")
        act.add_argument("--apply", action="store_true", help="the amount of --to becomes the ledger's")
        act.add_argument(
            "--approve", type=int, metavar="ID", help="another person's yes to a request that waits"
        )
        act.add_argument("--close", action="store_true", help="past the hold, through both gates")
        parser.add_argument("--to", default="", metavar="AMOUNT", help="signed, plain: 0.062, -3, 0")
        parser.add_argument("--confirm", default="", metavar="ACCOUNT", help="in live: the account, typed")
        parser.add_argument("--dry-run", action="store_true", help="show before and after, change nothing")
        parser.add_argument("--reason", default="", help=f"why, at least {REASON_MIN} characters")
        parser.add_argument("--by", default="", help="who; default: the login name")
        parser.add_argument("--yes", action="store_true", help="do not ask on a terminal")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *_: Any, **options: Any) -> None:
        if options["approve"] is not None:
            return self._approve(options)
        if options["close"]:
            return self._close(options)
        acts = options["adopt"] or options["apply"]
        to, said = self._wish(options), self.who_and_why(options) if acts else {}
        lines, looked_s = self.look(options["symbols"]), clock.boot_s()
        wanted = self._wanted(lines, options, to)
        if not acts:
            self._tell(options, lines)
            for request in second.waiting():
                self._announce_request(request)
            self.leave(*_verdict(lines))
        if not wanted:
            self.say("Ledger and exchange agree: there is nothing to do.")
            self._tell(options, lines)
            return None
        for line in wanted:
            self._announce(line, line.exchange if to is None else to)
        if options["dry_run"]:
            self._tell(options, lines)
            self.leave(Exit.DRIFT, "Nothing was changed.")
        self._confirmed(options)
        if clock.boot_s() - looked_s > reconcile.FRESH_S:
            wanted = self.look_again(wanted)
        brought = self._bring(wanted, to, said)
        if isinstance(brought, CorrectionRequest):
            self._asked(brought, options)
        self._tell(options, lines, brought)
        self._project(brought)
        return None

    def _asked(self, request: CorrectionRequest, options: dict[str, Any]) -> NoReturn:
        if options["json"]:
            self.data({"changed": False, "request": _request(request)})
        self.leave(
            Exit.BLOCKED,
            f"Nothing was changed yet. It is worth more than {settings.RECONCILE_SECOND_PERSON_USD} USD, or its price "
            f"is not known: request {request.pk} waits until {request.expires_at:%H:%M:%S} UTC for another person than "
            f"{safe(request.asked_by)}: reconcile --approve {request.pk} --reason '...'",
        )

    def _approve(self, options: dict[str, Any]) -> None:
        if options["symbols"] or options["to"] or options["dry_run"]:
            self.leave(Exit.USAGE, "--approve takes the id of a request and --reason.")
        said, request_id = self.who_and_why(options), options["approve"]
        if settings.APPLY_MODE == "live" and options["confirm"] != settings.ACCOUNT:
            self.leave(Exit.USAGE, f"Nothing was changed. To go on, type --confirm {settings.ACCOUNT}")
        with self.reading():
            for request in second.waiting():
                if request.pk == request_id:
                    self._announce_request(request)
            self.ask(options)
            brought = self._approved(request_id, said)
        self._tell(options, [], brought)
        self._project(brought)

    def _close(self, options: dict[str, Any]) -> None:
        if len(options["symbols"]) != 1 or options["to"]:
            self.leave(Exit.USAGE, "--close takes one symbol and --reason.")
        said = self.who_and_why(options)
        [line], looked_s = self.look(options["symbols"]), clock.boot_s()
        refusal = closing.refusal(line)
        if refusal:
            self.leave(Exit.BLOCKED, f"{safe(refusal)} Nothing was done.")
        self._announce_close(line)
        if options["dry_run"]:
            self._tell(options, [line])
            self.leave(Exit.OK, "Nothing was done.")
        self._confirmed(options)
        with self.reading():
            if clock.boot_s() - looked_s > reconcile.FRESH_S:
                line = replace(self.look_again([line])[0], hold=line.hold)  # the one that was shown, or none
            try:
                closed = closing.close(command_client(), line, **said)
            except CannotClose as refused:
                self.leave(Exit.BLOCKED, f"{safe(str(refused))} Nothing was done.")
        if options["json"]:
            told = {"symbol": line.symbol, "quantity": amounts.plain(abs(line.exchange))}
            self.data({"plan_id": closed.plan_id, "published": closed.published, **told})
        else:
            self.stdout.write(closed.plan_id)
        if not closed.published:
            self.leave(Exit.DEPENDENCY_DOWN, closed.not_heard)
        self.say(
            f"Published. What both gates and the exchange say of it: manage.py plan_show {closed.plan_id}"
        )

    def _announce_close(self, line: Line) -> None:
        after = (line.ledger or Decimal(0)) - line.exchange
        self.say(
            f"{settings.APPLY_MODE.upper()} {settings.ACCOUNT} {safe(line.symbol)}: the exchange holds "
            f"{amounts.plain(line.exchange)} -> 0 by one reduce-only order, if the Governor grants it too; the ledger "
            f"then says {amounts.plain(after)}; the hold stays"
        )

    def _approved(self, request_id: int, said: dict[str, str]) -> Brought:
        try:
            return second.approve(command_client(), request_id=request_id, within_s=looking.WITHIN_S, **said)
        except (NotApproved, OverflowError) as refused:
            self.leave(Exit.BLOCKED, f"{safe(str(refused))} Nothing was changed.")

    def _announce_request(self, request: CorrectionRequest) -> None:
        self.say(f"Request {request.pk} of {safe(request.asked_by)}: {safe(request.reason)}")
        for kept in request.lines:
            before = "never entered" if kept["before"] is None else kept["before"]
            self.say(
                f"{settings.APPLY_MODE.upper()} {settings.ACCOUNT} {safe(kept['symbol'])}: ledger {before} -> "
                f"{kept['after']} (exchange {kept['exchange']})"
            )

    def _wish(self, options: dict[str, Any]) -> Decimal | None:
        """Of --to; everything that is typed wrong is told before anything is asked."""
        if not options["apply"]:
            if options["to"]:
                self.leave(Exit.USAGE, "--to belongs to --apply. To take the exchange's amount: --adopt.")
            return None
        if len(options["symbols"]) != 1 or not options["to"]:
            self.leave(Exit.USAGE, "--apply takes one symbol and --to AMOUNT.")
        to = amounts.parse(options["to"].strip())
        if to is None:
            self.leave(
                Exit.USAGE,
                f"{safe(options['to'][:40])} is no plain amount (like 0.062, -3 or 0; at most 18 decimals). "
                "Nothing was changed.",
            )
        return to

    def _wanted(self, lines: list[Line], options: dict[str, Any], to: Decimal | None) -> list[Line]:
        """Named symbols also where they differ by less than the tolerance; without names only real differences."""
        if to is not None:
            return [line for line in lines if line.ledger != to]
        if options["symbols"]:
            return [line for line in lines if line.ledger != line.exchange]
        return [line for line in lines if line.difference is not None]

    def _announce(self, line: Line, after: Decimal) -> None:
        before = "never entered" if line.ledger is None else amounts.plain(line.ledger)
        where = f"{settings.APPLY_MODE.upper()} {settings.ACCOUNT} {safe(line.symbol)}"
        then = "ends" if reconcile.agrees(line, after) else "stays: they still differ"
        held = ", ".join(f"incident {each.pk} {then}" for each in line.incidents)
        self.say(
            f"{where}: ledger {before} -> {amounts.plain(after)} (exchange {amounts.plain(line.exchange)})"
            f"{'; ' + held if held else ''}"
        )

    def _confirmed(self, options: dict[str, Any]) -> None:
        if settings.APPLY_MODE == "live":
            if not options["symbols"]:
                self.leave(Exit.USAGE, "Nothing was changed. In live, name the symbols.")
            if options["confirm"] != settings.ACCOUNT:
                self.leave(Exit.USAGE, f"Nothing was changed. To go on, type --confirm {settings.ACCOUNT}")
        self.ask(options)

    def _bring(
        self, wanted: list[Line], to: Decimal | None, said: dict[str, str]
    ) -> Brought | CorrectionRequest:
        try:
            return second.decide(wanted, to=to, **said)
        except LedgerChanged as changed:
            self.leave(Exit.BLOCKED, f"{safe(str(changed))} Nothing was changed.")
        except DatabaseError as error:
            self.leave(
                Exit.DEPENDENCY_DOWN, f"The database refuses ({type(error).__name__}). Nothing was changed."
            )

    def _project(self, brought: Brought) -> None:
        try:
            reconcile.project(command_client(), brought)
        except RedisError as error:
            self.leave(
                Exit.DEPENDENCY_DOWN,
                f"Recorded. Redis could not be reached ({type(error).__name__}); apply and p33 bring it up to date "
                "within seconds of reaching it.",
            )

    def _tell(self, options: dict[str, Any], lines: list[Line], brought: Brought | None = None) -> None:
        if options["json"]:
            self.data({"symbols": [told(line) for line in lines], **_came(brought), **_waiting(brought)})
        elif brought is None:
            self.stdout.write(shown(lines))
        else:
            for entry in brought.entries:
                self.stdout.write(
                    f"{safe(entry.symbol)}: entry {entry.pk}, {entry.delta:+f}, balance "
                    f"{amounts.plain(entry.balance)}"
                )
            for hold in brought.lifted:
                self.stdout.write(f"{safe(hold.symbol)}: hold {hold.pk} lifted")


def _verdict(lines: list[Line]) -> tuple[Exit, str]:
    """What an order of ours is doing right now is no drift; one that has no end is something to look at."""
    if any(line.state is State.DRIFT or (line.difference and line.incidents) for line in lines):
        return Exit.DRIFT, ""
    flying = [line for line in lines if line.state is State.IN_FLIGHT]
    long = [line for line in flying if line.locked_s >= reconcile.LONG_LOCK_S]
    if long:
        told = ", ".join(f"{safe(line.symbol)} {line.locked_s:.0f} s by {line.locked_by}" for line in long)
        return Exit.BLOCKED, f"Locked for long: {told}. See with plan_show what became of that order."
    if any(line.state is not State.MATCH for line in lines if line not in flying):
        return Exit.CANNOT_TELL, "The numbers of some symbol are of two moments: ask again."
    named = ", ".join(safe(line.symbol) for line in flying)
    return Exit.OK, f"In flight, so not compared: {named}." if flying else ""


def _request(request: CorrectionRequest) -> dict[str, Any]:
    return {
        "id": request.pk,
        "asked_by": request.asked_by,
        "reason": request.reason,
        "expires_at": request.expires_at,
        "lines": request.lines,
    }


def _waiting(brought: Brought | None) -> dict[str, Any]:
    """Who only looks is told what waits for another person."""
    return {} if brought else {"waiting": [_request(request) for request in second.waiting()]}


def _came(brought: Brought | None) -> dict[str, Any]:
    if brought is None:
        return {"changed": False}
    return {
        "changed": True,
        "entries": [
            {"id": each.pk, "symbol": each.symbol, "delta": each.delta, "balance": each.balance}
            for each in brought.entries
        ],
        "resolved": [each.pk for each in brought.resolved],
        "lifted": [each.pk for each in brought.lifted],
    }
