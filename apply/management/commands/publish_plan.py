"""Publish one exit plan by hand."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError

from apply.models import PENDING_STATES
from apply.plans import publish, timeline
from quantum import clock
from quantum import plan as plans
from quantum.commands import Command as Base
from quantum.commands import Exit
from quantum.plan import Action, MalformedPlan
from quantum.redis import RedisError, command_client

WAIT_S = 15.0


class Command(Base):
    help = "Publish one exit plan: publish_plan BTCUSDT PARTIAL_75 [--wait] [--json] [--dry-run]"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("symbol")
        parser.add_argument("action", choices=[action.value for action in Action])
        parser.add_argument("--kill-score", default="0.8")
        parser.add_argument(
            "--wait", action="store_true", help="wait for the outcome; exit 4 when it was blocked"
        )
        parser.add_argument("--dry-run", action="store_true", help="show the plan, publish nothing")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            plan = plans.make(
                symbol=options["symbol"],
                action=Action(options["action"]),
                kill_score_text=options["kill_score"],
                timestamp_text=f"{clock.now_s():.3f}",
                mode=settings.APPLY_MODE,
                source="publish_plan",
            )
        except MalformedPlan as malformed:
            self.leave(Exit.USAGE, f"That is no plan: {malformed}")
        if options["dry_run"]:
            self.data(plan.fields())
            return
        try:
            published = publish.publish(command_client(), plan, actor="publish_plan")
        except RedisError as error:
            self.leave(
                Exit.DEPENDENCY_DOWN,
                f"Redis cannot be reached ({type(error).__name__}). Is `manage.py up` running? The plan "
                f"{plan.plan_id} is recorded and is published when Redis is back, if it is still fresh then.",
            )
        except DatabaseError as error:
            self.leave(
                Exit.DEPENDENCY_DOWN,
                f"The database refuses ({type(error).__name__}). Nothing was published. "
                f"Is it up, and was `manage.py migrate` run? `manage.py doctor` tells more.",
            )
        if options["wait"]:
            self._wait(plan.plan_id)
        self._show(published, as_json=options["json"])

    def _wait(self, plan_id: str) -> None:
        end = clock.monotonic_ms() + WAIT_S * 1000
        while clock.monotonic_ms() < end:
            found = timeline.of(plan_id)
            if found is not None and found.plan.state not in PENDING_STATES:
                return
            clock.sleep_s(0.05)

    def _show(self, published: publish.Published, *, as_json: bool) -> None:
        plan_id = published.plan.plan_id
        found = timeline.of(plan_id)
        state = found.plan.state if found else "unknown"
        error = found.plan.error if found else ""
        if as_json:
            self.data({"plan_id": plan_id, "stream_id": published.stream_id, "state": state, "error": error})
        else:
            self.stdout.write(plan_id)
            self.say(
                f"{published.plan.symbol}: {f'{state} {error}'.strip()}; more: manage.py plan_show {plan_id}"
            )
        if state in ("blocked", "expired", "skipped", "spent_unsent", "rejected"):
            self.leave(Exit.BLOCKED)
