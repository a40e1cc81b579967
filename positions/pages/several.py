"""Several symbols adopted at once, all of them or none: those that are chosen among those that were shown."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from positions.pages import acts, marks, sides
from positions.pages.acts import CHANGED, Answer
from positions.reconcile import reconcile
from positions.reconcile.reconcile import State
from quantum import clock, facts
from quantum.audit import REASON_MIN


class SeveralForm(forms.Form):
    mark = forms.CharField(widget=forms.HiddenInput, max_length=200_000)
    reason = forms.CharField(
        min_length=REASON_MIN, max_length=400, help_text=f"At least {REASON_MIN} characters; it is kept."
    )
    confirm = forms.CharField(max_length=32, help_text="Several at once: type the account's name.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        for name, field in self.fields.items():
            field.widget.attrs["id"] = f"id_several_{name}"
            field.widget.attrs["autocomplete"] = "off"

    def clean_confirm(self) -> str:
        said: str = self.cleaned_data["confirm"]
        if said != settings.ACCOUNT:
            raise forms.ValidationError("This is not the account's name.")
        return said


def page(request: HttpRequest, *, context: dict[str, Any]) -> HttpResponse:
    found, problem = sides.rows(sorted(reconcile.symbols()))
    rows = [row for row in found if row.state is State.DRIFT]
    mark = marks.of_many([row.line for row in rows if row.line])
    shown = {
        "title": "Adopt several",
        "rows": rows,
        "problem": problem,
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
    said = {"by": request.user.get_username(), "reason": form.cleaned_data["reason"]}
    return acts.adopt_all([shown[name] for name in chosen], **said)
