"""Proposing by hand on a page: the same way in as for every brain, by a person with a reason."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import Error as DatabaseError
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.views.decorators.cache import never_cache

from apply.proposals import proposal as proposals
from apply.proposals import taking
from apply.proposals.proposal import Refused
from apply.proposals.taking import Origin
from permits.policy import policies
from permits.policy.rules import Nonsense
from quantum import clock
from quantum.act_form import ReasonForm
from quantum.facts import plan_url
from quantum.plan import STEPS, Action
from quantum.reasons import ProposalReason
from quantum.redis import RedisError, command_client

WAY = "page"
PERMISSION = "apply.propose"


class ProposeForm(ReasonForm):
    name = "propose"
    typed_in_live = True
    once = forms.CharField(widget=forms.HiddenInput, max_length=40)
    """Of the page that was shown: sent twice, it is one proposal."""
    symbol = forms.ChoiceField()
    action = forms.ChoiceField(
        choices=[(action.value, action.value) for action in (*STEPS, Action.UPDATE_SL)]
    )
    kill_score = forms.CharField(max_length=40, initial="0.8", help_text="A plain number; it blocks nothing.")
    stop = forms.CharField(max_length=40, required=False, help_text="Of UPDATE_SL: the stop proposed.")
    field_order = ("once", "symbol", "action", "kill_score", "stop", "reason", "confirm")

    def __init__(self, *args: Any, symbols: Collection[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        symbol = self.fields["symbol"]
        if isinstance(symbol, forms.ChoiceField):
            symbol.choices = [(name, name) for name in sorted(symbols)]


@never_cache
def page(request: HttpRequest, *, context: dict[str, Any]) -> HttpResponse:
    if not request.user.has_perm(PERMISSION):
        raise PermissionDenied
    try:
        symbols = policies.copy(age_s=0).allowlist
    except Nonsense as nonsense:  # it cannot be mended here
        return TemplateResponse(request, "apply/propose.html", {**context, "unreadable": nonsense.problems})
    if request.method == "POST":
        form = ProposeForm(request.POST, symbols=symbols)
        if form.is_valid():
            return _proposed(request, form.cleaned_data)
    elif request.method in ("GET", "HEAD"):
        form = ProposeForm(symbols=symbols, initial={**_wished(request), "once": secrets.token_hex(16)})
    else:
        return HttpResponseNotAllowed(["GET", "POST"])
    return TemplateResponse(request, "apply/propose.html", {**context, "form": form})


def _wished(request: HttpRequest) -> dict[str, str]:
    """What the page that led here filled in; the form is checked as a whole when it is sent."""
    return {name: request.GET[name] for name in ("symbol", "action", "kill_score") if name in request.GET}


def _proposed(request: HttpRequest, said: dict[str, Any]) -> HttpResponse:
    try:
        address, text, done = _take(said, by=request.user.get_username())
    except (Refused, IntegrityError) as refused:
        why = refused.text if isinstance(refused, Refused) else "this page was sent already"
        address, text, done = request.path, f"Nothing was proposed: {why}.", False
    except Nonsense as nonsense:  # it was written since the form was made
        address, text, done = (
            request.path,
            f"Nothing was proposed: the policy cannot be read ({nonsense}).",
            False,
        )
    except DatabaseError:
        address, text, done = request.path, "The database refuses. Nothing was proposed.", False
    except RedisError:
        address, text, done = request.path, "Redis cannot be used. Look at the list of proposals.", False
    messages.add_message(request, messages.SUCCESS if done else messages.ERROR, text)
    return HttpResponseRedirect(address)


def _take(said: dict[str, Any], *, by: str) -> tuple[str, str, bool]:
    proposal = proposals.read(
        {
            "symbol": said["symbol"],
            "harvest_action": said["action"],
            "kill_score": said["kill_score"].strip(),
            "new_sl_proposed": said["stop"].strip(),
            "computed_at_utc": f"{clock.now_s():.3f}",
            "source": WAY,
        }
    )
    origin = Origin(
        way=WAY, actor=by, why=said["reason"], client=f"page:{by}"[:40], idempotency_key=said["once"]
    )
    taken = taking.take(command_client(), proposal, origin=origin)
    if taken.plan is None or taken.reason is not None:
        raise Refused(taken.reason or ProposalReason.MALFORMED_PROPOSAL, taken.text)
    told = "Proposed" if taken.published else "Recorded; Redis gave no answer, and the janitor publishes it"
    return plan_url(taken.plan.plan_id), f"{told}: plan {taken.plan.plan_id} needs both gates.", True
