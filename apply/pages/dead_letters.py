"""Dead letters: which entries no consumer could handle and why, and the act that puts one back or lets it go."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.db import Error as DatabaseError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from quantum import backlog, clock, dead_letters, facts
from quantum.act_form import ReasonForm
from quantum.dead_letters import Letter, NotEnded, NotSure
from quantum.redis import RedisError, command_client

PERMISSION = "apply.propose"
"""What is put back is judged like a plan that somebody proposes."""
NO_DATABASE = "The database refuses, so nothing was changed. Ask again when it is back."
DONE = {dead_letters.BACK: "Put back as entry", dead_letters.DISCARD: "Discarded; it stands in the audit."}


class EndForm(ReasonForm):
    """`way` is which button was pressed."""

    name = "end"
    typed_in_live = True
    way = forms.ChoiceField(choices=[(way, way) for way in dead_letters.WAYS], widget=forms.HiddenInput)


def page(request: HttpRequest, *, context: dict[str, Any]) -> HttpResponse:
    try:
        with command_client() as client:
            known, number = dead_letters.newest(client), backlog.dead_letters(client)
    except RedisError:
        known, number = None, 0
    told = {
        "title": "Dead letters",
        "known": known is not None,
        "rows": [_row(letter) for letter in known or []],
        "number": number,
        "as_of": facts.moment(clock.now()),
    }
    return TemplateResponse(request, "apply/dead_letters.html", {**context, **told})


def one(request: HttpRequest, *, context: dict[str, Any], stream: str, letter_id: str) -> HttpResponse:
    letter = _found(stream, letter_id)
    told = {
        "title": f"Dead letter {letter.letter_id}",
        "letter": letter,
        "rows": [
            ("Stream", settings.KEYS.dead_letters(dead_letters.streams()[letter.stream])),
            ("Parked", facts.moment(letter.parked_at)),
            ("By the group", letter.group or facts.NOTHING),
            ("Deliveries", letter.deliveries or facts.NOTHING),
            ("Entry", letter.entry or facts.NOTHING),
            ("Published", facts.moment(letter.published_at) if letter.published_at else facts.NOTHING),
            ("What was wrong", letter.error or facts.NOTHING),
            ("Its fields, clipped", facts.payload(letter.sample)),
        ],
        "form": EndForm() if request.user.has_perm(PERMISSION) else None,
        "ttl_s": settings.APPLY_PLAN_TTL_SEC,
    }
    return TemplateResponse(request, "apply/dead_letter.html", {**context, **told})


def act(request: HttpRequest, *, stream: str, letter_id: str, **_: object) -> HttpResponse:
    letter, form = _found(stream, letter_id), EndForm(request.POST)
    if not form.is_valid():
        messages.error(request, f"Nothing was changed. {form.problems}")
        return HttpResponseRedirect(reverse("admin:apply_dead_letters_one", args=[stream, letter_id]))
    way, by = form.cleaned_data["way"], request.user.get_username()[:60]
    try:
        with command_client() as client:
            made = dead_letters.end(client, letter, way=way, by=by, reason=form.cleaned_data["reason"])
    except NotEnded as refused:
        messages.error(request, f"Nothing was changed: {refused}.")
    except NotSure as unsure:
        messages.error(request, str(unsure))
    except DatabaseError:
        messages.error(request, NO_DATABASE)
    else:
        where = f"{settings.APPLY_MODE.upper()} {settings.ACCOUNT}"
        messages.success(request, f"{where}: {DONE[way]} {made}".strip())
    return HttpResponseRedirect(reverse("admin:apply_dead_letters"))


def _found(stream: str, letter_id: str) -> Letter:
    try:
        with command_client() as client:
            letter = dead_letters.find(client, stream=stream, letter_id=letter_id)
    except RedisError:
        raise Http404("Redis does not answer") from None
    if letter is None:
        raise Http404("there is no such letter")
    return letter


def _row(letter: Letter) -> dict[str, Any]:
    return {
        "letter": letter,
        "at": facts.moment(letter.parked_at),
        "age": facts.age(letter.parked_at),
    }
