"""The way out of a frozen symbol: a FULL_CLOSE with an operator's permit of p33 that names the hold.

The permit is laid before the plan is told: p33 finds it standing and leaves it, whatever it thinks of the hold
itself; laid later, p33's denial would have ended the wait. The Governor judges the plan by policy like any other. A
death between the two leaves a permit of a plan that nobody published, which ends with its TTL.
"""

from __future__ import annotations

from django.conf import settings
from django.db import Error as DatabaseError

from apply.models import PENDING_STATES, Plan
from apply.plans import publish
from permits import operators
from permits.desk import payloads
from permits.models import Permit
from permits.operators import NotSigned, Wish
from positions.reconcile.closing import CannotClose, Closed, Wanted
from quantum import plan as plans
from quantum.fault import fault_point
from quantum.log import log
from quantum.plan import Action
from quantum.redis import Client, RedisError
from quantum.signing import KeyUnusable

KILL_SCORE = "1"
SOURCE = "operator"


class ThroughHold:
    """Registered with positions.closing."""

    def close(self, client: Client, wanted: Wanted) -> Closed:
        standing = _on_its_way(wanted.symbol)
        if standing is not None:
            raise CannotClose(
                f"{wanted.symbol}: plan {standing} of an operator is on its way. Wait for its end."
            )
        plan = plans.make(
            symbol=wanted.symbol,
            action=Action.FULL_CLOSE,
            kill_score_text=KILL_SCORE,
            timestamp_text=f"{wanted.seen_s:.3f}",  # of two who stand on one read, both mean this one plan
            mode=settings.APPLY_MODE,
            source=SOURCE,
            reason_codes=f"close_what_is_left,hold={wanted.hold_id}",
        )
        wish = Wish(
            gate=payloads.P33,
            verdict=True,
            by=wanted.by,
            reason=wanted.reason,
            quantity=wanted.quantity,
            through_hold=True,
        )
        try:
            drafted = operators.draft(client, plan_id=plan.plan_id, wish=wish, plan=plan)
            if not isinstance(drafted, NotSigned) and drafted.finding.hold_id != wanted.hold_id:
                raise CannotClose(
                    f"{wanted.symbol}: another hold stands there by now. Look again, then decide."
                )
            done = drafted if isinstance(drafted, NotSigned) else operators.sign(client, drafted)
        except KeyUnusable as unusable:
            raise CannotClose(f"the operator's key cannot be used: {unusable}") from None
        if isinstance(done, NotSigned):
            raise CannotClose(f"{done.text} ({done.reason})")
        fault_point("closing_signed")
        try:
            publish.publish(client, plan, actor=wanted.by)
        except (RedisError, DatabaseError) as error:
            # The permit stands. The row was committed first, or only the commit's answer was lost: it is on the stream,
            # or the janitor publishes it while it is fresh. Told as not done, a person would close by hand as well.
            log.warning("close past a hold not published yet", plan=plan.plan_id, error=type(error).__name__)
            return Closed(plan.plan_id, published=False, recorded=isinstance(error, RedisError))
        return Closed(plan.plan_id, published=True, recorded=True)


def _on_its_way(symbol: str) -> str | None:
    """A second permit past the hold could close what is opened after the first close."""
    pending = Plan.objects.filter(account=settings.ACCOUNT, symbol=symbol, state__in=PENDING_STATES)
    signed = Permit.objects.filter(
        plan_id__in=list(pending.values_list("plan_id", flat=True)),
        gate=payloads.P33,
        issuer__startswith=f"{payloads.OPERATOR}:",
        verdict=True,
    )
    return signed.values_list("plan_id", flat=True).first()
