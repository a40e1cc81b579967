"""All that is known of one plan, from every floor, on one axis of milliseconds."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any

from django.db.models import Model
from msgspec import Struct

from apply.models import Inquiry, Order, Plan
from apply.plans import talk
from apply.plans.talk import Said
from permits.models import Permit
from positions.models import Fill, LedgerEntry
from quantum import amounts
from quantum.models import AuditEvent

GATES = 2


class Mark(Struct, frozen=True):
    """One step of a plan's way."""

    at: dt.datetime
    what: str
    detail: dict[str, Any]


class Timeline(Struct, frozen=True):
    plan: Plan
    order: Order | None
    permits: list[Permit]
    fills: list[Fill]
    entries: list[LedgerEntry]
    events: list[AuditEvent]
    inquiry: Inquiry | None = None
    next_attempt: str = ""

    @property
    def said(self) -> list[Said]:
        """Between us and the exchange."""
        return talk.of(self.order, self.inquiry)

    @property
    def started_at(self) -> dt.datetime:
        """The moment of XADD by Redis' clock where there was one; the row's own time otherwise."""
        return stream_time(self.plan.stream_id) or self.plan.created_at

    def marks(self) -> list[Mark]:
        """In order of time; what happened at the same moment keeps the order of the way."""
        marks = [
            *self._operator_marks(),
            *self._plan_marks(),
            *self._permit_marks(),
            *self._order_marks(),
            *self._inquiry_marks(),
            *self._end_marks(),
        ]
        return sorted(marks, key=lambda mark: mark.at)

    def offset_ms(self, at: dt.datetime) -> float:
        return round((at - self.started_at).total_seconds() * 1000, 3)

    def _operator_marks(self) -> list[Mark]:
        return [
            Mark(
                event.at,
                "break-glass",
                {"by": event.actor, "gates": event.data["gates"], "why": event.reason},
            )
            for event in self.events
            if event.kind == "break_glass_acted"
        ]

    def _plan_marks(self) -> list[Mark]:
        plan = self.plan
        marks = [Mark(plan.created_at, "plan recorded", {"source": plan.source, "parent": plan.parent})]
        published = stream_time(plan.stream_id)
        if published is not None:
            again = {"seen_again": plan.seen_again} if plan.seen_again else {}
            marks.append(Mark(published, "published", {"stream_id": plan.stream_id, **again}))
        return marks

    def _permit_marks(self) -> list[Mark]:
        marks = [
            Mark(
                permit.issued_at,
                f"{permit.gate} {'granted' if permit.verdict else 'denied'}",
                {"reason": permit.reason, "quantity": _text(permit.quantity), "fate": permit.fate},
            )
            for permit in self.permits
        ]
        waited_to = self.order.consumed_at if self.order else self.plan.ended_at
        if self.plan.wait_ms is not None and waited_to is not None:
            began = waited_to - dt.timedelta(milliseconds=self.plan.wait_ms)
            marks.append(
                Mark(max(began, self.started_at), "waiting for permits", {"wait_ms": self.plan.wait_ms})
            )
        granted = {permit.gate: permit.issued_at for permit in self.permits if permit.verdict}
        if len(granted) == GATES:
            marks.append(Mark(max(granted.values()), "permitted", {}))
        return marks

    def _order_marks(self) -> list[Mark]:
        order = self.order
        if order is None:
            return []
        steps: list[tuple[dt.datetime | None, str, dict[str, Any]]] = [
            (order.consumed_at, "permits spent", {"wait_ms": self.plan.wait_ms}),
            (order.intended_at, "intent committed", {"client_order_id": order.client_order_id}),
            (order.sent_at, "order sent", {"side": order.side, "quantity": _text(order.quantity)}),
            (order.answered_at, "order answered", {"order_id": order.order_id, "status": order.status}),
            (
                order.answered_at if order.error_text else None,
                "the answer in words",
                {"text": order.error_text},
            ),
        ]
        return [Mark(at, what, detail) for at, what, detail in steps if at is not None]

    def _inquiry_marks(self) -> list[Mark]:
        asked = self.inquiry
        if asked is None:
            return []
        found = {"times": asked.asked, "finding": asked.get_finding_display(), "text": asked.text}
        marks = [Mark(asked.asked_at, "exchange asked for the order", found)]
        if asked.cancel_sent_at is not None:
            marks.append(Mark(asked.cancel_sent_at, "cancel sent", {"text": asked.cancel_text}))
        return marks

    def _end_marks(self) -> list[Mark]:
        marks = [
            Mark(
                fill.at,
                "filled",
                {"trade_id": fill.trade_id, "quantity": _text(fill.quantity), "price": _text(fill.price)},
            )
            for fill in self.fills
        ]
        marks += [
            Mark(
                entry.recorded_at,
                "ledger moved",
                {"delta": _text(entry.delta), "balance": _text(entry.balance)},
            )
            for entry in self.entries
        ]
        if self.plan.ended_at is not None:
            marks.append(Mark(self.plan.ended_at, f"ended: {self.plan.state}", {"error": self.plan.error}))
        return marks


def of(plan_id: str) -> Timeline | None:
    plan = Plan.objects.filter(plan_id=plan_id).first()
    if plan is None:
        return None
    entries = list(LedgerEntry.objects.filter(plan_id=plan_id).select_related("fill").order_by("id"))
    return Timeline(
        plan=plan,
        order=Order.objects.filter(plan_id=plan_id).first(),
        permits=list(Permit.objects.filter(plan_id=plan_id).order_by("issued_at")),
        fills=[entry.fill for entry in entries if entry.fill is not None],
        entries=entries,
        events=list(AuditEvent.objects.filter(plan_id=plan_id).order_by("id")),
        inquiry=Inquiry.objects.filter(plan_id=plan_id).first(),
        next_attempt=Plan.objects.filter(parent=plan_id).values_list("plan_id", flat=True).first() or "",
    )


def stream_time(stream_id: str) -> dt.datetime | None:
    head = stream_id.partition("-")[0]
    return dt.datetime.fromtimestamp(int(head) / 1000, dt.UTC) if head.isdigit() else None


def as_data(timeline: Timeline) -> dict[str, Any]:
    """For --json and for pages: the marks with offsets, and every row in full."""
    return {
        "plan": _row(timeline.plan),
        "timeline": [
            {
                "offset_ms": timeline.offset_ms(mark.at),
                "at": mark.at.isoformat(),
                "what": mark.what,
                **mark.detail,
            }
            for mark in timeline.marks()
        ],
        "permits": [{**_row(permit), "raw": json.loads(permit.raw)} for permit in timeline.permits],
        "order": _row(timeline.order) if timeline.order else None,
        "exchange": [talk.as_data(said) for said in timeline.said],
        "next_attempt": timeline.next_attempt,
        "fills": [_row(fill) for fill in timeline.fills],
        "ledger": [_row(entry) for entry in timeline.entries],
        "audit": [_row(event) for event in timeline.events],
    }


def _row(instance: Model) -> dict[str, Any]:
    skipped = ("id", "token", "governor_permit", "p33_permit")
    fields = [field for field in instance._meta.concrete_fields if field.name not in skipped]
    return {field.attname: _plain(getattr(instance, field.attname)) for field in fields}


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return amounts.plain(value)
    return value.isoformat() if isinstance(value, dt.datetime) else value


def _text(value: Decimal | None) -> str:
    return "" if value is None else amounts.plain(value)
