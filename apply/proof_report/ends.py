"""What plans came to, against what the audit recorded when they did, and against their own orders."""

from __future__ import annotations

from decimal import Decimal

from django.db.models import Count, Exists, OuterRef, Value
from django.db.models.fields.json import KT
from django.db.models.functions import Concat

from apply.acting.settle import BY_PERSON
from apply.models import PENDING_STATES, Order, Plan
from apply.plans.transitions import PROVED, UNSENT
from apply.proof_report.races import INTENDED
from apply.proof_report.report import Part, Span
from quantum import amounts
from quantum.models import AuditEvent

State = Plan.State
RECORDED = "plan_recorded"
ENDS = [f"plan_{state.value}" for state in (*PROVED, *UNSENT)]


def of_ends(span: Span) -> Part:
    part = Part("ends", "Ends, as they were recorded")
    plans = Plan.objects.filter(created_at__range=span.both).order_by()
    ended = plans.exclude(state__in=PENDING_STATES)
    events = AuditEvent.objects.filter(at__range=span.both).order_by()
    told = AuditEvent.objects.filter(
        plan_id=OuterRef("plan_id"), kind=Concat(Value("plan_"), OuterRef("state"))
    )
    for plan_id, symbol, state in ended.filter(~Exists(told)).values_list("plan_id", "symbol", "state"):
        text = f"plan {plan_id} counts as {state}, and the audit tells of no such end"
        part.wrong("end_without_event", text, plan_id=plan_id, symbol=symbol)
    ends = events.filter(kind__in=ENDS).values_list("plan_id").annotate(n=Count("id"))
    for plan_id, n in ends.filter(n__gt=1):
        part.wrong("two_ends_of_a_plan", f"the audit tells of {n} ends of plan {plan_id}", plan_id=plan_id)
    there = Plan.objects.filter(plan_id=OuterRef("plan_id"))
    gone = events.filter(~Exists(there), kind=RECORDED)
    for plan_id, symbol in gone.values_list("plan_id", "symbol"):
        text = f"the audit tells of plan {plan_id}, and its row is gone"
        part.wrong("plan_row_missing", text, plan_id=plan_id, symbol=symbol)
    n, orders = ended.count(), _orders(part, span)
    part.figure("plans that ended", n, of=n)
    part.figure("found", part.wrongs, of=n + orders)
    return part


def _orders(part: Part, span: Span) -> int:
    """Each against its intent, and against the end of its plan. Put together here: 100,000 questions for two rows each
    cost the database more than these two lists cost memory."""
    n = 0
    intents = AuditEvent.objects.filter(at__range=span.both, kind=INTENDED).order_by()
    columns = intents.values_list("plan_id", KT("data__side"), KT("data__quantity"))
    meant_of = {plan_id: (side, quantity) for plan_id, side, quantity in columns.iterator()}
    plans = Plan.objects.filter(created_at__range=span.both, state__in=PROVED).order_by()
    end_of = dict(plans.values_list("plan_id", "state").iterator())
    orders = Order.objects.filter(intended_at__range=span.both).order_by()
    names = ("plan_id", "symbol", "side", "quantity", "executed_quantity", "status", "settled_at")
    for plan_id, symbol, side, quantity, executed, status, settled_at in orders.values_list(
        *names
    ).iterator():
        meant, end = meant_of.get(plan_id), end_of.get(plan_id)
        n += 1
        if meant is not None and meant != (side, amounts.plain(quantity)):
            text = f"the order of plan {plan_id} is {side} {amounts.plain(quantity)}, meant was {meant[0]} {meant[1]}"
            part.wrong("order_is_not_its_intent", text, plan_id=plan_id, symbol=symbol)
        if end and not (
            settled_at and (status == BY_PERSON or end in _ends_of(executed or Decimal(0), quantity))
        ):
            done = amounts.plain(executed or Decimal(0))
            text = f"plan {plan_id} counts as {end}; its order executed {done} of {amounts.plain(quantity)}"
            text += "" if settled_at else ", and was never settled"
            part.wrong("end_is_not_its_order", text, plan_id=plan_id, symbol=symbol)
    return n


def _ends_of(executed: Decimal, quantity: Decimal) -> frozenset[Plan.State]:
    if not executed:
        return PROVED - {State.FILLED, State.PARTIALLY_FILLED}
    return frozenset({State.FILLED if executed >= quantity else State.PARTIALLY_FILLED})
