"""What the reconciliation pages show, worked out here so that the templates only lay it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.forms import HiddenInput
from django.utils.safestring import SafeString

from positions.books import history
from positions.models import CorrectionRequest, Incident
from positions.pages import forms, marks
from positions.pages.acts import WITHIN_S
from positions.reconcile import closing, reconcile, second
from positions.reconcile.reconcile import Line, Record, State, Unreadable
from quantum import amounts, clock, facts
from quantum.models import AuditEvent
from quantum.redis import RedisError, command_client

TONES = {State.MATCH: "good", State.DRIFT: "bad", State.IN_FLIGHT: "calm"}
EVENTS_SHOWN = 20
NO_REDIS = "Redis gave no answer: what the exchange holds is not known."


@dataclass(frozen=True, slots=True)
class Row:
    """One symbol. line None: what the exchange holds is not known, which is not zero."""

    record: Record
    line: Line | None

    @property
    def state(self) -> State:
        return self.line.state if self.line else State.UNKNOWN

    @property
    def state_chip(self) -> SafeString:
        return facts.chip(self.state.value.replace("_", " "), tone=TONES.get(self.state, "warn"))

    @property
    def exchange(self) -> str:
        return amounts.plain(self.line.exchange) if self.line else "unknown"

    @property
    def ledger(self) -> str:
        balance = self.record.balance
        return "never entered" if balance is None else amounts.plain(balance.amount)

    @property
    def difference(self) -> str:
        if self.line is None:
            return "unknown"
        apart = self.line.exchange - (self.line.ledger or 0)
        return f"{'+' if apart > 0 else ''}{amounts.plain(apart)}"

    @property
    def ledger_when_closed(self) -> str:
        return (
            amounts.plain((self.line.ledger or Decimal(0)) - self.line.exchange) if self.line else "unknown"
        )

    @property
    def tolerance(self) -> str:
        return amounts.plain(self.line.tolerance) if self.line else "unknown"

    @property
    def age(self) -> str:
        if self.line is None:
            return "no read"
        ahead = self.line.age_s < 0 and self.state is State.STALE
        return "a moment that is to come" if ahead else f"{max(self.line.age_s, Decimal(0)):.1f} s ago"

    @property
    def agreed(self) -> str:
        if self.state is State.MATCH and self.line:
            return facts.moment(clock.from_ms(self.line.asked_ms))
        at = history.last_agreed(self.record.symbol)
        return facts.moment(at) if at else facts.NOTHING

    @property
    def order(self) -> str:
        """The order in flight, and for how long."""
        return f"{self.record.locked_s:.0f} s" if self.record.lock else ""

    @property
    def order_is_late(self) -> bool:
        return self.record.locked_s >= reconcile.LONG_LOCK_S


def overview(*, again: bool) -> dict[str, Any]:
    rows, problem = _rows(sorted(reconcile.symbols()), again=again)
    ages = [row.line.age_s for row in rows if row.line]
    order = [State.DRIFT, State.UNKNOWN, State.STALE, State.IN_FLIGHT, State.MATCH]
    return {
        "title": "Reconciliation",
        "rows": sorted(rows, key=lambda row: (order.index(row.state), row.record.symbol)),
        "problem": problem,
        "health": _health(ages, problem=problem),
        "looked_at": facts.moment(clock.now()),
        "requests": second.waiting(),
    }


def symbol(name: str, *, again: bool, user: str, asked: forms.WriteForm | None = None) -> dict[str, Any]:
    [row], problem = _rows([name], again=again)
    asked_for = second.waiting(name)
    mark = marks.made(row.record, row.line, [each.pk for each in asked_for])
    return {
        "title": f"Reconcile {name}",
        "symbol": name,
        "row": row,
        "problem": problem,
        "health": _health([row.line.age_s] if row.line else [], problem=problem),
        "looked_at": facts.moment(clock.now()),
        "incidents": [_incident(each, mark) for each in row.record.incidents],
        "requests": [_request(each, mark, user) for each in asked_for],
        "events": [{"row": event, "at": facts.moment(event.at)} for event in _events(name)],
        "preview": _preview(asked, row) if asked else None,
        **_forms(row, problem, mark),
    }


def _preview(form: forms.WriteForm, row: Row) -> dict[str, Any]:
    """Of an amount that was typed: what would become of it. Nothing is changed yet."""
    said = form.cleaned_data
    amount = amounts.plain(said["amount"])
    again = forms.WriteForm(initial={**said, "amount": amount, "sure": True})
    for name, field in again.fields.items():
        field.widget = HiddenInput(attrs={"id": f"id_sure_{name}"})
    agrees = row.line is not None and reconcile.agrees(row.line, said["amount"])
    return {"form": again, "amount": amount, "reason": said["reason"], "agrees": agrees}


def _rows(names: Sequence[str], *, again: bool) -> tuple[list[Row], str]:
    """And what kept the exchange from being read, in words."""
    lines: dict[str, Line | None] = dict.fromkeys(names)
    problem = ""
    try:
        if again:
            problem = _reread(lines)
        if problem or not again:
            lines = reconcile.stand(command_client(), names=names)
    except RedisError:
        problem = NO_REDIS
    return [Row(record, lines[name]) for name, record in reconcile.records(names).items()], problem


def _reread(lines: dict[str, Line | None]) -> str:
    try:
        for line in reconcile.look(command_client(), names=list(lines), within_s=WITHIN_S):
            lines[line.symbol] = line
    except Unreadable as unreadable:
        return f"{unreadable}: what stands below is older."
    return ""


def _health(ages: Sequence[Decimal], *, problem: str) -> SafeString:
    """Of the feed, apart from whether the numbers agree."""
    if not ages:
        return facts.chip("no read of the exchange", tone="bad")
    oldest = max(ages, key=abs)
    if problem or abs(oldest) > settings.P33_STALE_THRESHOLD_SEC:
        return facts.chip(f"stale, oldest read {oldest:.0f} s ago", tone="bad")
    return facts.chip(f"fresh, oldest read {max(oldest, Decimal(0)):.1f} s ago", tone="good")


def _forms(row: Row, problem: str, mark: str) -> dict[str, Any]:
    """Only what could be done. Where the exchange is not known there is nothing to adopt, and nothing to compare a
    typed amount with."""
    line, hold = row.line, row.record.hold
    said = {"mark": mark}
    comparable = line is not None and not problem and row.state in (State.MATCH, State.DRIFT)
    return {
        "comparable": comparable,
        "adopt": forms.AdoptForm(initial=said)
        if comparable and line and line.ledger != line.exchange
        else None,
        "write": forms.WriteForm(initial=said) if comparable else None,
        "close": forms.CloseForm(initial=said) if comparable and line and not closing.refusal(line) else None,
        "place": forms.HoldForm(initial=said) if hold is None or hold.by == "p33" else None,
        "release": forms.ReleaseForm(initial=said) if hold else None,
    }


def _incident(incident: Incident, mark: str) -> dict[str, Any]:
    said = {"mark": mark, "incident": incident.pk}
    return {
        "row": incident,
        "opened": facts.moment(incident.opened_at),
        "exchange": amounts.plain(incident.exchange_amt),
        "ledger": "never entered" if incident.ledger_amt is None else amounts.plain(incident.ledger_amt),
        "acked_at": facts.moment(incident.acked_at) if incident.acked_at else None,
        "ack": None if incident.acked_at else forms.AckForm(initial=said, number=incident.pk),
    }


def _request(request: CorrectionRequest, mark: str, user: str) -> dict[str, Any]:
    mine = second.is_same_person(user, request.asked_by)
    said = {"mark": mark, "request": request.pk}
    return {
        "row": request,
        "asked": facts.moment(request.asked_at),
        "ends": facts.moment(request.expires_at),
        "mine": mine,
        "approve": None if mine else forms.ApproveForm(initial=said, number=request.pk),
    }


def _events(name: str) -> Sequence[AuditEvent]:
    kinds = ("ledger_", "incident_", "hold_", "correction_")
    rows = AuditEvent.objects.filter(symbol=name).order_by("-id")[: EVENTS_SHOWN * 5]
    return [event for event in rows if event.kind.startswith(kinds)][:EVENTS_SHOWN]
