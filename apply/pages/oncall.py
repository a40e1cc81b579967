"""On call: one column for a phone. What is in the way stands first; each act has a page of its own that shows
before -> after, and works without a script."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import reverse

from apply.glance import glance, hour
from apply.glance.glance import Glance, Trouble
from apply.pages import home, oncall_acts
from apply.pages.oncall_acts import ACTS, Gone
from permits.state.trading import Scope, State
from quantum import advice, facts, live
from quantum.pages import Page

CAUSES_SHOWN = 3
SHAPES = tuple(dict.fromkeys([*home.SHAPES, *(name for act in ACTS.values() for name in act.needs)]))
"""Permissions that shape the part, as home's."""


def declared() -> list[Page]:
    own = [
        Page(
            name="apply_oncall", words="On call", place=60, key="c", path="oncall/", view=page,
            needs=("permits.view_tradingstate",),
        ),
        Page(
            name="apply_oncall_part", path="oncall/part/", view=part, needs=("permits.view_tradingstate",)
        ),
    ]  # fmt: skip
    for name, act in ACTS.items():
        path = f"oncall/{name}/{act.about}"
        own += [
            Page(name=f"apply_oncall_{name}", path=path, view=partial(preview, name), needs=act.needs),
            Page(
                name=f"apply_oncall_{name}_act", path=f"{path}act/", view=partial(do, name), needs=act.needs, act=True
            ),
        ]  # fmt: skip
    return own


# ---- what is in the way


def page(request: HttpRequest, *, context: dict[str, Any]) -> HttpResponse:
    """Looked at anew, not shared: whoever has just acted must not be shown how it was a second before."""
    shown = {**context, "title": "On call", "part": _written(_may(request))}
    return TemplateResponse(request, "apply/oncall.html", shown)


def part(request: HttpRequest, **_: object) -> HttpResponse:
    may = _may(request)
    shape = "".join("1" if allowed else "0" for allowed in may.values())
    return live.answer(live.shared(f"oncall:{shape}", lambda: _written(may)))


def _may(request: HttpRequest) -> dict[str, bool]:
    return {name: request.user.has_perm(name) for name in SHAPES}


def _written(may: dict[str, bool]) -> str:
    return render_to_string("apply/oncall_part.html", _shown(glance.look(of_the_hour=hour.kept()), may))


def _shown(found: Glance, may: dict[str, bool]) -> dict[str, Any]:
    troubles = [each for each in found.troubles if may.get(each.needs, not each.needs)]
    row = found.state
    halted = row is not None and row.state == State.HALTED
    halts = [
        scope
        for scope in ([Scope.EVERYTHING] if halted else [Scope.EVERYTHING, Scope.AUTOMATIC])
        if row is None or oncall_acts.adds(row, scope)
    ]
    return {
        "may": {name.partition(".")[2]: allowed for name, allowed in may.items()},
        "flows": found.flows,
        "verdict": found.verdict,
        "troubles": [_trouble(each, may) for each in troubles],
        "hidden": len(found.troubles) - len(troubles),
        "state": row,
        "active": found.active,
        "state_age": facts.age(row.since) if row else "",
        "halts": [(f"Halt {scope.label.lower()}", _address("halt", scope.value)) for scope in halts]
        if _allowed("halt", may)
        else [],
        "causes": [
            {"n": n, "cause": cause, "advice": advice.of(cause)}
            for cause, n in found.hour.causes[:CAUSES_SHOWN]
        ],
        "at": facts.moment(found.at),
    }


WORDS = {"resume": "Resume", "lift": "Lift the hold", "ack": "Take the incident"}


def _trouble(each: Trouble, may: dict[str, bool]) -> dict[str, Any]:
    act, *number = each.act or ("",)
    return {
        "row": each,
        "chip": facts.chip("stops exits" if each.stops else "look", tone="bad" if each.stops else "warn"),
        "look": home.where(each),
        "act": _address(act, *number) if act and _allowed(act, may) else "",
        "words": WORDS.get(act, ""),
    }


def _allowed(act: str, may: dict[str, bool]) -> bool:
    return all(may[name] for name in ACTS[act].needs)


def _address(act: str, *about: object, does: bool = False) -> str:
    return reverse(f"admin:apply_oncall_{act}{'_act' if does else ''}", args=about)


# ---- one act


def preview(name: str, request: HttpRequest, *, context: dict[str, Any], **named: Any) -> HttpResponse:
    about = [str(value) for value in named.values()]
    try:
        shown = ACTS[name].show("".join(about), _who(request))
    except Gone as gone:
        messages.info(request, f"Nothing to do: {gone}.")
        return HttpResponseRedirect(reverse("admin:apply_oncall"))
    if shown is None:
        raise Http404("nothing to act on here")
    form = oncall_acts.form_of(name, "".join(about), shown)
    more = {"title": shown.title, "shown": shown, "form": form, "does": _address(name, *about, does=True)}
    return TemplateResponse(request, "apply/oncall_act.html", {**context, **more})


def do(name: str, request: HttpRequest, *, context: object, **named: Any) -> HttpResponse:  # noqa: ARG001
    about = [str(value) for value in named.values()]
    answer = oncall_acts.act(name, "".join(about), sent=request.POST, by=_who(request))
    messages.add_message(request, messages.SUCCESS if answer.done else messages.ERROR, answer.text)
    return HttpResponseRedirect(_address(name, *about) if answer.again else reverse("admin:apply_oncall"))


def _who(request: HttpRequest) -> str:
    return request.user.get_username()[:60]
