"""What the plan's page shows, worked out here so that the templates only lay it out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from msgspec import Struct

from apply.glance import stopped
from apply.glance.stopped import Way
from apply.models import Plan
from apply.pages import retrying
from apply.plans import blocked, timeline
from apply.plans.talk import Said
from apply.plans.timeline import Mark, Timeline
from permits.desk import records
from permits.models import Permit
from permits.pages import story
from permits.pages.pages import fate_chip
from permits.pages.story import GATE_NAMES, Signature
from positions.models import Fill, LedgerEntry
from quantum import advice, amounts, clock, facts
from quantum.models import AuditEvent

State = Plan.State
TONES = {
    State.FILLED: "good",
    State.ALREADY_DONE: "good",
    State.PARTIALLY_FILLED: "warn",
    State.UNKNOWN: "warn",
    State.OPEN: "calm",
    State.INTENDED: "calm",
    State.SKIPPED: "calm",
}
"""Every other end is one that did not close anything."""
TICKS_ABOUT = 5
ON_AXIS_LIMITS = 2
"""What lies further from the publishing than so many limits of the wait is told at the axis' end: a settlement of
minutes later must not squeeze the milliseconds that matter."""


def standing(plan: Plan) -> SafeString:
    return facts.chip(plan.state.replace("_", " "), tone=TONES.get(State(plan.state), "bad"))


# ---- one plan


class Step(Struct, frozen=True):
    """One mark on the axis; `x` is where it lies, in percent."""

    offset: str
    x: str
    what: str
    tone: str
    detail: list[tuple[str, object]]
    at: SafeString
    beyond: bool
    """It lies past an end of the axis."""


class Axis(Struct, frozen=True):
    start_ms: float
    end_ms: float
    tick_ms: float

    def x(self, offset_ms: float) -> str:
        share = 100 * (offset_ms - self.start_ms) / (self.end_ms - self.start_ms)
        return f"{min(100.0, max(0.0, share)):.2f}%"

    def holds(self, offset_ms: float) -> bool:
        return self.start_ms <= offset_ms <= self.end_ms

    def ticks(self) -> list[tuple[str, str]]:
        """Those that leave room for their label before the end."""
        count = round(self.end_ms / self.tick_ms)
        return [(self.x(n * self.tick_ms), f"{n * self.tick_ms:g}") for n in range(count)]


def axis(offsets_ms: list[float]) -> Axis:
    """From the first mark (or zero) to a round number just after the last."""
    highest = max([*offsets_ms, 1.0])
    magnitude = 10 ** math.floor(math.log10(highest / TICKS_ABOUT))
    tick = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= highest / TICKS_ABOUT)
    return Axis(start_ms=min([*offsets_ms, 0.0]), end_ms=tick * math.ceil(highest / tick), tick_ms=tick)


def near(offsets_ms: list[float], *, limit_ms: int) -> list[float]:
    """Those that the axis is made for."""
    reach_ms = ON_AXIS_LIMITS * limit_ms
    return [offset for offset in offsets_ms if -limit_ms <= offset <= reach_ms]


def plan(plan_id: str) -> dict[str, Any]:
    found = timeline.of(plan_id)
    if found is None:
        return {}
    marks = found.marks()
    limit_ms = settings.APPLY_PERMIT_WAIT_MS
    scale = axis(near([found.offset_ms(mark.at) for mark in marks], limit_ms=limit_ms))
    return {
        "title": f"Plan {plan_id}",
        "plan": found.plan,
        "standing": standing(found.plan),
        "at": facts.moment(found.plan.created_at),
        "age": facts.age(found.plan.created_at),
        "figures": list(_figures(found)),
        "stopped": _stopped(found),
        "parent": facts.plan_link(found.plan.parent) if found.plan.parent else "",
        "next_attempt": facts.plan_link(found.next_attempt) if found.next_attempt else "",
        "steps": [_step(found, mark, scale) for mark in marks],
        "ticks": scale.ticks(),
        "limit_ms": limit_ms,
        "limit_x": scale.x(limit_ms) if limit_ms <= scale.end_ms else "",
        "permits": _permits(found.permits),
        "permits_missing": _missing_gates(found),
        "order": found.order,
        "order_rows": facts.rows(found.order, skip=ORDER_SKIPPED, blank=False) if found.order else [],
        "said": [_said(said) for said in found.said],
        "fills": [_fill(fill) for fill in found.fills],
        "entries": [_entry(entry) for entry in found.entries],
        "events": [_event(event) for event in found.events],
        "plan_rows": facts.rows(found.plan, skip=SHOWN_ABOVE, blank=False),
    }


def _stopped(found: Timeline) -> dict[str, Any] | None:
    why = stopped.of(found)
    if why is None:
        return None
    again = any(way.place == RETRY for way in why.ways)
    form, newer = retrying.form_for(found.plan) if again else (None, None)
    exit_ = blocked.of_plan(found.plan)
    return {
        "why": why,
        "gate": GATE_NAMES.get(why.gate, ""),
        "tone": TONES.get(State(found.plan.state), "bad"),
        "ways": [(way, _address(way)) for way in why.ways],
        "retry": form,
        "newer": newer,
        "newer_link": facts.plan_link(newer.plan_id) if newer else "",
        "blocked": exit_,
        "blocked_s": f"{exit_.seconds:.1f}" if exit_ else "",
    }


RETRY = "retry"


def _address(way: Way) -> str:
    name, *about = way.page or ("",)
    page = reverse(f"admin:{name}", args=about) if name else ""
    asked = f"?{urlencode(way.asked)}" if way.asked else ""
    return f"{page}{asked}{f'#{way.place}' if way.place else ''}"


def _said(said: Said) -> dict[str, Any]:
    return {
        "row": said,
        "sent": facts.moment(said.sent_at) if said.sent_at else "",
        "answered": facts.moment(said.answered_at) if said.answered_at else "",
        "request": list(said.request.items()),
        "answer": [(name.replace("_", " "), text) for name, text in said.answer.items()],
    }


SHOWN_ABOVE = ("plan_id", "state", "error", "gate_reason", "wait_ms")
ORDER_SKIPPED = ("plan_id", "token", "governor_permit", "p33_permit")
"""The permits stand on the same page; the token is a secret of the attempt while it lasts."""


def _step(found: Timeline, mark: Mark, scale: Axis) -> Step:
    offset = found.offset_ms(mark.at)
    detail = [
        (name.replace("_", " "), value) for name, value in mark.detail.items() if value not in (None, "")
    ]
    return Step(
        offset=f"{offset:+.1f}",
        x=scale.x(offset),
        what=mark.what.replace("_", " "),
        tone=_tone(mark.what),
        detail=detail,
        at=facts.moment(mark.at),
        beyond=not scale.holds(offset),
    )


def _tone(what: str) -> str:
    state = what.removeprefix("ended: ")
    if state in State.values:
        return TONES.get(State(state), "bad")
    return "bad" if what.endswith(" denied") else "calm"


def _figures(found: Timeline) -> Iterator[tuple[str, object, str]]:
    """Label, value, unit: the few numbers somebody looks for first."""
    row, order = found.plan, found.order
    if row.wait_ms is not None:
        yield "waited for permits", row.wait_ms, f"ms of {settings.APPLY_PERMIT_WAIT_MS}"
    if order is None:
        return
    if order.sent_at is not None:
        yield "published → order sent", f"{found.offset_ms(order.sent_at):.1f}", "ms"
    if order.sent_at is not None and order.answered_at is not None:
        yield (
            "exchange answered in",
            f"{(order.answered_at - order.sent_at).total_seconds() * 1000:.1f}",
            "ms",
        )
    if order.executed_quantity is not None:
        yield "executed", facts.plain(order.executed_quantity), f"of {amounts.plain(order.quantity)}"
    if order.average_price is not None:
        yield "average price", facts.plain(order.average_price), ""
    if order.realized_pnl is not None:
        yield "realized profit", facts.plain(order.realized_pnl), ""


def _permits(permits: list[Permit]) -> list[dict[str, Any]]:
    signed = zip(permits, story.signatures(permits), strict=True)
    now = clock.now()
    fates = {permit.pk: records.fate_at(permit, now=now, history=permits) for permit in permits}
    ordered = sorted(signed, key=lambda each: each[0].gate)
    return [{**_permit(*each), "fate": fate_chip(fates[each[0].pk])} for each in ordered]


def _permit(permit: Permit, signature: Signature) -> dict[str, Any]:
    return {
        "row": permit,
        "gate": GATE_NAMES.get(permit.gate, permit.gate),
        "answer": facts.chip("granted", tone="good") if permit.verdict else facts.chip("denied", tone="bad"),
        "numbers": story.numbers(permit.raw),
        "issued": facts.moment(permit.issued_at),
        "ends": facts.moment(permit.expires_at),
        "signature": _signature(signature),
        "advice": None if permit.verdict else advice.of(permit.reason, gate=permit.gate),
    }


def _signature(found: Signature) -> SafeString:
    if not found.checked:
        return facts.chip("not checked: the public keys cannot be read here", tone="warn")
    if not found.signer:
        return facts.chip("by no key that is trusted now", tone="bad")
    good = facts.chip(f"ok, {found.signer}", tone="good")
    return format_html('{} <span class="id">{}</span>', good, found.fingerprint)


def _missing_gates(found: Timeline) -> list[str]:
    answered = {permit.gate for permit in found.permits}
    return [name for gate, name in GATE_NAMES.items() if gate not in answered]


def _fill(fill: Fill) -> dict[str, object]:
    return {
        "row": fill,
        "quantity": facts.plain(fill.quantity),
        "price": facts.plain(fill.price),
        "profit": facts.plain(fill.realized_pnl),
        "commission": facts.plain(fill.commission),
        "at": facts.moment(fill.at),
    }


def _entry(entry: LedgerEntry) -> dict[str, object]:
    return {
        "row": entry,
        "delta": facts.plain(entry.delta),
        "balance": facts.plain(entry.balance),
        "at": facts.moment(entry.recorded_at),
    }


def _event(event: AuditEvent) -> dict[str, object]:
    data = facts.payload(json.dumps(event.data, indent=2, ensure_ascii=False)) if event.data else ""
    return {"row": event, "at": facts.moment(event.at), "data": data}
