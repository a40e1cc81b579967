"""Several symbols adopted at once, all of them or none: those that are chosen among those that were shown."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from positions.pages import acts, marks, sides
from positions.pages.acts import CHANGED, Answer
from positions.reconcile import reconcile
from positions.reconcile.reconcile import State
from quantum import clock, facts
from quantum.act_form import ReasonForm

MOST = 20
"""More in one act than anybody looks at one by one."""


class SeveralForm(ReasonForm):
    name = "several"
    always_typed = "Several at once: type the account's name."
    mark = forms.CharField(widget=forms.HiddenInput, max_length=200_000)


def page(request: HttpRequest, *, context: dict[str, Any]) -> HttpResponse:
    found, problem = sides.rows(sorted(reconcile.symbols()))
    rows = [row for row in found if row.state is State.DRIFT]
    mark = marks.of_many([row.line for row in rows if row.line])
    shown = {
        "title": "Adopt several",
        "rows": rows,
        "problem": problem,
        "most": MOST,
        "looked_at": facts.moment(clock.now()),
        "form": SeveralForm(initial={"mark": mark}) if rows else None,
    }
    return TemplateResponse(request, "positions/several.html", {**context, **shown})


def adopt(request: HttpRequest, **_: object) -> HttpResponse:
    answer = _adopted(request)
    messages.add_message(request, messages.SUCCESS if answer.done else messages.ERROR, answer.text)
    return HttpResponseRedirect(reverse("admin:positions_reconcile"))


def _adopted(request: HttpRequest) -> Answer:
    form, chosen = SeveralForm(request.POST), sorted(set(request.POST.getlist("symbol")))
    if not form.is_valid():
        told = " ".join(f"{name}: {' '.join(map(str, errors))}" for name, errors in form.errors.items())
        return Answer(False, f"Nothing was changed. {told}")
    shown = marks.read_many(form.cleaned_data["mark"])
    if shown is None or not set(chosen) <= set(shown):
        return Answer(False, CHANGED)
    if not chosen:
        return Answer(False, "Nothing was changed: no symbol was chosen.")
    if len(chosen) > MOST:
        return Answer(
            False,
            f"Nothing was changed: {len(chosen)} symbols were chosen, and at most {MOST} are adopted at once. "
            "Choose fewer, then the rest.",
        )
    said = {"by": request.user.get_username(), "reason": form.cleaned_data["reason"]}
    return acts.adopt_all([shown[name] for name in chosen], **said)
