"""The page Audit: how the chain stands, and every event, by what is asked for in the address."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse

from quantum import facts, lists
from quantum.chain import standing
from quantum.chain.standing import Standing
from quantum.chain.verify import Outcome
from quantum.exports import download
from quantum.exports.declared import Export
from quantum.finding import FindForm
from quantum.lists import Asked
from quantum.models import AuditEvent, SealedEvent, Verification

TONES = {Outcome.WHOLE: "good", Outcome.BROKEN: "bad", Outcome.CANNOT_TELL: "warn"}


class AuditForm(FindForm):
    kind = forms.CharField(max_length=40, required=False)
    actor = forms.CharField(label="Who", max_length=80, required=False)
    field_order = ("q", "kind", "actor", "symbol", "span", "until")


def page(request: HttpRequest, *, context: dict[str, Any]) -> HttpResponse:
    form = AuditForm(request.GET)
    said = form.said()
    asked = _asked(form)
    leaf = asked.leaf()
    places = _places(leaf.rows)
    told = {
        **context,
        **form.told(asked, leaf, [_row(event, said, places.get(event.pk)) for event in leaf.rows]),
        "exports": download.links(request, EXPORT, said),
        "title": "Audit",
        "empty_says": "Nothing has happened yet. Each fact and each act of a person appears here: who, when, why.",
        "chain": _chain(standing.now()),
    }
    return TemplateResponse(request, "quantum/audit.html", told)


def _asked(form: AuditForm) -> Asked[AuditEvent]:
    def found(said: dict[str, Any]) -> QuerySet[AuditEvent]:
        rows = AuditEvent.objects.all()
        for name in ("kind", "actor"):
            if said[name]:
                rows = rows.filter(**{name: said[name].strip()})
        return rows.filter(symbol=form.symbol_asked) if form.symbol_asked else rows

    return form.asked(AuditEvent, when="at", found=found)


def _seals(events: Sequence[AuditEvent]) -> dict[int, dict[str, Any]]:
    places = _places(events)
    return {event.pk: {"seal": places.get(event.pk)} for event in events}


EXPORT = Export(
    name="audit",
    sees="quantum.view_auditevent",
    asked=lambda said: _asked(AuditForm(said)),
    filters=tuple(AuditForm.base_fields),
    columns=("id", "at", "kind", "plan_id", "symbol", "actor", "reason", "seal", "data"),
    beside=_seals,
)


def _places(events: Sequence[AuditEvent]) -> dict[int, int]:
    found = SealedEvent.objects.filter(event_id__in=[event.pk for event in events])
    return dict(found.values_list("event_id", "seal"))


def _row(event: AuditEvent, said: dict[str, object], seal: int | None) -> dict[str, Any]:
    return {
        "event": event,
        "at": facts.moment(event.at),
        "age": facts.age(event.at),
        "address": reverse("admin:quantum_auditevent_change", args=[event.pk]),
        "plan": facts.plan_link(event.plan_id),
        "of_kind": lists.address(said, kind=event.kind),
        "of_actor": lists.address(said, actor=event.actor),
        "of_symbol": lists.address({**said, "q": ""}, symbol=event.symbol),
        "seal": seal if seal is not None else facts.NOTHING,
    }


def _chain(found: Standing) -> dict[str, Any]:
    return {
        "seal": found.seal,
        "sealed_at": facts.moment(found.sealed_at) if found.sealed_at else "",
        "sealed_age": facts.age(found.sealed_at) if found.sealed_at else "",
        "unsealed": found.tail.count,
        "unsealed_more": found.tail.count > standing.COUNTED_MOST,
        "oldest": facts.age(found.tail.oldest_at) if found.tail.oldest_at else "",
        "behind": found.tail.behind,
        **_verified(found.verified),
    }


def _verified(found: Verification | None) -> dict[str, Any]:
    if found is None:
        return {"verified": None}
    outcome = Outcome(found.outcome)
    return {
        "verified": found,
        "outcome": facts.chip(outcome, tone=TONES[outcome]),
        "broken": outcome is Outcome.BROKEN,
        "verified_at": facts.moment(found.at),
        "verified_age": facts.age(found.at),
    }
