"""Grant, or deny, for a gate that policy leaves to people; signed with the operator key."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any, NoReturn

from django.conf import settings
from django.db import Error as DatabaseError

from permits import operators
from permits.desk import payloads
from permits.management.acting import ActCommand
from permits.operators import Draft, NotSigned, Wish
from permits.pages import story
from quantum import amounts
from quantum.commands import Exit
from quantum.log import safe
from quantum.redis import RedisError, command_client
from quantum.signing import KeyUnusable


class Command(ActCommand):
    help = "Sign a permit as operator: permit_grant <plan_id> --gate governor --reason '...' [--deny] [--dry-run]"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("plan_id")
        parser.add_argument("--gate", required=True, choices=story.GATES)
        parser.add_argument(
            "--quantity", default="", help="for p33: how much may be closed; for governor: the most of it"
        )
        parser.add_argument(
            "--through-hold",
            action="store_true",
            help="name the hold that freezes the symbol now, to pass it",
        )
        parser.add_argument("--deny", action="store_true", help="sign a denial: it ends the plan's wait")
        parser.add_argument("--confirm", default="", metavar="ACCOUNT", help="in live: the account, typed")
        parser.add_argument("--dry-run", action="store_true", help="show what would be signed")
        self.add_act_arguments(parser)

    def handle(self, *_: Any, **options: Any) -> None:
        quantity = amounts.parse(options["quantity"]) if options["quantity"] else None
        if options["quantity"] and (quantity is None or quantity <= 0):
            self.leave(Exit.USAGE, "--quantity is a plain number above zero")
        wish = Wish(
            gate=options["gate"],
            verdict=not options["deny"],
            quantity=quantity,
            through_hold=options["through_hold"],
            **self.who_and_why(options),
        )
        try:
            self._act(options, wish)
        except KeyUnusable as unusable:
            self.leave(Exit.ERROR, f"Nothing was signed: {unusable}")
        except RedisError as error:
            self.leave(
                Exit.DEPENDENCY_DOWN,
                f"Redis does not answer ({type(error).__name__}); see with permit_show what stands.",
            )
        except DatabaseError as error:
            self.leave(Exit.DEPENDENCY_DOWN, f"The database refuses ({type(error).__name__}).")

    def _act(self, options: dict[str, Any], wish: Wish) -> None:
        client = command_client()
        drafted = operators.draft(client, plan_id=options["plan_id"], wish=wish)
        if isinstance(drafted, NotSigned):
            self._refused(drafted, options)
        what = f"{'granted' if wish.verdict else 'denied'} by {wish.by}"
        if options["dry_run"]:
            self._show(drafted, signed=False, what=what, as_json=options["json"])
            return
        if settings.APPLY_MODE == "live" and options["confirm"] != settings.ACCOUNT:
            self.leave(Exit.USAGE, f"Nothing was signed. To go on, type --confirm {settings.ACCOUNT}")
        self.confirm(options, before=f"no permit of {wish.gate}", after=what)
        done = operators.sign(client, drafted)
        if isinstance(done, NotSigned):
            self._refused(done, options)
        self._show(drafted, signed=True, what=what, as_json=options["json"])

    def _refused(self, refusal: NotSigned, options: dict[str, Any]) -> NoReturn:
        if options["json"]:
            self.data({"signed": False, "reason": refusal.reason, "text": refusal.text})
        usage = refusal.reason == "usage"
        self.leave(Exit.USAGE if usage else Exit.BLOCKED, f"Not signed: {safe(refusal.text)}")

    def _show(self, drafted: Draft, *, signed: bool, what: str, as_json: bool) -> None:
        plan, wish = drafted.plan, drafted.wish
        if as_json:
            said = drafted.finding.quantity
            quantity = amounts.plain(said) if said or wish.gate == payloads.P33 else None
            self.data(
                {
                    "signed": signed,
                    "plan_id": plan.plan_id,
                    "symbol": plan.symbol,
                    "digest": plan.digest,
                    "gate": wish.gate,
                    "verdict": wish.verdict,
                    "quantity": quantity,
                    "by": wish.by,
                    "reason": wish.reason,
                }
            )
            return
        verb = "Signed" if signed else "Would be signed"
        self.stdout.write(f"{verb}: {wish.gate} {what} for {plan.symbol} {plan.action.value} {plan.plan_id}")
