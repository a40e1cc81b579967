"""What another policy would have decided about plans of the past. Pure over what was recorded; changes nothing.

Each plan is judged in its order of time, against what the replay itself let through before it: a policy that
denies more leaves more room for those behind. What did not depend on policy (a halt, an old plan) stays.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from apply.models import Order, Plan
from permits.desk import payloads
from permits.governor.tally import DAY_MS, Charge, Tally
from permits.models import Approval, Permit, Usage
from permits.policy import policy
from permits.policy.policy import TOTAL, Facts, Policy, Verdict
from quantum.plan import Decision
from quantum.reasons import GovernorReason

OF_POLICY = policy.OF_USE | {
    GovernorReason.APPROVED,
    GovernorReason.NOT_IN_ALLOWLIST,
    GovernorReason.AWAITING_APPROVAL,
}


@dataclass(frozen=True, slots=True)
class Past:
    """One plan as it was: what the Governor said, what it would have closed, what came of it."""

    plan_id: str
    symbol: str
    at_ms: int
    said: str
    quantity: Decimal | None
    notional: Decimal | None
    charge: Charge | None
    approved: bool


@dataclass(frozen=True, slots=True)
class Replayed:
    past: Past
    reason: str
    rule: dict[str, Decimal | str]

    @property
    def differs(self) -> bool:
        return self.reason != self.past.said


def replay(plans: Iterable[Past], changed: Policy, *, before: Iterable[Charge] = ()) -> list[Replayed]:
    tally = Tally()
    for charge in before:
        tally.charge(charge)
    return [_again(past, changed, tally) for past in plans]


def _again(past: Past, changed: Policy, tally: Tally) -> Replayed:
    if past.said not in {reason.value for reason in OF_POLICY}:
        return Replayed(past, past.said, {})
    verdict = _judged(past, changed, tally)
    if verdict.approved:
        charge = _charge(past)
        if charge is not None:
            tally.charge(charge)
    return Replayed(past, verdict.reason.value, verdict.rule)


def _judged(past: Past, changed: Policy, tally: Tally) -> Verdict:
    if past.symbol not in changed.allowlist:
        return Verdict(GovernorReason.NOT_IN_ALLOWLIST, {"symbol": past.symbol})
    facts = Facts(
        now_s=Decimal(past.at_ms) / 1000,
        trading_active=True,
        quantity=past.quantity,
        notional=past.notional,
        missing="the size was not recorded",
        of_symbol=tally.use(past.symbol, now_ms=past.at_ms),
        in_total=tally.use(TOTAL, now_ms=past.at_ms),
        approved=past.approved,
    )
    return policy.within(past.symbol, changed.limits, facts)


def _charge(past: Past) -> Charge | None:
    """What was granted came to what it came to; what is granted only now is taken as filled as asked."""
    if past.said == GovernorReason.APPROVED:
        return past.charge
    zero = Decimal(0)
    return Charge(past.plan_id, past.symbol, past.at_ms, past.quantity or zero, past.notional or zero)


# ---- reading the past


def recent(last: int) -> tuple[list[Past], list[Charge]]:
    """The last plans that the Governor answered, oldest first, and what the day before the first had used."""
    plans = list(Plan.objects.filter(decision=Decision.EXECUTE.value).order_by("-id")[:last])[::-1]
    ids = [plan.plan_id for plan in plans]
    said = {one.plan_id: one for one in Permit.objects.filter(gate=payloads.GOVERNOR, plan_id__in=ids)}
    orders = {one.plan_id: one for one in Order.objects.filter(plan_id__in=ids)}
    used = {one.plan_id: one for one in Usage.objects.filter(plan_id__in=ids)}
    approved = set(
        Approval.objects.filter(plan_id__in=ids, state=Approval.State.APPROVED).values_list(
            "plan_id", flat=True
        )
    )
    found = [
        _past(
            plan,
            said[plan.plan_id],
            orders.get(plan.plan_id),
            used.get(plan.plan_id),
            plan.plan_id in approved,
        )
        for plan in plans
        if plan.plan_id in said
    ]
    return found, _used_before(plans[0].created_at, without=ids) if plans else []


def _past(plan: Plan, permit: Permit, order: Order | None, used: Usage | None, approved: bool) -> Past:
    read = payloads.read(permit.raw.encode(), gate=payloads.GOVERNOR, all_fields=False)
    # Zero: the policy of then asked for no size. The order, where there was one, knows.
    quantity = read.quantity or (order.quantity if order else None)
    price = order.average_price if order else None
    notional = read.notional or (quantity * price if quantity and price else None)
    return Past(
        plan_id=plan.plan_id,
        symbol=plan.symbol,
        at_ms=int(plan.created_at.timestamp() * 1000),
        said=permit.reason,
        quantity=quantity,
        notional=notional,
        charge=_charged(used) if used else None,
        approved=approved,
    )


def _charged(used: Usage) -> Charge:
    at_ms = int(used.at.timestamp() * 1000)
    failed = used.kind == Usage.Kind.FAILED
    return Charge(used.plan_id, used.symbol, at_ms, used.quantity, used.notional, failed)


def _used_before(moment: dt.datetime, *, without: list[str]) -> list[Charge]:
    since = moment - dt.timedelta(milliseconds=DAY_MS)
    rows = Usage.objects.filter(at__gt=since, at__lte=moment).exclude(plan_id__in=without).order_by("id")
    return [_charged(row) for row in rows]
