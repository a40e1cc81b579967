"""The second person: a correction above a limit is a request first, and another person's yes carries it out.

Apart from permits.desk.approvals, whose question is about one plan and whose yes makes a new one: this is about
numbers of one or many symbols, counts only while they are the ones that were asked for, and makes no plan.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from positions.models import CorrectionRequest
from positions.reconcile import reconcile
from positions.reconcile.reconcile import Brought, Line, Seen
from quantum import amounts, audit, clock, people
from quantum.redis import Client

LIFE_S = 3600
ACTOR = "reconcile"
State = CorrectionRequest.State


class NotApproved(Exception):
    """This yes does not count. One line for a person."""


def decide(lines: Sequence[Line], *, to: Decimal | None, by: str, reason: str) -> Brought | CorrectionRequest:
    """to None: the exchange's amounts are adopted. Above the limit the one request covers all of the symbols: what
    is brought together all or none waits all or none. Raises LedgerChanged."""
    if is_above_limit(lines, to=to):
        return _ask(lines, to=to, by=by, reason=reason)
    if to is None:
        return reconcile.adopt(lines, by=by, reason=reason)
    return reconcile.correct(lines[0], to=to, by=by, reason=reason)


def is_above_limit(lines: Sequence[Line], *, to: Decimal | None) -> bool:
    limit: Decimal | None = settings.RECONCILE_SECOND_PERSON_USD
    if limit is None:
        return False
    worth = [_notional(line, _after(line, to)) for line in lines]
    return any(each is None for each in worth) or sum(each or 0 for each in worth) > limit


def _after(line: Line, to: Decimal | None) -> Decimal:
    return line.exchange if to is None else to


def _notional(line: Line, after: Decimal) -> Decimal | None:
    """None: without a price nobody knows what it is worth, which is not little."""
    change = abs(after - (line.ledger or 0))
    if change == 0:
        return Decimal(0)
    return None if line.mark_price is None else change * line.mark_price


def _ask(lines: Sequence[Line], *, to: Decimal | None, by: str, reason: str) -> CorrectionRequest:
    now = clock.now()
    with transaction.atomic():
        request = CorrectionRequest.objects.create(
            account=settings.ACCOUNT,
            mode=settings.APPLY_MODE,
            asked_by=by,
            reason=reason,
            asked_at=now,
            expires_at=now + dt.timedelta(seconds=LIFE_S),
            typed=to is not None,
            lines=[_kept(line, _after(line, to)) for line in lines],
        )
        _tell(request, kind="correction_asked", actor=by, reason=reason)
    return request


def _kept(line: Line, after: Decimal) -> dict[str, str | int | None]:
    notional = _notional(line, after)
    return {
        "symbol": line.symbol,
        "exchange": amounts.plain(line.exchange),
        "version": line.version,
        "before": None if line.ledger is None else amounts.plain(line.ledger),
        "after": amounts.plain(after),
        "notional": None if notional is None else amounts.plain(notional),
    }


def waiting(symbol: str | None = None) -> list[CorrectionRequest]:
    """Oldest first; what waited too long is ended here."""
    _expire_overdue()
    rows = _waiting().order_by("id")
    return [row for row in rows if symbol is None or any(each["symbol"] == symbol for each in row.lines)]


def approve(client: Client, *, request_id: int, by: str, reason: str, within_s: float) -> Brought:
    """Raises NotApproved; LedgerChanged where a number is not what the request saw; else like reconcile.look."""
    _expire_overdue()
    request = CorrectionRequest.objects.filter(pk=request_id, account=settings.ACCOUNT).first()
    if request is None:
        raise NotApproved(f"There is no request {request_id}.")
    if request.state != State.WAITING or request.mode != settings.APPLY_MODE:
        raise NotApproved(f"Request {request_id} is {request.state}; ask anew.")
    if people.is_same_person(by, request.asked_by):
        raise NotApproved(f"{request.asked_by} asked for it: another person has to say yes.")
    lines = reconcile.look_again(client, seen=[_seen(each) for each in request.lines], within_s=within_s)

    def settle() -> None:
        """Of two who say yes one wins, and a ledger that moved takes the yes back with the rest."""
        said = {"decided_at": clock.now(), "decided_by": by, "decided_reason": reason}
        if not _waiting().filter(pk=request.pk).update(state=State.APPROVED, **said):
            raise NotApproved(f"Request {request.pk} was decided meanwhile.")
        _tell(request, kind="correction_approved", actor=by, reason=reason)

    why = f"{request.reason}; approved by {by}: {reason}"[:400]
    if request.typed:
        to = Decimal(request.lines[0]["after"])
        return reconcile.correct(lines[0], to=to, by=request.asked_by, reason=why, first=settle)
    return reconcile.adopt(lines, by=request.asked_by, reason=why, first=settle)


def _seen(kept: dict[str, str | int | None]) -> Seen:
    version = kept["version"]
    return Seen(
        symbol=str(kept["symbol"]),
        exchange=Decimal(str(kept["exchange"])),
        version=None if version is None else int(version),
    )


def _waiting() -> QuerySet[CorrectionRequest]:
    return CorrectionRequest.objects.filter(
        account=settings.ACCOUNT, state=State.WAITING, expires_at__gt=clock.now()
    )


def _expire_overdue() -> None:
    rows = CorrectionRequest.objects.filter(state=State.WAITING)
    for request in rows.filter(expires_at__lte=clock.now()):
        with transaction.atomic():
            if rows.filter(pk=request.pk).update(state=State.EXPIRED, decided_at=clock.now()):
                why = f"nobody decided within {LIFE_S} s"
                _tell(request, kind="correction_expired", actor=ACTOR, reason=why)


def _tell(request: CorrectionRequest, *, kind: str, actor: str, reason: str) -> None:
    """One event per symbol, so that each symbol's history tells it."""
    for kept in request.lines:
        audit.record(
            kind=kind, actor=actor, symbol=kept["symbol"], reason=reason, data={"request": request.pk, **kept}
        )
