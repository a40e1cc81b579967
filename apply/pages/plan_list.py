"""The list of plans: what is asked for stands in the address, and each leaf costs the same however many there are."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse

from apply.models import Plan
from apply.pages.views import standing
from apply.plans import finding
from quantum import facts, lists
from quantum.exports import download
from quantum.exports.declared import Export
from quantum.facts import plan_url
from quantum.finding import FindForm
from quantum.lists import Asked


class PlansForm(FindForm):
    state = forms.ChoiceField(
        choices=[("", "any"), *((each.value, each.value.replace("_", " ")) for each in Plan.State)],
        required=False,
    )
    reason = forms.ChoiceField(
        choices=[("", "any"), *((each, each) for each in finding.REASONS)], required=False
    )
    source = forms.CharField(max_length=80, required=False)
    field_order = ("q", "state", "symbol", "reason", "source", "span", "until")


def page(request: HttpRequest, *, context: dict[str, Any]) -> HttpResponse:
    form = PlansForm(request.GET)
    said = form.said()
    ids = lists.with_part(Plan, form.part) if form.part else None
    if ids and len(ids) == 1 and len(said) == 1:
        return HttpResponseRedirect(plan_url(ids[0]))
    asked = _asked(form)
    leaf = asked.leaf()
    told = {
        **form.told(asked, leaf, [_row(plan, said) for plan in leaf.rows]),
        "exports": download.links(request, EXPORT, said),
    }
    return TemplateResponse(request, "apply/plan_list.html", {**context, **told})


def _asked(form: PlansForm) -> Asked[Plan]:
    def found(said: dict[str, Any]) -> QuerySet[Plan]:
        return finding.of(
            symbol=form.symbol_asked, **{name: said[name] for name in ("state", "reason", "source")}
        )

    return form.asked(Plan, when="created_at", found=found)


EXPORT = Export(
    name="plans",
    sees="apply.view_plan",
    asked=lambda said: _asked(PlansForm(said)),
    filters=tuple(PlansForm.base_fields),
    columns=(
        "id", "plan_id", "created_at", "symbol", "action", "decision", "kill_score", "timestamp", "state", "error",
        "gate_reason", "wait_ms", "gov_ttl", "p33_ttl", "ended_at", "would_quantity", "source", "reason_codes",
        "parent", "attempt", "expires_at", "digest", "mode", "account",
    ),
)  # fmt: skip


def _row(plan: Plan, said: dict[str, object]) -> dict[str, Any]:
    why = plan.gate_reason or plan.error.rpartition(":")[2]
    return {
        "plan": plan,
        "at": facts.moment(plan.created_at),
        "age": facts.age(plan.created_at),
        "link": facts.plan_link(plan.plan_id),
        "standing": standing(plan),
        "why": why,
        "same": lists.address(said, reason=why) if why in finding.REASONS else "",
        "of_symbol": lists.address({**said, "q": ""}, symbol=plan.symbol),
    }
