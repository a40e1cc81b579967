"""What the reconciliation pages show, worked out here so that the templates only lay it out."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from django.forms import HiddenInput
from django.template.loader import render_to_string
from django.utils.http import urlencode

from positions.models import CorrectionRequest, Incident
from positions.pages import forms, marks, sides
from positions.pages.acts import WITHIN_S
from positions.pages.sides import Row
from positions.reconcile import closing, reconcile, second
from positions.reconcile.reconcile import State, Unreadable
from quantum import amounts, clock, facts, live, people
from quantum.live import Part
from quantum.models import AuditEvent
from quantum.redis import RedisError, command_client

EVENTS_SHOWN = 20
ENDED_SHOWN = 8


def overview(*, again: bool) -> dict[str, Any]:
    problem = _read_again(sorted(reconcile.symbols())) if again else ""
    return {
        "title": "Reconciliation",
        "problem": problem,
        "part": overview_part(shared=not again),
        "ended": [
            _ended(each) for each in Incident.objects.filter(state=Incident.State.RESOLVED)[:ENDED_SHOWN]
        ],
    }


def overview_part(*, shared: bool = True) -> Part:
    """shared False: for whoever has just let the exchange be read again, and wants to see that."""
    return live.shared("reconcile", _overview) if shared else Part(_overview(), 0)


def _overview() -> str:
    rows, problem = sides.rows(sorted(reconcile.symbols()))
    order = sides.WORST_FIRST
    shown = {
        "rows": sorted(rows, key=lambda row: (order.index(row.state), row.record.symbol)),
        "problem": problem,
        "feed": sides.feed(rows, problem=problem),
        "requests": [_waits(each) for each in second.waiting()],
        "at": facts.moment(clock.now()),
    }
    return render_to_string("positions/overview.html", shown)


def symbol(name: str, *, again: bool, user: str, asked: forms.WriteForm | None = None) -> dict[str, Any]:
    problem = _read_again([name]) if again else ""
    [row], unread = sides.rows([name])
    problem = problem or unread
    asked_for = second.waiting(name)
    mark = marks.made(row.record, row.line, [each.pk for each in asked_for])
    return {
        "title": f"Reconcile {name}",
        "symbol": name,
        "row": row,
        "stands": urlencode(row.stands),
        "problem": problem,
        "part": Part(_sides(row, problem, changed=False), 0),
        "looked_at": facts.moment(clock.now()),
        "incidents": [_incident(each, mark) for each in row.record.incidents],
        "requests": [_request(each, mark, user) for each in asked_for],
        "events": [{"row": event, "at": facts.moment(event.at)} for event in _events(name)],
        "preview": _preview(asked, row) if asked else None,
        **_forms(row, problem, mark),
    }


def symbol_part(name: str, *, stands: dict[str, str]) -> Part:
    """stands: what the page below it showed when it was made. Once that is not so any more, this says it."""

    def make() -> str:
        [row], problem = sides.rows([name])
        return _sides(row, problem, changed=row.line is not None and row.stands != stands)

    told = ":".join(value.encode().hex() for value in stands.values())
    return live.shared(f"sides:{name}:{told}", make)


def _sides(row: Row, problem: str, *, changed: bool) -> str:
    shown = {"row": row, "problem": problem, "changed": changed, "symbol": row.record.symbol}
    return render_to_string("positions/sides.html", shown)


def _preview(form: forms.WriteForm, row: Row) -> dict[str, Any]:
    """Of an amount that was typed: what would become of it. Nothing is changed yet."""
    said = form.cleaned_data
    amount = amounts.plain(said["amount"])
    again = forms.WriteForm(initial={**said, "amount": amount, "sure": True})
    for name, field in again.fields.items():
        field.widget = HiddenInput(attrs={"id": f"id_sure_{name}"})
    agrees = row.line is not None and reconcile.agrees(row.line, said["amount"])
    return {"form": again, "amount": amount, "reason": said["reason"], "agrees": agrees}


def _read_again(names: Sequence[str]) -> str:
    """p33 reads, and its snapshots are what is shown. What kept it from that, in words; empty: it is read."""
    try:
        reconcile.look(command_client(), names=names, within_s=WITHIN_S)
    except Unreadable as unreadable:
        return f"{unreadable}: what stands below is older."
    except RedisError:
        return sides.NO_REDIS
    return ""


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
        "fills": [{**fill, "at": _moment(fill.get("at", ""))} for fill in incident.evidence],
        "exchange": amounts.plain(incident.exchange_amt),
        "ledger": "never entered" if incident.ledger_amt is None else amounts.plain(incident.ledger_amt),
        "acked_at": facts.moment(incident.acked_at) if incident.acked_at else None,
        "ack": None if incident.acked_at else forms.AckForm(initial=said, number=incident.pk),
    }


def _moment(written: str) -> object:
    """A time of the evidence, which is kept as text."""
    try:
        return facts.moment(dt.datetime.fromisoformat(written))
    except ValueError:
        return written or facts.NOTHING


def _ended(incident: Incident) -> dict[str, Any]:
    return {
        "row": incident,
        "at": facts.moment(incident.resolved_at) if incident.resolved_at else facts.NOTHING,
    }


def _waits(request: CorrectionRequest) -> dict[str, Any]:
    left_s = max(0.0, (request.expires_at - clock.now()).total_seconds())
    return {"row": request, "age": facts.age(request.asked_at), "left": f"{left_s / 60:.0f} min"}


def _request(request: CorrectionRequest, mark: str, user: str) -> dict[str, Any]:
    mine = people.is_same_person(user, request.asked_by)
    said = {"mark": mark, "request": request.pk}
    return {
        "row": request,
        "asked": facts.moment(request.asked_at),
        "ends": facts.moment(request.expires_at),
        "mine": mine,
        "approve": None if mine else forms.ApproveForm(initial=said, number=request.pk),
    }


def _events(name: str) -> Sequence[AuditEvent]:
    """Of the symbol and of no plan: those of plans stand on their own pages."""
    kinds = ("ledger_", "incident_", "hold_", "correction_")
    rows = AuditEvent.objects.filter(symbol=name, plan_id="").order_by("-id")[: EVENTS_SHOWN * 5]
    return [event for event in rows if event.kind.startswith(kinds)][:EVENTS_SHOWN]
