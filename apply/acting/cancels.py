"""Cancels that the resolver asked for: it holds no trade key, so it writes them down and apply sends them.

Each is sent once for each time it was asked for; an answer that is lost is asked for again by the resolver. What was
executed before the cancel stays executed, and is found and booked like every other outcome.
"""

from __future__ import annotations

from collections.abc import Callable

from django.db import Error as DatabaseError
from django.db import close_old_connections, transaction
from django.db.models import F, Q, Value
from django.db.models.functions import Greatest

from apply.models import PENDING_STATES, Inquiry, Order, Plan
from apply.plans import transitions
from quantum import audit, clock
from quantum.exchange.types import Answered, Refused, SendOutcome
from quantum.log import log

EVERY_S = 1.0
UNSENT = Q(cancel_asked_at__isnull=False) & (
    Q(cancel_sent_at=None) | Q(cancel_sent_at__lt=F("cancel_asked_at"))
)


class Cancels:
    def __init__(self, *, cancel: Callable[[Order], SendOutcome], actor: str) -> None:
        self._cancel = cancel
        self._actor = actor
        self._next_boot_s = 0.0

    def due(self) -> bool:
        if clock.boot_s() < self._next_boot_s:
            return False
        self._next_boot_s = clock.boot_s() + EVERY_S
        return True

    def send_all(self) -> None:
        """On a sender thread."""
        try:
            for inquiry in Inquiry.objects.filter(UNSENT):
                self._send(inquiry)
        except DatabaseError as error:
            log.warning("cancels cannot be looked up", error=type(error).__name__)
            close_old_connections()

    def _send(self, inquiry: Inquiry) -> None:
        """The row is marked first: dead in between, it is asked for again; two processes cannot both send it."""
        mine = Inquiry.objects.filter(UNSENT, pk=inquiry.pk)
        # Never before it was asked for, or the same asking is sent each second: the warden's clock may be ahead.
        if not mine.update(cancel_sent_at=Greatest(Value(clock.now()), F("cancel_asked_at"))):
            return
        order = Order.objects.filter(plan_id=inquiry.plan_id, settled_at=None).first()
        if (
            order is None
            or not Plan.objects.filter(plan_id=inquiry.plan_id, state__in=PENDING_STATES).exists()
        ):
            return  # settled meanwhile
        told = _told(self._cancel(order))
        log.warning(f"{order.symbol}: cancel sent", plan=order.plan_id, answer=told)
        with transaction.atomic():
            Inquiry.objects.filter(pk=inquiry.pk).update(cancel_text=told)
            audit.record(
                kind="cancel_sent",
                actor=self._actor,
                plan_id=order.plan_id,
                symbol=order.symbol,
                data={
                    "client_order_id": order.client_order_id,
                    "answer": told,
                    "worker": transitions.worker(),
                },
            )


def _told(outcome: SendOutcome) -> str:
    if isinstance(outcome, Answered):
        return f"{outcome.order.status}, executed {outcome.order.executed_quantity}"
    kind = "refused" if isinstance(outcome, Refused) else "unknown"
    return f"{kind}: {outcome.text}"[:200]
