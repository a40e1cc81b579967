"""Proposing by hand on a page: the same way in as for every brain, by a person with a reason."""

from __future__ import annotations

import secrets
from typing import Any

from django import forms
from django.conf import settings
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
from quantum import clock
from quantum.audit import REASON_MIN
from quantum.facts import plan_url
from quantum.plan import STEPS, Action
from quantum.reasons import ProposalReason
from quantum.redis import RedisError, command_client

WAY = "page"
PERMISSION = "apply.propose"


class ProposeForm(forms.Form):
    once = forms.CharField(widget=forms.HiddenInput, max_length=40)
    """Of the page that was shown: sent twice, it is one proposal."""
    symbol = forms.ChoiceField()
    action = forms.ChoiceField(
        choices=[(action.value, action.value) for action in (*STEPS, Action.UPDATE_SL)]
    )
    kill_score = forms.CharField(max_length=40, initial="0.8", help_text="A plain number; it blocks nothing.")
    stop = forms.CharField(max_length=40, required=False, help_text="Of UPDATE_SL: the stop proposed.")
    reason = forms.CharField(
        min_length=REASON_MIN, max_length=400, help_text=f"At least {REASON_MIN} characters; it is kept."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        symbols = [(symbol, symbol) for symbol in sorted(policies.copy().allowlist)]
        self.fields["symbol"] = forms.ChoiceField(choices=symbols)
        if settings.APPLY_MODE == "live":
            self.fields["confirm"] = forms.CharField(
                max_length=32, help_text="Live: type the account's name."
            )
        self.order_fields(["once", "symbol"])
        for field in self.fields.values():
            field.widget.attrs["autocomplete"] = "off"

    def clean_confirm(self) -> str:
        said: str = self.cleaned_data["confirm"]
        if said != settings.ACCOUNT:
            raise forms.ValidationError("This is not the account's name.")
        return said


@never_cache
def page(request: HttpRequest, *, context: dict[str, Any]) -> HttpResponse:
    if not request.user.has_perm(PERMISSION):
        raise PermissionDenied
    if request.method == "POST":
        form = ProposeForm(request.POST)
        if form.is_valid():
            return _proposed(request, form.cleaned_data)
    elif request.method in ("GET", "HEAD"):
        form = ProposeForm(initial={**_wished(request), "once": secrets.token_hex(16)}, label_suffix="")
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
