"""What the resolver learns of an order in flight, kept for whoever may have to decide."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.db import transaction
from prometheus_client import Metric

from apply.acting import settle
from apply.models import Inquiry, Order, Plan
from apply.plans import transitions
from quantum import amounts, audit, clock
from quantum.exchange.types import OrderState
from quantum.gauges import gauge

Finding = Inquiry.Finding
DOUBTFUL = (Finding.FAILING, Finding.CONTRADICTORY)
ALERT_AFTER_S = 30.0
CANCEL_AGAIN_S, CANCEL_AGAIN_S_MAX = 5, 60


def note(order: Order, finding: Inquiry.Finding, *, text: str, found: OrderState | None = None) -> Inquiry:
    """One more answer, or none. What was found stays when a later question fails."""
    now = clock.now()
    inquiry, _ = Inquiry.objects.get_or_create(plan_id=order.plan_id, defaults={"finding": finding})
    inquiry.finding, inquiry.text = finding, text[:200]
    inquiry.asked_at, inquiry.asked = now, inquiry.asked + 1
    inquiry.doubtful_since = (inquiry.doubtful_since or now) if finding in DOUBTFUL else None
    if found is not None:
        inquiry.found = _shown(found)
    learnt = ["finding", "text", "asked_at", "asked", "doubtful_since", "found"]
    inquiry.save(update_fields=learnt)  # the cancel's fields are also apply's to write
    return inquiry


def _shown(found: OrderState) -> dict[str, Any]:
    return {
        "order_id": found.order_id,
        "status": found.status.value,
        "executed_quantity": amounts.plain(found.executed_quantity),
        "average_price": amounts.plain(found.average_price),
        "updated_ms": found.updated_ms,
    }


def want_cancel(order: Order, inquiry: Inquiry, *, actor: str) -> bool:
    """The rule for an order that the exchange leaves open: after ORDER_CANCEL_AFTER_SEC it is to be cancelled, and
    asked for again, each time later, until the exchange shows it ended."""
    now = clock.now()
    if age_s(order, inquiry) < float(settings.ORDER_CANCEL_AFTER_SEC):
        return False
    wait_s = min(CANCEL_AGAIN_S * 2 ** min(inquiry.cancels, 8), CANCEL_AGAIN_S_MAX)
    if inquiry.cancel_asked_at and now - inquiry.cancel_asked_at < dt.timedelta(seconds=wait_s):
        return False
    with transaction.atomic():
        asked = {"cancel_asked_at": now, "cancels": inquiry.cancels + 1}
        if not Inquiry.objects.filter(pk=inquiry.pk, cancels=inquiry.cancels).update(**asked):
            return False
        audit.record(
            kind="cancel_asked",
            actor=actor,
            plan_id=order.plan_id,
            symbol=order.symbol,
            reason=f"open for more than {settings.ORDER_CANCEL_AFTER_SEC} s",
            data={"found": inquiry.found, "times": inquiry.cancels + 1, "worker": transitions.worker()},
        )
    return True


def is_overdue(order: Order, inquiry: Inquiry) -> bool:
    """Nobody knows its fate for so long that a person should look."""
    return inquiry.finding != Finding.OPEN and age_s(order, inquiry) >= ALERT_AFTER_S


def age_s(order: Order, inquiry: Inquiry | None) -> float:
    """Since the intent, and at least since it was first asked for: apply's clock, of another host or of before it was
    set back, may have been ahead of this one, and what is of tomorrow would be young all day."""
    began = min(order.intended_at, inquiry.since) if inquiry else order.intended_at
    return (clock.now() - began).total_seconds()


def read() -> Iterator[Metric]:
    """Gauges: orders whose fate has been open for longer than the alert allows, and the age of the oldest."""
    ids = Plan.objects.filter(result_id="", state__in=settle.IN_FLIGHT).values_list("plan_id", flat=True)
    asked = {each.plan_id: each for each in Inquiry.objects.filter(plan_id__in=list(ids))}
    resting = {plan_id for plan_id, each in asked.items() if each.finding == Finding.OPEN}
    orders = Order.objects.filter(plan_id__in=[each for each in ids if each not in resting])
    ages = [age_s(order, asked.get(order.plan_id)) for order in orders]
    late = [each for each in ages if each >= ALERT_AFTER_S]
    yield gauge("quantum_orders_unknown", "Orders of unknown fate for longer than 30 s", len(late))
    yield gauge("quantum_order_unknown_seconds", "Age of the oldest of them", max(late, default=0))
