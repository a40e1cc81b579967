"""The reconciliation pages: looking is a GET and changes nothing, each act is a POST with a permission of its own."""

from __future__ import annotations

from typing import Any

from django import forms as django_forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache

from positions.pages import acts, marks, room
from positions.pages.acts import ACTS, CHANGED, Answer
from positions.pages.forms import WriteForm
from positions.reconcile import reconcile
from quantum import live


@never_cache
def overview(request: HttpRequest, *, context: dict[str, Any]) -> HttpResponse:
    _may_look(request)
    again = request.GET.get("read") == "again"
    return TemplateResponse(request, "positions/reconcile.html", {**context, **room.overview(again=again)})


@never_cache
def symbol(
    request: HttpRequest, name: str, *, context: dict[str, Any], asked: WriteForm | None = None
) -> HttpResponse:
    _may_look(request)
    if name not in reconcile.symbols():
        raise Http404("no such symbol here")
    again = request.GET.get("read") == "again"
    shown = room.symbol(name, again=again, user=request.user.get_username(), asked=asked)
    return TemplateResponse(request, "positions/symbol.html", {**context, **shown})


def overview_part(_request: HttpRequest, **_: object) -> HttpResponse:
    return live.answer(room.overview_part())


def symbol_part(request: HttpRequest, *, symbol: str, **_: object) -> HttpResponse:
    if symbol not in reconcile.symbols():
        raise Http404("no such symbol here")
    stands = {name: request.GET.get(name, "")[:50] for name in ("exchange", "version")}
    return live.answer(room.symbol_part(symbol, stands=stands))


@never_cache
def act(request: HttpRequest, name: str, wanted: str, *, context: dict[str, Any]) -> HttpResponse:
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    found = ACTS.get(wanted)
    if found is None or name not in reconcile.symbols():
        raise Http404("no such act here")
    if not (request.user.has_perm(found.permission) and _looks(request)):
        raise PermissionDenied
    form = found.form(request.POST)
    mark = marks.read(form.cleaned_data["mark"], symbol=name) if form.is_valid() else None
    if not form.is_valid():
        answer = Answer(False, f"Nothing was changed. {_problems(form)}")
    elif mark is None:
        answer = Answer(False, CHANGED)
    elif isinstance(form, WriteForm) and not form.cleaned_data["sure"]:
        return symbol(request, name, context=context, asked=form)
    else:
        answer = acts.act(found.do, mark=mark, said=form.cleaned_data, by=request.user.get_username())
    messages.add_message(request, messages.SUCCESS if answer.done else messages.ERROR, answer.text)
    return HttpResponseRedirect(reverse("admin:positions_reconcile_symbol", args=[name]))


def _looks(request: HttpRequest) -> bool:
    return request.user.has_perm("positions.view_incident") and request.user.has_perm(
        "positions.view_balance"
    )


def _may_look(request: HttpRequest) -> None:
    if not _looks(request):
        raise PermissionDenied


def _problems(form: django_forms.Form) -> str:
    return " ".join(f"{name}: {' '.join(map(str, errors))}" for name, errors in form.errors.items())
