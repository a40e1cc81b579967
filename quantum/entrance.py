"""What stands before every view: the read-only switch, headers of ours, and a record of acts that were refused."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.core.cache import cache
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse

from quantum import audit
from quantum.log import log

LOOKING = ("GET", "HEAD", "OPTIONS")
READ_ONLY_SAYS = "These pages are read-only (WEB_READ_ONLY); the command line, or other pages, can act."
PATH_MAX = 200


class Entrance:
    """Last before the view, so that whatever it answers still gets the headers of all the others."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        looking = request.method in LOOKING
        if settings.WEB_READ_ONLY == "on" and not looking and request.path not in _ways_in_and_out():
            answer = _read_only(request)
        else:
            answer = self._get_response(request)
        if answer.status_code == 403 and not looking and request.user.is_authenticated:
            _record_refused(request)
        answer.headers.setdefault("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
        return answer


def _ways_in_and_out() -> tuple[str, str]:
    """Whoever may only look still has to log in."""
    return reverse("admin:login"), reverse("admin:logout")


def _read_only(request: HttpRequest) -> HttpResponse:
    shown = TemplateResponse(
        request, "403.html", {"title": "Refused", "exception": READ_ONLY_SAYS}, status=403
    )
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
