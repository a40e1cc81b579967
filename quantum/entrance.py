"""What stands before every view: the read-only switch, headers of ours, and a record of acts that were refused."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote

from django.conf import settings
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from quantum import audit, second_factor
from quantum.log import log
from quantum.second_factor import OWN, SET_UP
from quantum.texts import storable

LOOKING = ("GET", "HEAD", "OPTIONS")
READ_ONLY_SAYS = "These pages are read-only (WEB_READ_ONLY); the command line, or other pages, can act."
NO_TEXT_SAYS = "This address holds a character that no text can hold (NUL). Type what you look for again."
SET_UP_SAYS = "Here everybody logs in with a code (WEB_TOTP_REQUIRED). Set up your second factor first."
PATH_MAX = 200


class Entrance:
    """Last before the view, so that whatever it answers still gets the headers of all the others."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        looking = request.method in LOOKING
        if not storable(unquote(request.get_full_path())):
            # PostgreSQL refuses the question itself, which would be an error page of ours
            answer = _refused(request, NO_TEXT_SAYS, status=400)
        elif settings.WEB_READ_ONLY == "on" and not looking and request.path not in _ways_in_and_out():
            answer = _refused(request, READ_ONLY_SAYS)
        elif settings.WEB_TOTP_REQUIRED == "on" and _has_to_set_up(request):
            answer = _to_set_up() if looking else _refused(request, SET_UP_SAYS)
        else:
            answer = self._get_response(request)
        if answer.status_code == 403 and not looking and request.user.is_authenticated:
            _record_refused(request)
        answer.headers.setdefault("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
        return answer


def _ways_in_and_out() -> list[str]:
    """Whoever may only look still has to log in, with a code where everybody has to."""
    ways = ("login", "logout", *(SET_UP if settings.WEB_TOTP_REQUIRED == "on" else ()))
    return [reverse(f"admin:{name}") for name in ways]


def _has_to_set_up(request: HttpRequest) -> bool:
    """Somebody who came in with the password alone, anywhere but where that is mended."""
    if not isinstance(request.user, User) or request.path in _ways_in_and_out():
        return False
    return second_factor.of(request.user) is None


def _to_set_up() -> HttpResponse:
    """To HEAD too; a part of a page that lives follows no redirect, and says that it is stale."""
    return HttpResponseRedirect(reverse(f"admin:{OWN}"))


def _refused(request: HttpRequest, why: str, *, status: int = 403) -> HttpResponse:
    shown = TemplateResponse(request, "403.html", {"title": "Refused", "exception": why}, status=status)
    return shown.render()


def _record_refused(request: HttpRequest) -> None:
    """By a person who is logged in: a stranger must not be able to fill the table."""
    who = request.user.get_username()[:80]
    log.warning("[WEB] act refused", by=who, path=request.path[:PATH_MAX])
    try:
        audit.record(kind="act_refused", actor=who, data={"path": request.path[:PATH_MAX]})
    except DatabaseError as failure:
        log.failure("[WEB] refused act not recorded", failure, by=who)


def record_locked_out(*, username: str = "", ip_address: str = "", **_: object) -> None:
    """Somebody guesses passwords. Once while it lasts: each further try would be a row."""
    who, address = (username or "nobody")[:80], (ip_address or "")[:64]
    log.warning("[WEB] login locked", username=who, address=address)
    if cache.add(f"locked:{who}:{address}", 1, timeout=int(settings.AXES_COOLOFF_TIME * 3600)):
        audit.record(kind="login_locked", actor=who, data={"address": address})
