"""Commands that ask for a plan and may wait for what becomes of it."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Collection

from apply.models import PENDING_STATES, Plan
from quantum import clock
from quantum.commands import Command, Exit
from quantum.log import safe

WAIT_S = 15.0
LOOK_EVERY_S = 0.05
ENDED_OTHERWISE = {state.value for state in Plan.State} - {
    *(state.value for state in PENDING_STATES),
    Plan.State.FILLED.value,
    Plan.State.PARTIALLY_FILLED.value,
    Plan.State.ALREADY_DONE.value,
}


class WaitingCommand(Command):
    def add_wait_argument(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--wait",
            action="store_true",
            help="wait for the outcome; exit 4 when it was blocked, 7 when there is none yet",
        )

    def ended(self, plan_ids: Collection[str], *, wait: bool) -> dict[str, Plan]:
        end_ms = clock.monotonic_ms() + WAIT_S * 1000
        while True:
            found = {plan.plan_id: plan for plan in Plan.objects.filter(plan_id__in=plan_ids)}
            if not wait or all(plan.state not in PENDING_STATES for plan in found.values()):
                return found
            if clock.monotonic_ms() >= end_ms:
                return found
            clock.sleep_s(LOOK_EVERY_S)

    def tell_end(self, plan: Plan) -> None:
        why = plan.gate_reason or plan.error
        self.say(
            safe(f"{plan.symbol}: {f'{plan.state} {why}'.strip()}; more: manage.py plan_show {plan.plan_id}")
        )

    def verdict(self, found: Collection[Plan], *, wait: bool) -> Exit:
        if any(plan.state in ENDED_OTHERWISE for plan in found):
            return Exit.BLOCKED
        if wait and any(plan.state in PENDING_STATES for plan in found):
            return Exit.CANNOT_TELL
        return Exit.OK
