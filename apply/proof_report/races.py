"""What must never be: a permit spent twice, two orders of a plan, an order without its two permits. 0 is expected of
each, and each is looked for where another table than the one that forbids it would show it."""

from __future__ import annotations

import datetime as dt

from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.db.models.functions import MD5

from apply.models import Order, Plan
from apply.proof_report.report import NAMED_MOST, Part, Span
from permits.models import Permit
from positions.judging.difference import OWN_PREFIX
from positions.models import Fill
from quantum import clock
from quantum.models import AuditEvent
from quantum.plan import plan_of_order

GATES = ("governor", "p33")
YOUNG = dt.timedelta(seconds=5)
"""The gates write their rows a moment after the permit; the intent carries both in full."""
INTENDED = "order_intended"
SHOWN = 5


def of_races(span: Span) -> Part:
    part = Part("races", "Races (0 expected)")
    spent = Permit.objects.filter(issued_at__range=span.both, fate=Permit.Fate.SPENT).order_by()
    orders = Order.objects.filter(intended_at__range=span.both).order_by()
    # By the order as well: a forged row bears whatever time its writer liked.
    sent = Permit.objects.filter(fate=Permit.Fate.SPENT).order_by()
    sent = sent.filter(Exists(orders.filter(plan_id=OuterRef("plan_id"))))
    twice = {
        found
        for rows in (spent, sent)
        for found in rows.values_list("plan_id", "gate").annotate(n=Count("id")).filter(n__gt=1)
    }
    for plan_id, gate, n in sorted(twice):
        text = f"{gate}'s permit of plan {plan_id} was spent {n} times"
        part.wrong("permit_spent_twice", text, plan_id=plan_id)
    for gate in GATES:
        _same_bytes(part, gate, span)
    for plan_id, n in orders.values_list("plan_id").annotate(n=Count("id")).filter(n__gt=1):
        part.wrong("two_orders_of_a_plan", f"plan {plan_id} has {n} order rows", plan_id=plan_id)
    fills = Fill.objects.filter(at__range=span.both, client_order_id__startswith=OWN_PREFIX).order_by()
    several = (
        fills.values_list("client_order_id").annotate(n=Count("order_id", distinct=True)).filter(n__gt=1)
    )
    for client_id, n in several:
        text = f"{client_id} was filled as {n} orders of the exchange"
        part.wrong("two_orders_of_a_plan", text, plan_id=plan_of_order(client_id) or "")
    intents = AuditEvent.objects.filter(at__range=span.both, kind=INTENDED).order_by()
    for plan_id, n in intents.values_list("plan_id").annotate(n=Count("id")).filter(n__gt=1):
        part.wrong("two_orders_of_a_plan", f"plan {plan_id} was intended {n} times", plan_id=plan_id)
    permits, sendings = spent.count(), orders.count()
    part.figure("permits spent", permits, of=permits)
    part.figure("orders", sendings, of=sendings)
    part.figure("found", part.wrongs, of=permits + sendings)
    return part


def _same_bytes(part: Part, gate: str, span: Span) -> None:
    """A permit names one plan by its digest: its bytes can lie with one order only. Put together by a digest of
    theirs: the bytes themselves would be sorted on disk."""
    orders = (
        Order.objects.filter(intended_at__range=span.both).order_by().annotate(bytes=MD5(f"{gate}_permit"))
    )
    for found, n in orders.values_list("bytes").annotate(n=Count("id")).filter(n__gt=1)[:NAMED_MOST]:
        plans = sorted(orders.filter(bytes=found).values_list("plan_id", flat=True))
        for plan_id in plans:
            text = f"one permit of {gate} was spent for {n} orders: {', '.join(plans[:SHOWN])}"
            part.wrong("permit_spent_twice", text, plan_id=plan_id)


def of_orders(span: Span) -> Part:
    part = Part("orders", "Orders without permits (0 expected)")
    orders = Order.objects.filter(intended_at__range=span.both).order_by()
    unpermitted(part, orders)
    intents = AuditEvent.objects.filter(kind=INTENDED)
    there = Order.objects.filter(plan_id=OuterRef("plan_id"))
    gone = intents.filter(Q(at__range=span.both) & ~Exists(there)).order_by()
    for plan_id, symbol in gone.values_list("plan_id", "symbol"):
        text = f"the audit tells of an intent of plan {plan_id}, and its order row is gone"
        part.wrong("order_row_missing", text, plan_id=plan_id, symbol=symbol)
    n = orders.count()
    part.figure("orders", n, of=n)
    part.figure("found", part.wrongs, of=n)
    return part


def unpermitted(part: Part, orders: QuerySet[Order]) -> None:
    """Each of them that lacks a permit, its plan or its intent."""
    due = orders.filter(intended_at__lt=clock.now() - YOUNG)
    for gate in GATES:
        theirs = Permit.objects.filter(
            plan_id=OuterRef("plan_id"), gate=gate, verdict=True, raw=OuterRef(f"{gate}_permit")
        )
        for plan_id, symbol in due.filter(~Exists(theirs)).values_list("plan_id", "symbol"):
            text = f"the order of plan {plan_id} carries no permit that {gate} granted"
            part.wrong("order_without_permit", text, plan_id=plan_id, symbol=symbol)
    published = Plan.objects.filter(plan_id=OuterRef("plan_id"))
    for plan_id, symbol in orders.filter(~Exists(published)).values_list("plan_id", "symbol"):
        text = f"the order of plan {plan_id} is of no plan"
        part.wrong("order_without_plan", text, plan_id=plan_id, symbol=symbol)
    told = AuditEvent.objects.filter(kind=INTENDED, plan_id=OuterRef("plan_id"))
    for plan_id, symbol in orders.filter(~Exists(told)).values_list("plan_id", "symbol"):
        text = f"the audit knows no intent of the order of plan {plan_id}"
        part.wrong("order_without_intent", text, plan_id=plan_id, symbol=symbol)
