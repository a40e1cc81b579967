"""Trying a plan again from its page: plan_retry's own function, with a reason, bound to what the page showed."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.contrib import messages
from django.db import Error as DatabaseError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect

from apply.models import Plan
from apply.operators import retry
from apply.operators.retry import NotRetried
from quantum.act_form import ReasonForm
from quantum.facts import plan_url
from quantum.redis import command_client

PERMISSION = "apply.propose"
_PLAN_ID = re.compile(r"[0-9a-f]{16}")
NO_DATABASE = "The database refuses. Look at the plans of this symbol before you ask again."
CHANGED = (
    "Nothing was done: there is a newer plan of this symbol than this page showed. Look at it, then decide."
)


class RetryForm(ReasonForm):
    """`newest` is the newest plan of the symbol that the page showed, so that nobody goes past one he never saw."""

    name = "retry"
    typed_in_live = True
    newest = forms.CharField(widget=forms.HiddenInput, max_length=16, required=False)


def form_for(plan: Plan) -> tuple[RetryForm, Plan | None]:
    newer = retry.newer(plan)
    return RetryForm(initial={"newest": newer.plan_id if newer else ""}), newer


def act(request: HttpRequest, plan_id: str, *, context: dict[str, Any]) -> HttpResponse:  # noqa: ARG001  a page's
    plan = Plan.objects.filter(plan_id=plan_id).first() if _PLAN_ID.fullmatch(plan_id) else None
    if plan is None:
        raise Http404("no such plan")
    form = RetryForm(request.POST)
    by = request.user.get_username()[:60]
    try:
        made = _retried(plan, form, by=by)
    except NotRetried as refused:
        said = str(refused)
    except DatabaseError:
        said = NO_DATABASE
    else:
        messages.success(
            request, f"Tried again: this is attempt {plan.attempt + 1}, which needs both permits anew."
        )
        return HttpResponseRedirect(plan_url(made))
    messages.error(
        request, said if said.startswith(("Nothing", "The database")) else f"Nothing was done: {said}"
    )
    return HttpResponseRedirect(plan_url(plan_id))


def _retried(plan: Plan, form: RetryForm, *, by: str) -> str:
    if not form.is_valid():
        raise NotRetried(form.problems)
    newer = retry.newer(plan)
    if (newer.plan_id if newer else "") != form.cleaned_data["newest"]:
        raise NotRetried(CHANGED)
    return retry.retry(command_client(), plan, by=by, reason=form.cleaned_data["reason"]).plan_id
