"""Plans, newest first."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.db import Error as DatabaseError

from apply.models import Plan
from apply.operators import retry
from apply.plans import finding
from permits.management.tables import table
from quantum.commands import Command as Base
from quantum.commands import Exit

HEADINGS = ("plan", "at", "symbol", "action", "state", "why", "source", "attempt")
LIMIT = 50
LIMIT_MAX = 1000


class Command(Base):
    help = "Plans, newest first: plan_list [--symbol BTCUSDT] [--state blocked] [--retryable] [--json]"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--symbol", default="", help="of this symbol only")
        parser.add_argument("--state", choices=[state.value for state in Plan.State])
        parser.add_argument("--error", default="", help="whose error or gate's reason is this")
        parser.add_argument("--source", default="", help="from this source only")
        parser.add_argument("--retryable", action="store_true", help="those that plan_retry would take")
        parser.add_argument("--limit", type=int, default=LIMIT, help=f"how many, {LIMIT_MAX} at most")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *_: Any, **options: Any) -> None:
        if not 0 < options["limit"] <= LIMIT_MAX:
            self.leave(Exit.USAGE, f"--limit is a number from 1 to {LIMIT_MAX}.")
        try:
            plans = _found(options)
        except DatabaseError as error:
            self.leave(Exit.DEPENDENCY_DOWN, f"The database refuses ({type(error).__name__}).")
        if options["json"]:
            self.data({"plans": [_data(plan) for plan in plans]})
        elif plans:
            self.stdout.write(table(HEADINGS, [_row(plan) for plan in plans]))
        else:
            self.say("No plan matches. To make one: manage.py propose BTCUSDT PARTIAL_25")


def _row(plan: Plan) -> list[str]:
    return [
        plan.plan_id,
        f"{plan.created_at:%Y-%m-%d %H:%M:%S} UTC",
        plan.symbol,
        plan.action,
        plan.state,
        plan.gate_reason or plan.error,
        plan.source,
        f"{plan.attempt} of {plan.parent}" if plan.parent else "1",
    ]


def _found(options: dict[str, Any]) -> list[Plan]:
    asked = {name: options[name] or "" for name in ("symbol", "state", "source")}
    plans = finding.of(**asked, reason=options["error"])
    if options["retryable"]:
        tried = Plan.objects.exclude(parent="").values("parent")
        plans = plans.exclude(plan_id__in=tried).filter(
            state__in=[state for state, errors in retry.MAY_BE_TRIED_AGAIN.items() if errors],
            error__in=retry.WAIT_RAN_OUT | retry.BACK_OFF,
        )
    return list(plans[: options["limit"]])


def _data(plan: Plan) -> dict[str, Any]:
    names = ("plan_id", "created_at", "symbol", "action", "kill_score", "reason_codes", "state", "error",
             "gate_reason", "wait_ms", "source", "parent", "attempt", "ended_at")  # fmt: skip
    return {name: getattr(plan, name) for name in names}
