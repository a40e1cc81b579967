"""What the pages of a policy version and of an approval show; their templates only lay it out."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.safestring import SafeString

from permits.models import Approval, PolicyVersion
from permits.pages import acts
from permits.pages.acts import Answer
from permits.pages.forms import VoteForm
from permits.policy import rules
from quantum import clock, facts

State = Approval.State
TONES = {State.WAITING: "warn", State.APPROVED: "good", State.REFUSED: "bad", State.EXPIRED: "calm"}


def version(row: PolicyVersion) -> dict[str, Any]:
    before = PolicyVersion.objects.filter(version__lt=row.version).order_by("-version").first()
    newest = not PolicyVersion.objects.filter(version__gt=row.version).exists()
    changes = rules.difference(before.rules, row.rules) if before else {}
    return {
        "at": facts.moment(row.at),
        "standing": facts.chip("holds now", tone="good") if newest else facts.chip("replaced", tone="calm"),
        "before": before,
        "changes": [
            (name, rules.worded(name, old), rules.worded(name, new)) for name, (old, new) in changes.items()
        ],
        "limits": [
            (name, rules.worded(name, said)) for name, (_, said) in rules.difference({}, row.rules).items()
        ],
    }


def standing(row: Approval) -> SafeString:
    """A question past its hour is over, also before somebody looked and wrote that down."""
    state = State(row.state)
    if state == State.WAITING and row.expires_at <= clock.now():
        state = State.EXPIRED
    return facts.chip(state.value, tone=TONES[state])


def left(row: Approval) -> str:
    left_s = (row.expires_at - clock.now()).total_seconds()
    return f"{left_s / 60:.0f} min" if row.state == State.WAITING and left_s > 0 else facts.NOTHING


def approval(row: Approval) -> dict[str, Any]:
    waits = row.state == State.WAITING and row.expires_at > clock.now()
    return {
        "standing": standing(row),
        "asked": facts.plan_link(row.asked_plan_id),
        "made": facts.plan_link(row.plan_id),
        "asked_at": facts.moment(row.asked_at),
        "ends_at": facts.moment(row.decided_at or row.expires_at),
        "compared": [
            (name.replace("_", " "), str(value)) for name, value in row.compared.items() if name != "rule"
        ],
        "plan_rows": [(name, str(value)) for name, value in row.fields.items()],
        "votes": [{"row": vote, "at": facts.moment(vote.at)} for vote in row.votes.all()],
        "needed": settings.APPROVERS_REQUIRED,
        "waits": waits,
        "left": left(row),
        "confirm": settings.APPROVERS_REQUIRED == 1,
        "vote": _vote_form(initial={"seen": _seen(row), "answer": "no"}) if waits else None,
    }


def _seen(row: Approval) -> str:
    """A mark of what was shown: the question itself never changes, who has answered it does."""
    return f"{row.state}-{row.votes.count()}"[:16]


def _vote_form(*said: Any, **more: Any) -> VoteForm:
    return VoteForm(*said, typed=settings.APPROVERS_REQUIRED == 1, **more)


def vote(request: HttpRequest, number: int, *, context: dict[str, Any]) -> HttpResponse:  # noqa: ARG001  a page's
    row = Approval.objects.filter(pk=number).first()
    if row is None:
        raise Http404("nobody asked that")
    form = _vote_form(request.POST)
    if not form.is_valid():
        problems = " ".join(f"{name}: {' '.join(map(str, said))}" for name, said in form.errors.items())
        answer = Answer(False, f"Nothing was changed. {problems}")
    elif form.cleaned_data["seen"] != _seen(row):
        answer = Answer(False, "Nothing was changed: somebody has answered since. Look again, then decide.")
    else:
        answer = acts.vote(approval_id=number, by=request.user.get_username(), form=form)
    messages.add_message(request, messages.SUCCESS if answer.done else messages.ERROR, answer.text)
    return HttpResponseRedirect(reverse("admin:permits_approval_change", args=[number]))
