"""What the buttons of the permit page do: the desk's acts, with an answer in words."""

from __future__ import annotations

from django.db import Error as DatabaseError
from msgspec import Struct

from permits import operators
from permits.desk import approvals, desk
from permits.desk.desk import Revoked
from permits.models import Approval
from permits.operators import NotSigned, Wish
from permits.pages.forms import GrantForm, RevokeForm, VoteForm
from quantum.clock import from_ms
from quantum.redis import RedisError, command_client
from quantum.signing import KeyUnusable

CHANGED = "Nothing was changed: the permits are not those this page showed. Look again, then decide."
NO_REDIS = "Redis gave no answer: it is not known whether anything was changed. Ask again when it is back."
NO_DATABASE = "The database refuses, so nothing may be changed. Ask again when it is back."


class Answer(Struct, frozen=True):
    done: bool
    text: str


def revoke(*, plan_id: str, by: str, form: RevokeForm) -> Answer:
    said = form.cleaned_data
    try:
        answer = desk.revoke(
            command_client(),
            plan_id=plan_id,
            gates=form.gates,
            by=by,
            reason=said["reason"],
            seen=said["seen"],
        )
    except RedisError:
        return Answer(False, NO_REDIS)
    except DatabaseError:
        return Answer(False, NO_DATABASE)
    if isinstance(answer, Revoked):
        return Answer(True, f"Revoked: {' and '.join(answer.gates)}. This plan gets no further permit.")
    if answer.reason == "already_consumed":
        spent = from_ms(answer.spent_at_ms).isoformat(timespec="milliseconds")
        return Answer(
            False, f"Too late: the pair was spent at {spent}. The plan's page tells what came of it."
        )
    return Answer(False, CHANGED if answer.reason == "changed" else "No permit stands: nothing was changed.")


def grant(*, plan_id: str, by: str, form: GrantForm) -> Answer:
    said = form.cleaned_data
    wish = Wish(
        gate=said["gate"],
        verdict=said["verdict"] == "grant",
        by=by,
        reason=said["reason"],
        quantity=said["quantity"],
    )
    try:
        client = command_client()
        drafted = operators.draft(client, plan_id=plan_id, wish=wish)
        if not isinstance(drafted, NotSigned) and drafted.before.seen != said["seen"]:
            return Answer(False, CHANGED)
        done = drafted if isinstance(drafted, NotSigned) else operators.sign(client, drafted)
    except RedisError:
        return Answer(False, NO_REDIS)
    except DatabaseError:
        return Answer(False, NO_DATABASE)
    except KeyUnusable as unusable:
        return Answer(False, f"Nothing was signed: {unusable}")
    if isinstance(done, NotSigned):
        return Answer(False, f"Nothing was signed: {done.text}.")
    return Answer(True, f"Signed as operator: {wish.gate} {'granted' if wish.verdict else 'denied'}.")


VOTED = {
    Approval.State.APPROVED: "Approved: a new plan goes to both gates.",
    Approval.State.REFUSED: "Refused: nothing is closed by it.",
}


def vote(*, approval_id: int, by: str, form: VoteForm) -> Answer:
    said = form.cleaned_data
    try:
        voted = approvals.vote(
            approval_id=approval_id,
            by=by,
            yes=said["answer"] == "yes",
            reason=said["reason"],
            confirm=said.get("confirm", ""),
        )
    except approvals.VoteRefused as refused:
        return Answer(False, f"Not counted: {refused}.")
    except RedisError:
        return Answer(
            True, "Counted. Redis gave no answer; the new plan goes out when it is back, if it is fresh then."
        )
    except DatabaseError:
        return Answer(False, NO_DATABASE)
    counted = f"Counted: {voted.yes_votes} of {voted.needed} said yes."
    return Answer(True, VOTED.get(Approval.State(voted.approval.state), counted))
