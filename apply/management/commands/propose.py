"""Propose one exit by hand: the same way in as for every brain."""

from __future__ import annotations

import getpass
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError

from apply.management.waiting import WaitingCommand
from apply.models import Plan
from apply.proposals import proposal as proposals
from apply.proposals import taking
from apply.proposals.proposal import Proposal, Refused
from apply.proposals.taking import CameTo, Origin, Taken
from permits.policy.rules import Nonsense
from quantum import clock
from quantum.commands import Exit
from quantum.log import safe
from quantum.plan import Action
from quantum.redis import RedisError, command_client

WAY = "command"


class Command(WaitingCommand):
    help = "Propose one exit: propose BTCUSDT PARTIAL_75 [--wait] [--reason '...'] [--json] [--dry-run]"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("symbol")
        parser.add_argument("action", choices=[action.value for action in Action])
        parser.add_argument("--kill-score", default="0.8")
        parser.add_argument("--stop", default="", help="of UPDATE_SL: the stop proposed")
        parser.add_argument("--r-net", default="", help="profit in R, kept with it")
        parser.add_argument("--reason-codes", default="", help="for readers; decide nothing")
        parser.add_argument(
            "--computed-at", default="", help="epoch seconds or an ISO time; default: now. Said twice is once"
        )
        parser.add_argument("--reason", default="", help="why; kept with the proposal")
        parser.add_argument("--by", default="", help="who; default: the login name")
        parser.add_argument("--dry-run", action="store_true", help="show the plan, propose nothing")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
        self.add_wait_argument(parser)

    def handle(self, *_: Any, **options: Any) -> None:
        said = {
            "symbol": options["symbol"].strip().upper(),
            "harvest_action": options["action"],
            "kill_score": options["kill_score"],
            "computed_at_utc": options["computed_at"] or f"{clock.now_s():.3f}",
            "new_sl_proposed": options["stop"],
            "R_net": options["r_net"],
            "reason_codes": options["reason_codes"],
            "source": WAY,
        }
        try:
            proposal = proposals.read(said)
        except Refused as refused:
            self.leave(Exit.USAGE, safe(f"That is no proposal: {refused.text} ({refused.reason})"))
        if options["dry_run"]:
            self.data(proposal.plan(mode=settings.APPLY_MODE).fields())
            return
        self._show(self._take(proposal, options), options)

    def _take(self, proposal: Proposal, options: dict[str, Any]) -> Taken:
        by = (options["by"].strip() or getpass.getuser())[:60]
        origin = Origin(way=WAY, actor=by, why=options["reason"].strip())
        try:
            return taking.take(command_client(), proposal, origin=origin)
        except DatabaseError as error:
            self.leave(
                Exit.DEPENDENCY_DOWN,
                f"The database refuses ({type(error).__name__}). Nothing was proposed. "
                f"Is it up, and was `manage.py migrate` run? `manage.py doctor` tells more.",
            )
        except RedisError as error:
            self.leave(Exit.DEPENDENCY_DOWN, f"Redis cannot be used ({type(error).__name__}).")
        except Nonsense as nonsense:
            self.leave(Exit.BROKEN, safe(f"The policy cannot be read: {nonsense}. Nothing was proposed."))

    def _show(self, taken: Taken, options: dict[str, Any]) -> None:
        if taken.plan is None:
            if options["json"]:
                self.data(
                    {"came_to": taken.came_to, "reason": taken.reason, "text": taken.text, "plan_id": ""}
                )
            if taken.came_to is CameTo.NOTHING:
                self.say("It asks for nothing, so nothing comes of it.")
                return
            self.leave(Exit.BLOCKED, safe(f"Refused: {taken.reason} ({taken.text})."))
        wait = options["wait"] and taken.published
        plan = self.ended([taken.plan.plan_id], wait=wait)[taken.plan.plan_id]
        if options["json"]:
            self.data(_data(taken, plan))
        else:
            self.stdout.write(plan.plan_id)
        if not taken.published:
            self.leave(
                Exit.DEPENDENCY_DOWN,
                f"Redis cannot be reached. Is `manage.py up` running? The plan {plan.plan_id} is recorded and is "
                f"published when Redis is back, if it is still fresh then.",
            )
        if taken.came_to is CameTo.KNOWN:
            self.say("The same was proposed before; this is its plan.")
        self.tell_end(plan)
        self.leave(self.verdict([plan], wait=wait))


def _data(taken: Taken, plan: Plan) -> dict[str, Any]:
    return {
        "came_to": taken.came_to.value,
        "plan_id": plan.plan_id,
        "published": taken.published,
        "state": plan.state,
        "error": plan.error,
        "gate_reason": plan.gate_reason,
    }
