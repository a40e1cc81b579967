"""What becomes of a yes: a new plan of the same intention, at a new time, with its parent named."""

from __future__ import annotations

from django.conf import settings

from apply.plans import publish
from permits.models import Approval
from quantum import clock
from quantum import plan as plans
from quantum.log import log
from quantum.plan import Action, ExitPlan
from quantum.redis import RedisError, command_client


class Approved:
    """Registered with permits.desk.approvals, which calls record in its transaction and publish after it."""

    def record(self, *, approval: Approval, by: str) -> ExitPlan:
        fields = approval.fields
        plan = plans.make(
            symbol=fields["symbol"],
            action=Action(fields["action"]),
            kill_score_text=fields["kill_score"],
            timestamp_text=f"{clock.now_s():.3f}",
            mode=settings.APPLY_MODE,
            source="approval",
            reason_codes=f"approved,parent={approval.asked_plan_id}",
        )
        publish.record(plan, actor=by)
        return plan

    def publish(self, *, plan: ExitPlan, by: str) -> None:
        try:
            publish.publish(command_client(), plan, actor=by)
        except RedisError as error:
            # The decision stands and the row with it; the janitor publishes it while it is fresh.
            log.warning("approved plan not published yet", plan=plan.plan_id, error=type(error).__name__)
