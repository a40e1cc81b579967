"""Break-glass: a plan and the permit of the gate that stands in its way, in one act."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any, NoReturn

from django.conf import settings
from django.db import Error as DatabaseError

from apply.management.waiting import WaitingCommand
from apply.models import BreakGlass
from apply.operators import break_glass, decided, preview, preview_story
from apply.operators.break_glass import Answer, CannotBreak
from apply.operators.preview import GATES, Preview, Wanted
from permits.management.acting import ActCommand
from permits.policy import policies
from positions.reconcile.reconcile import Unreadable
from quantum import amounts
from quantum.audit import REASON_MIN
from quantum.commands import Exit
from quantum.log import safe
from quantum.plan import Action
from quantum.redis import RedisError, command_client

WITHIN_S = 5.0


class Command(ActCommand, WaitingCommand):
    help = (
        "Close past a gate that stands in the way: break_glass BTCUSDT --gate p33 --reason '...' --confirm BTCUSDT. "
        "Without a symbol: what waits for another person; his answer: --approve ID or --refuse ID with --reason. "
        "--by is believed: on a page the other person logs in, which is stronger."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "symbol", nargs="?", default="", help="without one the waiting requests are listed"
        )
        parser.add_argument("--gate", choices=list(GATES), default="", help="whose permit you sign")
        parser.add_argument(
            "--action", choices=[each.value for each in preview.ACTIONS], default=Action.FULL_CLOSE.value
        )
        parser.add_argument("--confirm", default="", metavar="SYMBOL", help="the symbol again, typed")
        answer = parser.add_mutually_exclusive_group()
        answer.add_argument("--approve", type=int, metavar="ID", help="another person's yes")
        answer.add_argument("--refuse", type=int, metavar="ID", help="a no, also to your own request")
        self.add_wait_argument(parser)
        parser.add_argument("--dry-run", action="store_true", help="show it, sign nothing")
        parser.add_argument("--reason", default="", help=f"why, at least {REASON_MIN} characters")
        parser.add_argument("--by", default="", help="who; default: the login name")
        parser.add_argument("--yes", action="store_true", help="do not ask on a terminal")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            if options["approve"] is not None or options["refuse"] is not None:
                self._decide(options)
            elif options["symbol"]:
                self._act(options)
            else:
                self._list(options)
        except (CannotBreak, OverflowError) as refused:
            self.leave(Exit.BLOCKED, safe(str(refused)))
        except Unreadable as unreadable:
            self.leave(
                Exit.DEPENDENCY_DOWN, f"{unreadable}. Nothing was signed: unknown is not flat. See doctor."
            )
        except RedisError as error:
            self.leave(
                Exit.DEPENDENCY_DOWN,
                f"Redis gave no answer ({type(error).__name__}). No plan was made; a laid permit ends by itself.",
            )
        except DatabaseError as error:
            self.leave(
                Exit.DEPENDENCY_DOWN, f"The database refuses ({type(error).__name__}). Look with plan_show."
            )

    def _act(self, options: dict[str, Any]) -> None:
        wanted = self._wanted(options)
        said = {} if options["dry_run"] else self.who_and_why(options)
        client = command_client()
        shown = preview.look(client, wanted, within_s=WITHIN_S)
        self._announce(shown)
        if shown.decided is not None:
            self._answered(Answer(before=shown.decided), options)
        if shown.refusal:
            self.leave(Exit.BLOCKED, f"{safe(shown.refusal)} Nothing was signed.")
        if options["dry_run"]:
            if options["json"]:
                self.data(_told(shown))
            self.leave(Exit.OK, "Nothing was signed.")
        if not shown.second_person and options["confirm"] != wanted.symbol:
            self.leave(Exit.USAGE, f"Nothing was signed. To go on, type --confirm {wanted.symbol}")
        self.ask(options)
        answer = break_glass.act(
            client, wanted, stood=shown.stood, confirm=options["confirm"], within_s=WITHIN_S, **said
        )
        self._answered(answer, options)

    def _decide(self, options: dict[str, Any]) -> None:
        if options["symbol"] or options["dry_run"]:
            self.leave(Exit.USAGE, "--approve and --refuse take the id of a request and --reason.")
        said = self.who_and_why(options)
        number = options["refuse"] if options["approve"] is None else options["approve"]
        for row in break_glass.waiting():
            if row.pk == number:
                self._announce_request(row)
        self.ask(options)
        if options["approve"] is not None:
            answer = break_glass.approve(command_client(), request_id=number, within_s=WITHIN_S, **said)
            self._answered(answer, options)
        row = break_glass.refuse(request_id=number, **said)
        if options["json"]:
            self.data({"request": _request(row)})
        self.say(f"Request {row.pk} is refused. Nothing was signed.")

    def _list(self, options: dict[str, Any]) -> None:
        found = break_glass.waiting()
        if options["json"]:
            self.data({"waiting": [_request(row) for row in found]})
        for row in found:
            self._announce_request(row)
        if not found:
            self.say("No break-glass waits for another person.")

    def _wanted(self, options: dict[str, Any]) -> Wanted:
        symbol = options["symbol"].strip().upper()
        if not options["gate"]:
            self.leave(
                Exit.USAGE, "Say whose permit you sign: --gate governor, p33 or both. --dry-run shows both."
            )
        if symbol not in policies.newest()[1].get("allowlist", ()):
            self.leave(
                Exit.USAGE,
                f"{safe(symbol[:40])} is not on the policy's allow-list: nothing of it is executed.",
            )
        return Wanted(symbol=symbol, action=Action(options["action"]), gates=GATES[options["gate"]])

    def _announce(self, shown: Preview) -> None:
        for label, text in preview_story.rows(shown):
            self.say(safe(f"{label}: {text}"))

    def _announce_request(self, row: BreakGlass) -> None:
        self.say(
            safe(
                f"Request {row.pk} of {row.asked_by}, until {row.expires_at:%H:%M:%S} UTC: "
                f"{settings.APPLY_MODE.upper()} {row.account} {row.symbol} {row.action}, at most "
                f"{amounts.plain(row.quantity)}, signing for {row.gates}: {row.reason}"
            )
        )

    def _answered(self, answer: Answer, options: dict[str, Any]) -> NoReturn:
        if answer.request is not None:
            row = answer.request
            if options["json"]:
                self.data({"plan_id": None, "request": _request(row)})
            self.leave(
                Exit.BLOCKED,
                f"Nothing was signed yet: request {row.pk} waits until {row.expires_at:%H:%M:%S} UTC for another "
                f"person than {safe(row.asked_by)}: break_glass --approve {row.pk} --reason '...', or the page "
                "Break glass. A name given with --by is believed; a login of his own is stronger.",
            )
        plan_id = answer.before.plan_id if answer.before else answer.plan_id
        plan = self.ended([plan_id], wait=options["wait"])[plan_id]
        if options["json"]:
            self.data(
                {
                    "plan_id": plan_id,
                    "decided_before": answer.before is not None,
                    "state": plan.state,
                    "error": plan.error,
                    "gate_reason": plan.gate_reason,
                    "request": None,
                }
            )
        else:
            self.stdout.write(plan_id)
        if answer.before is not None:
            self.say("The exit of this symbol was decided already; no second order is made. What came of it:")
        self.say(safe(decided.told(plan)))
        self.leave(self.verdict([plan], wait=options["wait"]))


def _told(shown: Preview) -> dict[str, Any]:
    return {
        "symbol": shown.wanted.symbol,
        "action": shown.wanted.action.value,
        "gates": list(shown.wanted.gates),
        "exchange_amt": amounts.plain(shown.line.exchange),
        "ledger_amt": None if shown.line.ledger is None else amounts.plain(shown.line.ledger),
        "limits": shown.limits,
        "after": amounts.plain(shown.after),
        "most": amounts.plain(shown.quantity),
        "second_person": shown.second_person,
        "outlooks": [
            {"gate": each.gate, "grants": each.grants, "reason": each.reason, "compared": dict(each.compared)}
            for each in shown.outlooks
        ],
        "still_in_the_way": [each.gate for each in shown.still_in_the_way],
    }


def _request(row: BreakGlass) -> dict[str, Any]:
    return {
        "id": row.pk,
        "symbol": row.symbol,
        "action": row.action,
        "gates": row.gates,
        "most": amounts.plain(row.quantity),
        "state": row.state,
        "asked_by": row.asked_by,
        "reason": row.reason,
        "expires_at": row.expires_at,
    }
