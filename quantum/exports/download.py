"""Exports by address: /admin/exports/<list>.<format>?<what the list's page is asked>."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse

from quantum import clock, lists, pages
from quantum.exports.declared import Export, NotAsked
from quantum.exports.formats import FORMATS
from quantum.exports.running import Running
from quantum.log import log

AT_ONCE = 2
"""Of the web server's four threads: whoever is on call finds one free."""
LIMIT_S = 600
STALL_S = 30
"""How long one piece may take to be read: without it a reader that stops keeps its thread for good."""


def pages_of(export: Export) -> list[pages.Page]:
    return [
        pages.Page(
            name=_name(export, kind),
            path=f"exports/{export.name}.{kind}",
            view=partial(download, export=export, kind=kind),
            needs=export.needs,
        )
        for kind in FORMATS
    ]


def _name(export: Export, kind: str) -> str:
    return f"export_{export.name}_{kind}"


def links(request: HttpRequest, export: Export, said: Mapping[str, object]) -> list[tuple[str, str]]:
    """For quantum/exports.html: words and address, with the filters of the page; none for whoever may not."""
    if not request.user.has_perms(export.needs):
        return []
    asked = lists.address(dict(said)) if said else ""
    return [(kind.upper(), f"{reverse(f'admin:{_name(export, kind)}')}{asked}") for kind in FORMATS]


# ---- whose turn it is


class Turns:
    """Exports of this process that run now; each holds a thread of the web server until its reader has it all."""

    def __init__(self) -> None:
        self._whose: dict[str, float] = {}
        self._looking = threading.Lock()

    def take(self, who: str) -> str:
        """Why not; empty: it was taken. One that nobody gave back is over by itself: none may last so long."""
        now_s = clock.boot_s()
        with self._looking:
            for other, since_s in list(self._whose.items()):
                if now_s - since_s > LIMIT_S + 2 * STALL_S:
                    del self._whose[other]
            if who in self._whose:
                return "An export of yours is running. One at a time: let it end, or stop it."
            if len(self._whose) >= AT_ONCE:
                return (
                    f"{AT_ONCE} exports are running, which is as many as there may be. Try again in a minute."
                )
            self._whose[who] = now_s
            return ""

    def give_back(self, who: str) -> None:
        with self._looking:
            self._whose.pop(who, None)


TURNS = Turns()


# ---- the answer


def download(request: HttpRequest, *, context: dict[str, Any], export: Export, kind: str) -> HttpResponseBase:
    who = request.user.get_username()
    try:
        asked = export.of(request.GET)
    except NotAsked as why:
        return _refused(request, context, str(why), status=400)
    if request.method == "HEAD":  # nobody would read it, and nobody would close it
        return HttpResponse(headers=_headers(export, kind))
    if why_not := TURNS.take(who):
        return _refused(request, context, why_not, status=429)
    with ExitStack() as held:
        held.callback(freed := partial(_freed, request, who))
        _mind_stalling(request)
        try:
            running = Running(export, asked, kind=kind, by=who[:80], limit_s=LIMIT_S, freed=freed)
        except DatabaseError as failure:
            log.failure("[EXPORT] not begun", failure, by=who)
            return _refused(request, context, "The database does not take the record of it.", status=503)
        held.pop_all()
    return StreamingHttpResponse(running, headers=_headers(export, kind))


def _headers(export: Export, kind: str) -> dict[str, str]:
    name = f"{export.name}-{clock.now():%Y%m%dT%H%M%SZ}.{kind}"
    return {
        "Content-Type": FORMATS[kind].media,
        "Content-Disposition": f'attachment; filename="{name}"',
        "X-Content-Type-Options": "nosniff",
    }


def _refused(request: HttpRequest, context: dict[str, Any], why: str, *, status: int) -> HttpResponse:
    told = {**context, "title": "No export", "why": why}
    return TemplateResponse(request, "quantum/no_export.html", told, status=status)


def _mind_stalling(request: HttpRequest) -> None:
    if line := request.META.get("gunicorn.socket"):
        line.settimeout(STALL_S)


def _freed(request: HttpRequest, who: str) -> None:
    TURNS.give_back(who)
    if line := request.META.get("gunicorn.socket"):
        line.settimeout(None)  # the next request on it may wait for its reader as always
