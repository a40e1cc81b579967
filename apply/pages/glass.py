"""The break-glass page: looking is a GET and signs nothing; each act is a POST of whoever may break it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from django import forms as django_forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache

from apply.models import BreakGlass
from apply.operators import break_glass, decided, preview, preview_story
from apply.operators.break_glass import Answer, CannotBreak
from apply.operators.preview import Preview
from apply.pages import glass_forms as forms
from apply.pages.views import standing
from positions.reconcile.reconcile import Unreadable
from quantum import amounts, facts, people
from quantum.facts import plan_url
from quantum.redis import RedisError, command_client

PERMISSION = "apply.break_glass"
WITHIN_S = 4.0
OUTCOME_S = 3.0
STALE = "Nothing was signed: this page is too old, or not of this account and mode. Look again, then decide."
NO_REDIS = "Redis gave no answer. No plan was made; a permit laid by now ends by itself."
NO_DATABASE = "The database refuses. Look at the plans of this symbol before you ask again."

F = TypeVar("F", bound=django_forms.Form)


@never_cache
def page(request: HttpRequest, *, context: dict[str, Any]) -> HttpResponse:
    _may(request)
    asked = forms.LookForm(request.GET if "symbol" in request.GET else None)
    shown, problem = _look(asked) if asked.is_bound else (None, "")
    user = request.user.get_username()
    return TemplateResponse(
        request,
        "apply/break_glass.html",
        {
            **context,
            "title": "Break glass",
            "asked": asked,
            "problem": problem,
            "requests": [_request(row, user) for row in break_glass.waiting()],
            **(_shown(shown) if shown else {}),
        },
    )


@never_cache
def act(request: HttpRequest) -> HttpResponse:
    def break_it(form: forms.ActForm, by: str) -> Answer:
        mark = forms.read(form.cleaned_data["mark"])
        if mark is None:
            raise CannotBreak(STALE)
        said = {"by": by, "reason": form.cleaned_data["reason"], "confirm": form.cleaned_data["confirm"]}
        return break_glass.act(command_client(), mark.wanted, stood=mark.stood, within_s=WITHIN_S, **said)

    return _post(request, forms.ActForm, break_it)


@never_cache
def approve(request: HttpRequest, number: int) -> HttpResponse:
    def say_yes(form: forms.ApproveForm, by: str) -> Answer:
        reason = form.cleaned_data["reason"]
        return break_glass.approve(
            command_client(), request_id=number, by=by, reason=reason, within_s=WITHIN_S
        )

    return _post(request, forms.ApproveForm, say_yes)


@never_cache
def refuse(request: HttpRequest, number: int) -> HttpResponse:
    def say_no(form: forms.RefuseForm, by: str) -> Answer:
        break_glass.refuse(request_id=number, by=by, reason=form.cleaned_data["reason"])
        return Answer()

    return _post(request, forms.RefuseForm, say_no)


def _post(request: HttpRequest, kind: type[F], do: Callable[[F, str], Answer]) -> HttpResponse:
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    _may(request)
    form = kind(request.POST)
    try:
        if not form.is_valid():
            raise CannotBreak(f"Nothing was signed. {_problems(form)}")
        answer = do(form, request.user.get_username()[:60])
        return _told(request, answer)
    except (CannotBreak, OverflowError) as refused:
        said = str(refused)
    except Unreadable as unreadable:
        said = f"{unreadable}. Nothing was signed: unknown is not flat."
    except RedisError:
        said = NO_REDIS
    except DatabaseError:
        said = NO_DATABASE
    messages.error(request, said)
    return HttpResponseRedirect(reverse("admin:apply_break_glass"))


def _told(request: HttpRequest, answer: Answer) -> HttpResponse:
    plan_id = answer.before.plan_id if answer.before else answer.plan_id
    if not plan_id:
        row = answer.request
        asked = f"request {row.pk} waits for another person than {row.asked_by}." if row else "it is refused."
        messages.success(request, f"Nothing was signed: {asked}")
        return HttpResponseRedirect(reverse("admin:apply_break_glass"))
    plan = decided.ended(plan_id, within_s=OUTCOME_S)
    before = "This exit was decided already; no second order is made. " if answer.before else ""
    level = messages.SUCCESS if plan.state in decided.CLOSED_SOMETHING else messages.WARNING
    messages.add_message(request, level, f"{before}{decided.told(plan)}")
    sees = request.user.has_perm("apply.view_plan")
    return HttpResponseRedirect(plan_url(plan_id) if sees else reverse("admin:apply_break_glass"))


def _look(asked: forms.LookForm) -> tuple[Preview | None, str]:
    if not asked.is_valid():
        return None, f"Nothing is shown. {_problems(asked)}"
    try:
        return preview.look(command_client(), asked.wanted, within_s=WITHIN_S), ""
    except Unreadable as unreadable:
        return None, f"{unreadable}. Unknown is not flat: nothing can be signed until it is read."
    except RedisError:
        return None, "Redis gave no answer: what the exchange holds is not known."


def _shown(shown: Preview) -> dict[str, Any]:
    free = not shown.decided and not shown.refusal
    form = forms.ActForm(initial={"mark": forms.made(shown)}, alone=not shown.second_person)
    return {
        "shown": shown,
        "rows": preview_story.rows(shown),
        "exchange": amounts.plain(shown.line.exchange),
        "after": amounts.plain(shown.after),
        "most": amounts.plain(shown.quantity),
        "before": shown.decided,
        "before_standing": standing(shown.decided) if shown.decided else "",
        "form": form if free else None,
    }


def _request(row: BreakGlass, user: str) -> dict[str, Any]:
    mine = people.is_same_person(user, row.asked_by)
    return {
        "row": row,
        "most": amounts.plain(row.quantity),
        "gate": "both" if "+" in row.gates else row.gates,
        "exchange": row.stands_on.get("exchange", ""),
        "asked": facts.moment(row.asked_at),
        "ends": facts.moment(row.expires_at),
        "mine": mine,
        "approve": None if mine else forms.ApproveForm(number=row.pk),
        "refuse": forms.RefuseForm(number=row.pk),
    }


def _may(request: HttpRequest) -> None:
    if not request.user.has_perm(PERMISSION):
        raise PermissionDenied


def _problems(form: django_forms.Form) -> str:
    return " ".join(f"{name}: {' '.join(map(str, errors))}" for name, errors in form.errors.items())
