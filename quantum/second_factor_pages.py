"""Pages of the second factor: each person's own, and the reset of another's by whoever may change people.

A secret and recovery codes stand only in the answer to a POST: no address shows them again.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.core import signing
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse

from quantum import facts, second_factor
from quantum.models import SecondFactor
from quantum.pages import Page
from quantum.second_factor import OWN
from quantum.second_factor_forms import CodeForm, OffForm, PasswordForm, ResetForm

MAY_RESET = ("auth.change_user", "auth.view_user")
SALT = "quantum.second_factor_pages"
MARK_LIFE_S = 900
WRONG = "Nothing was changed: the password or the code is wrong. After some wrong ones you are locked out for a while."
GONE = "Nothing was changed: what this page showed is not so any more."
NOT_THIS = "This is not the code that it should show now. Look again; the clock of the phone must be right."
NO_KEY = "SECRET_KEY is not set here: after a restart nobody could be let in with a code. Set it first."


def declared() -> list[Page]:
    base = "second-factor/"
    of_another = f"{base}of/<int:number>/"
    return [
        Page(name=OWN, path=base, view=own),
        Page(name=f"{OWN}_begin", path=f"{base}begin/", view=begin, act=True),
        Page(name=f"{OWN}_confirm", path=f"{base}confirm/", view=confirm, act=True),
        Page(name=f"{OWN}_off", path=f"{base}off/", view=off, act=True),
        Page(name=f"{OWN}_of", path=of_another, view=of, needs=MAY_RESET),
        Page(
            name=f"{OWN}_reset",
            path=f"{of_another}reset/",
            view=reset,
            needs=MAY_RESET,
            act=True,
        ),
    ]


# ---- one's own


def own(request: HttpRequest, *, context: dict[str, Any]) -> HttpResponse:
    factor = second_factor.of(_person(request))
    if factor is None:
        shown = {"begin": PasswordForm(), "no_key": "" if settings.SECRET_KEY_GIVEN else NO_KEY}
        return _shown(request, context, required=settings.WEB_TOTP_REQUIRED == "on", **shown)
    more = {"since": _since(factor), "left": factor.recovery_codes.count(), "off": OffForm()}
    return _shown(request, context, **more)


def begin(request: HttpRequest, *, context: dict[str, Any]) -> HttpResponse:
    person, form = _person(request), PasswordForm(request.POST)
    if not settings.SECRET_KEY_GIVEN or not form.is_valid() or not _is(person, request, form):
        return _back(request, WRONG if settings.SECRET_KEY_GIVEN else NO_KEY)
    offer = second_factor.offer(person)
    return _shown(request, context, offer=offer, confirm=CodeForm()) if offer else _back(request, GONE)


def confirm(request: HttpRequest, *, context: dict[str, Any]) -> HttpResponse:
    person, form = _person(request), CodeForm(request.POST)
    codes = second_factor.confirm(person, form.cleaned_data["token"]) if form.is_valid() else None
    if codes is None:
        if not second_factor.is_offered(person):
            return _back(request, GONE)
        return _shown(request, context, confirm=CodeForm(), why=NOT_THIS)
    request.session.cycle_key()
    second_factor.end_sessions(person, but=request.session.session_key)
    return _shown(request, context, codes=codes)


def off(request: HttpRequest, **_: object) -> HttpResponse:
    person, form = _person(request), OffForm(request.POST)
    if not form.is_valid() or not _is(person, request, form) or not second_factor.turn_off(person):
        return _back(request, WRONG)
    request.session.cycle_key()
    second_factor.end_sessions(person, but=request.session.session_key)
    messages.success(request, "Your second factor is off: the password alone lets you in.")
    return HttpResponseRedirect(reverse(f"admin:{OWN}"))


def _person(request: HttpRequest) -> User:
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user


def _is(person: User, request: HttpRequest, form: PasswordForm) -> bool:
    """Asked like a login, and counted like one where it is wrong."""
    said = form.cleaned_data
    found = authenticate(
        request, username=person.get_username(), password=said["password"], token=said.get("token", "")
    )
    return found is not None and found.pk == person.pk


def _shown(request: HttpRequest, context: dict[str, Any], **more: Any) -> HttpResponse:
    shown = {**context, "title": "Second factor", **more}
    return TemplateResponse(request, "quantum/second_factor.html", shown)


def _back(request: HttpRequest, why: str) -> HttpResponse:
    messages.error(request, why)
    return HttpResponseRedirect(reverse(f"admin:{OWN}"))


def _since(factor: SecondFactor) -> str:
    return facts.moment(factor.confirmed_at) if factor.confirmed_at else facts.NOTHING


# ---- another's


def of(request: HttpRequest, *, context: dict[str, Any], number: int) -> HttpResponse:
    person = _another(request, number)
    factor = second_factor.of(person)
    form = ResetForm(initial={"mark": _mark(factor)}) if factor and person != request.user else None
    more = {
        "title": f"Second factor of {person.get_username()}",
        "person": person,
        "since": _since(factor) if factor else "",
        "mine": person == request.user,
        "form": form,
    }
    return TemplateResponse(request, "quantum/second_factor_of.html", {**context, **more})


def reset(request: HttpRequest, *, number: int, **_: object) -> HttpResponse:
    person, form = _another(request, number), ResetForm(request.POST)
    factor = second_factor.of(person)
    if person == request.user:
        raise PermissionDenied("Your own is turned off with a code.")
    if not form.is_valid():
        messages.error(request, f"Nothing was changed. {form.problems}")
        return HttpResponseRedirect(reverse(f"admin:{OWN}_of", args=[number]))
    by, reason = request.user.get_username()[:80], form.cleaned_data["reason"]
    if factor is None or _seen(form.cleaned_data["mark"]) != _stands_on(factor):
        messages.error(request, GONE)
    elif second_factor.reset(person, by=by, reason=reason, seen=factor):
        messages.success(
            request, f"The second factor of {person.get_username()} is off, and its logins ended."
        )
    return HttpResponseRedirect(reverse(f"admin:{OWN}_of", args=[number]))


def _another(request: HttpRequest, number: int) -> User:
    """A superuser's is a superuser's to reset, as everything of him."""
    person = get_object_or_404(User, pk=number)
    if person.is_superuser and not (request.user.is_active and request.user.is_superuser):
        raise PermissionDenied
    return person


def _stands_on(factor: SecondFactor) -> list[Any]:
    return [settings.ACCOUNT, settings.APPLY_MODE, factor.user.pk, factor.pk]


def _mark(factor: SecondFactor) -> str:
    return signing.dumps(_stands_on(factor), salt=SALT)


def _seen(mark: str) -> Any:
    try:
        return signing.loads(mark, salt=SALT, max_age=MARK_LIFE_S)
    except signing.BadSignature:
        return None
