"""What became of the plans, why some closed nothing, how long they waited, and what the gates said."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Count, OuterRef, Q, Subquery

from apply.glance.hour import Spread
from apply.models import PENDING_STATES, Order, Plan
from apply.plans.blocked import FREED, REFUSED, cause_of
from apply.proof_report.report import Part, Span
from permits.models import Permit
from quantum import clock

State = Plan.State
NO_EXIT = "no exit passed in this span: there is too little to prove anything by"
GRACE = dt.timedelta(seconds=60)
"""After its life, or its end, a plan has its result within this; the janitor looks every second."""


def of_plans(span: Span) -> Part:
    part = Part("plans", "Plans")
    plans = Plan.objects.filter(created_at__range=span.both).order_by()
    states = counts(plans, "state")
    total, done = sum(states.values()), sum(states.get(state, 0) for state in FREED)
    refused = sum(states.get(state, 0) for state in REFUSED)
    part.figure("plans", total, of=total)
    part.figure("by state", states, of=total)
    part.figure("exits that passed", done, of=total)
    part.figure("refused", refused, of=total)
    part.share("passed of those decided", done, of=done + refused)
    if not done:
        part.doubts.append(NO_EXIT)
    _without_result(part, plans)
    return part


def _without_result(part: Part, plans: models.QuerySet[Plan]) -> None:
    late = clock.now() - GRACE
    left = plans.filter(result_id="").filter(
        Q(ended_at__lt=late) | Q(state__in=PENDING_STATES, ended_at=None, expires_at__lt=late)
    )
    for plan in left.order_by("id"):
        text = f"plan {plan.plan_id} is {plan.state} and told no result"
        part.wrong("plan_without_result", text, plan_id=plan.plan_id, symbol=plan.symbol)


def of_blocks(span: Span) -> Part:
    part = Part("blocks", "Why exits were refused")
    refused = Plan.objects.filter(created_at__range=span.both, state__in=REFUSED).order_by()
    causes: Counter[str] = Counter()
    for error, gate_reason, n in refused.values_list("error", "gate_reason").annotate(n=Count("id")):
        causes[cause_of(error, gate_reason)] += n
    part.figure("by reason", dict(causes.most_common()), of=causes.total())
    return part


def of_waits(span: Span) -> Part:
    part = Part("waits", "Waits, and from plan to order")
    plans = Plan.objects.filter(created_at__range=span.both, wait_ms__isnull=False).order_by()
    waits = Spread(counts(plans, "wait_ms"))
    part.spread("wait", waits)
    part.figure(
        f"waits over {settings.APPLY_PERMIT_WAIT_MS} ms",
        waits.over(settings.APPLY_PERMIT_WAIT_MS),
        of=waits.n,
    )
    part.spread("plan to order", _to_order(span))
    return part


def _to_order(span: Span) -> Spread:
    made = Plan.objects.filter(plan_id=OuterRef("plan_id")).values("created_at")[:1]
    orders = Order.objects.filter(intended_at__range=span.both, sent_at__isnull=False).order_by()
    pairs = orders.annotate(made=Subquery(made)).values_list("sent_at", "made").iterator()
    return Spread(Counter(round((sent - at).total_seconds() * 1000) for sent, at in pairs if sent and at))


def of_permits(span: Span) -> Part:
    part = Part("permits", "Permits")
    permits = Permit.objects.filter(issued_at__range=span.both).order_by()
    gates: dict[str, Counter[str]] = {}
    fates, denials = Counter[str](), Counter[str]()
    kinds = permits.values_list("gate", "verdict", "fate", "reason")
    for gate, verdict, fate, reason, n in kinds.annotate(n=Count("id")):
        gates.setdefault(gate, Counter())["granted" if verdict else "denied"] += n
        fates[fate] += n
        denials[reason] += 0 if verdict else n
    for gate, said in sorted(gates.items()):
        part.figure(gate, dict(said), of=said.total())
        part.share(f"{gate} granted", said["granted"], of=said.total())
    part.figure("what became of them", dict(fates.most_common()), of=fates.total())
    part.figure("denials by reason", dict((+denials).most_common()), of=denials.total())
    strange = permits.exclude(mode=settings.APPLY_MODE, account=settings.ACCOUNT)
    for permit in strange.order_by("id"):
        text = f"{permit.gate}'s permit of plan {permit.plan_id} is of {permit.mode} {permit.account}"
        part.wrong("permit_of_another_instance", text, plan_id=permit.plan_id, symbol=permit.symbol)
    return part


def counts(rows: models.QuerySet[Any], name: str) -> dict[Any, int]:
    """The most frequent first."""
    found = dict(rows.values_list(name).annotate(n=Count("id")))
    return dict(sorted(found.items(), key=lambda each: -each[1]))
