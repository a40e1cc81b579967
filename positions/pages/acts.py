"""What the buttons of the reconciliation page do: the functions of the commands, with an answer in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from django.db import Error as DatabaseError
from msgspec import Struct

from permits.models import Hold
from permits.state import freezing
from positions.books.ledger import LedgerChanged
from positions.drift import incidents
from positions.pages import forms
from positions.pages.marks import Mark
from positions.reconcile import closing, reconcile, second
from positions.reconcile.closing import CannotClose
from positions.reconcile.reconcile import Brought, Line, Seen, Unreadable
from positions.reconcile.second import NotApproved
from quantum import amounts
from quantum.redis import Client, RedisError, command_client

WITHIN_S = 4.0
CHANGED = "Nothing was changed: it is not any more what this page showed. Look again, then decide."
NO_REDIS = "Redis gave no answer. Nothing was changed."
NO_DATABASE = "The database refuses, so nothing may be changed. Ask again when it is back."
LATE_KEY = "Recorded. Redis gave no answer; apply and p33 bring it up to date within seconds of reaching it."


class Answer(Struct, frozen=True):
    done: bool
    text: str


Doing = Callable[[Client, Mark, dict[str, Any], str], Answer]


class Act(Struct, frozen=True):
    permission: str
    form: type[forms.ActForm]
    do: Doing


def act(doing: Doing, *, mark: Mark, said: dict[str, Any], by: str) -> Answer:
    return _safely(lambda client: doing(client, mark, said, by[:60]))


def adopt_all(seen: Sequence[Seen], *, by: str, reason: str) -> Answer:
    """Of several symbols at once, all of them or none: each must still be what the page showed."""

    def do(client: Client) -> Answer:
        lines = reconcile.look_again(client, seen=seen, within_s=WITHIN_S)
        return _decide(client, lines, to=None, by=by[:60], reason=reason)

    return _safely(do)


def _safely(do: Callable[[Client], Answer]) -> Answer:
    try:
        return do(command_client())
    except Unreadable as unreadable:
        return Answer(False, f"{unreadable}. Nothing was changed.")
    except (LedgerChanged, NotApproved, CannotClose) as refused:
        return Answer(False, f"Nothing was changed. {refused}")
    except RedisError:
        return Answer(False, NO_REDIS)
    except DatabaseError:
        return Answer(False, NO_DATABASE)


def adopt(client: Client, mark: Mark, said: dict[str, Any], by: str) -> Answer:
    return _decide(client, [_fresh(client, mark)], to=None, by=by, reason=said["reason"])


def write(client: Client, mark: Mark, said: dict[str, Any], by: str) -> Answer:
    return _decide(client, [_fresh(client, mark)], to=said["amount"], by=by, reason=said["reason"])


def close(client: Client, mark: Mark, said: dict[str, Any], by: str) -> Answer:
    line = _fresh(client, mark)
    if (line.hold.pk if line.hold else None) != mark.hold_id:
        return Answer(False, CHANGED)
    closed = closing.close(client, line, by=by, reason=said["reason"])
    if not closed.published:
        return Answer(True, closed.not_heard)
    most = amounts.plain(abs(line.exchange))
    return Answer(True, f"Published: plan {closed.plan_id} closes {most} if both gates grant it.")


def approve(client: Client, mark: Mark, said: dict[str, Any], by: str) -> Answer:
    """The request stands on what itself saw; the page must only have shown it."""
    if said["request"] not in mark.requests:
        return Answer(False, CHANGED)
    request = {"request_id": said["request"], "by": by, "reason": said["reason"]}
    return _came(client, second.approve(client, within_s=WITHIN_S, **request))


def hold(client: Client, mark: Mark, said: dict[str, Any], by: str) -> Answer:
    standing = Hold.objects.filter(symbol=mark.symbol, lifted_at=None).first()
    if (standing.pk if standing else None) != mark.hold_id:
        return Answer(False, CHANGED)
    try:
        placed = freezing.place(client, symbol=mark.symbol, by=by, reason=said["reason"])
    except RedisError:
        return Answer(True, LATE_KEY)
    if (placed.by, placed.reason) != (by, said["reason"]):  # somebody was a moment faster
        return Answer(
            False, f"Frozen already by {placed.by}: hold {placed.pk} and its reason stay as they are."
        )
    return Answer(True, f"{mark.symbol} is frozen by hold {placed.pk}.")


def release(client: Client, mark: Mark, said: dict[str, Any], by: str) -> Answer:
    shown = Hold.objects.filter(symbol=mark.symbol, lifted_at=None).first()
    try:
        if (
            shown is None
            or shown.pk != mark.hold_id
            or not freezing.release(client, hold=shown, by=by, reason=said["reason"])
        ):
            return Answer(False, CHANGED)
    except RedisError:
        return Answer(True, LATE_KEY)
    return Answer(True, f"Hold {shown.pk} of {mark.symbol} is lifted.")


def ack(_client: Client, mark: Mark, said: dict[str, Any], by: str) -> Answer:
    if said["incident"] not in mark.incidents:
        return Answer(False, CHANGED)
    found = incidents.ack(incident_id=said["incident"], by=by, reason=said["reason"])
    if found is None:
        return Answer(False, CHANGED)
    mine = (found.acked_by, found.acked_reason) == (by, said["reason"])
    taken = f"Incident {found.pk} is taken by {found.acked_by}"
    return Answer(mine, f"{taken}; it stays open." if mine else f"{taken} already. Nothing was changed.")


ACTS = {
    "adopt": Act("positions.reconcile", forms.AdoptForm, adopt),
    "write": Act("positions.reconcile", forms.WriteForm, write),
    "close": Act("permits.issue_permit", forms.CloseForm, close),
    "hold": Act("permits.place", forms.HoldForm, hold),
    "release": Act("permits.lift", forms.ReleaseForm, release),
    "approve": Act("positions.reconcile", forms.ApproveForm, approve),
    "ack": Act("positions.reconcile", forms.AckForm, ack),
}


def _fresh(client: Client, mark: Mark) -> Line:
    if mark.seen is None:
        raise Unreadable("This page showed no amount of the exchange")
    [line] = reconcile.look_again(client, seen=[mark.seen], within_s=WITHIN_S)
    return line


def _decide(client: Client, lines: Sequence[Line], *, to: Decimal | None, by: str, reason: str) -> Answer:
    came = second.decide(lines, to=to, by=by, reason=reason)
    if isinstance(came, Brought):
        return _came(client, came)
    return Answer(True, f"Nothing was changed yet: request {came.pk} waits for another person than {by}.")


def _came(client: Client, brought: Brought) -> Answer:
    told = [
        *(
            f"{entry.symbol}: the ledger says {amounts.plain(entry.balance)} now."
            for entry in brought.entries
        ),
        *(f"Incident {each.pk} ended." for each in brought.resolved),
        *(f"Hold {each.pk} is lifted." for each in brought.lifted),
    ]
    try:
        reconcile.project(client, brought)
    except RedisError:
        told.append(LATE_KEY)
    return Answer(True, " ".join(told))
