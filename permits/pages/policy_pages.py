"""What the pages of a policy version and of an approval show; their templates only lay it out."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.utils.safestring import SafeString

from permits.models import Approval, PolicyVersion
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
        "confirm": settings.APPROVERS_REQUIRED == 1,
    }
