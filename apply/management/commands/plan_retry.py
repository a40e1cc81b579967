"""Try a plan again that ended for want of time."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.db import Error as DatabaseError

from apply.management.waiting import WaitingCommand
from apply.models import Plan
from apply.operators import retry
from apply.operators.retry import NotRetried
from permits.management.acting import ActCommand
from quantum.commands import Exit
from quantum.log import safe
from quantum.plan import ExitPlan
from quantum.redis import command_client


class Command(ActCommand, WaitingCommand):
    help = "Try a plan again that ran out of time: plan_retry <plan_id> --reason '...' [--wait] [--json]"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("plan_id")
        parser.add_argument("--dry-run", action="store_true", help="say whether it may be tried again")
        self.add_wait_argument(parser)
        self.add_act_arguments(parser)

    def handle(self, *_: Any, **options: Any) -> None:
        said = self.who_and_why(options)
        try:
            plan = Plan.objects.filter(plan_id=options["plan_id"]).first()
            if plan is None:
                self.leave(Exit.ERROR, f"There is no plan {safe(options['plan_id'])}: see plan_list.")
            why_not = retry.refusal(plan)
            if why_not:
                self.leave(Exit.BLOCKED, safe(f"Nothing was done: {why_not}"))
            since = retry.newer(plan)
            if since is not None:
                self.say(
                    safe(
                        f"Newer on {plan.symbol}: plan {since.plan_id}, {since.action}, {since.state}. "
                        f"A share is one of what is left then."
                    )
                )
            self.confirm(
                options,
                before=safe(
                    f"{plan.symbol} {plan.action} of {plan.created_at:%Y-%m-%d %H:%M:%S} UTC, "
                    f"attempt {plan.attempt}: {plan.state} {plan.error}"
                ),
                after=f"attempt {plan.attempt + 1}, a new plan that needs both permits anew",
            )
            if options["dry_run"]:
                self.leave(Exit.OK, "Nothing was done.")
            self._told(retry.retry(command_client(), plan, **said), options)
        except NotRetried as refused:
            self.leave(Exit.BLOCKED, safe(f"Nothing was done: {refused}"))
        except DatabaseError as error:
            self.leave(
                Exit.DEPENDENCY_DOWN,
                f"The database refuses ({type(error).__name__}). What was done: plan_list --source retry",
            )

    def _told(self, made: ExitPlan, options: dict[str, Any]) -> None:
        child = self.ended([made.plan_id], wait=options["wait"])[made.plan_id]
        if options["json"]:
            fields = ("plan_id", "parent", "attempt", "state", "error", "gate_reason")
            self.data({name: getattr(child, name) for name in fields})
        else:
            self.stdout.write(child.plan_id)
        self.tell_end(child)
        self.leave(self.verdict([child], wait=options["wait"]))
