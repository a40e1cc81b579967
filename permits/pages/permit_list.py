"""The list of permits: what may be spent now, what waits for a person, and every permit there was."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from django import forms
from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse

from permits.desk import records
from permits.desk.peek import ttls
from permits.models import Approval, Permit
from permits.pages import pages, policy_pages
from permits.pages.story import GATES
from quantum import clock, facts, lists, live
from quantum.exports import download
from quantum.exports.declared import Export
from quantum.finding import FindForm
from quantum.lists import Asked
from quantum.live import Part
from quantum.reasons import BrainReason, GovernorReason
from quantum.redis import RedisError, command_client

LIVE_MOST = 40
"""Permits that may be spent now and are shown; a house that exits more than that at once looks at the history."""
WAITING_MOST = 20
SHORT = {"governor": "Governor", "p33": "P3.3"}
REASONS = sorted({str(each) for kind in (BrainReason, GovernorReason) for each in kind})


class PermitsForm(FindForm):
    gate = forms.ChoiceField(choices=[("", "both"), *SHORT.items()], required=False)
    answer = forms.ChoiceField(
        choices=[("", "any"), ("granted", "granted"), ("denied", "denied")], required=False
    )
    fate = forms.ChoiceField(choices=[("", "any"), *Permit.Fate.choices], required=False)
    reason = forms.ChoiceField(choices=[("", "any"), *((each, each) for each in REASONS)], required=False)
    field_order = ("q", "gate", "answer", "reason", "fate", "symbol", "span", "until")


def page(request: HttpRequest, *, context: dict[str, Any]) -> HttpResponse:
    form = PermitsForm(request.GET)
    said = form.said()
    asked = _asked(form)
    leaf, now = asked.leaf(), clock.now()
    told = {
        **form.told(asked, leaf, [_row(permit, said, now=now) for permit in leaf.rows]),
        "exports": download.links(request, EXPORT, said),
        "part": part(),
        "waiting": _waiting(now) if request.user.has_perm("permits.view_approval") else [],
    }
    return TemplateResponse(request, "permits/permit_list.html", {**context, **told})


def _asked(form: PermitsForm) -> Asked[Permit]:
    def found(said: dict[str, Any]) -> QuerySet[Permit]:
        rows = Permit.objects.all()
        for name in ("gate", "reason", "fate"):
            if said[name]:
                rows = rows.filter(**{name: said[name]})
        if said["answer"]:
            rows = rows.filter(verdict=said["answer"] == "granted")
        return rows.filter(symbol=form.symbol_asked) if form.symbol_asked else rows

    return form.asked(Permit, when="issued_at", found=found)


def _fates(permits: Sequence[Permit]) -> dict[int, dict[str, Any]]:
    now = clock.now()
    return {permit.pk: {"fate": records.fate_at(permit, now=now)} for permit in permits}


EXPORT = Export(
    name="permits",
    sees="permits.view_permit",
    asked=lambda said: _asked(PermitsForm(said)),
    filters=tuple(PermitsForm.base_fields),
    columns=(
        "id", "plan_id", "issued_at", "gate", "verdict", "reason", "symbol", "quantity", "fate", "fate_at", "fate_by",
        "fate_reason", "issuer", "expires_at", "recorded_at", "digest", "mode", "account",
    ),
    beside=_fates,
)  # fmt: skip


def _row(permit: Permit, said: dict[str, object], *, now: dt.datetime) -> dict[str, Any]:
    return {
        "permit": permit,
        "at": facts.moment(permit.issued_at),
        "age": facts.age(permit.issued_at),
        "plan": facts.plan_link(permit.plan_id),
        "gate": SHORT.get(permit.gate, permit.gate),
        "answer": pages.answer(permit.verdict),
        "quantity": facts.plain(permit.quantity) if permit.quantity is not None else facts.NOTHING,
        "fate": pages.fate_chip(records.fate_at(permit, now=now)),
        "same": lists.address(said, reason=permit.reason) if permit.reason in REASONS else "",
        "of_symbol": lists.address({**said, "q": ""}, symbol=permit.symbol),
    }


# ---- what may be spent now


def part() -> Part:
    """Whoever may open the page may see all of it."""
    return live.shared("permits:live", _written)


def fragment(request: HttpRequest, *, context: dict[str, Any]) -> HttpResponse:  # noqa: ARG001  a page's
    return live.answer(part())


def _written() -> str:
    rows = list(_standing(clock.now()))
    try:
        left = ttls(command_client(), [(row.plan_id, row.gate) for row in rows])
    except RedisError:
        left = None
    plans: dict[str, dict[str, Any]] = {}
    for at, row in enumerate(rows):
        gates = plans.setdefault(row.plan_id, {})
        gates.setdefault(row.gate, _side(row, left[at] if left else None))
        gates["symbol"] = row.symbol
    shown = [
        {"plan_id": plan_id, "symbol": gates["symbol"], "sides": [gates.get(gate) for gate in GATES]}
        for plan_id, gates in plans.items()
    ]
    told = {"plans": shown, "known": left is not None, "at": facts.moment(clock.now()), "most": LIVE_MOST}
    return render_to_string("permits/live.html", {**told, "full": len(rows) == LIVE_MOST})


def _standing(now: dt.datetime) -> QuerySet[Permit]:
    """By the index of when they were issued: none lives longer than PERMIT_TTL_SEC."""
    young = Permit.objects.filter(issued_at__gt=now - dt.timedelta(seconds=settings.PERMIT_TTL_SEC))
    return young.filter(fate=Permit.Fate.LIVE, expires_at__gt=now).order_by("-issued_at")[:LIVE_MOST]


def _side(row: Permit, ttl_ms: int | None) -> dict[str, Any]:
    """None of it: Redis does not answer, and the row alone proves nothing."""
    stands = ttl_ms is not None and ttl_ms >= 0
    return {
        "answer": pages.answer(row.verdict) if stands else facts.chip("not in Redis", tone="calm"),
        "reason": row.reason,
        "ttl_ms": ttl_ms if stands else None,
        "ttl_text": f"{ttl_ms / 1000:.1f} s" if stands and ttl_ms is not None else "",
        "ends": facts.moment(row.expires_at),
    }


# ---- what waits for a person


def _waiting(now: dt.datetime) -> list[dict[str, Any]]:
    found = Approval.objects.filter(state=Approval.State.WAITING, expires_at__gt=now).order_by("id")
    return [
        {
            "row": row,
            "action": row.fields.get("action", ""),
            "compared": [(name, str(value)) for name, value in row.compared.items() if name != "rule"],
            "left": policy_pages.left(row),
            "asked": facts.age(row.asked_at),
        }
        for row in found[:WAITING_MOST]
    ]
