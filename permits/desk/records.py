"""Permit rows: what was written into Redis, kept for good. The raw bytes are the fact."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import connection, models, transaction

from permits.desk import approvals, payloads
from permits.models import Approval, Permit
from quantum import amounts, audit, clock
from quantum import rows as fast

LATEST_S = Decimal(10_000_000_000)
Beside = Approval | Callable[[], models.Model]
"""A question to people; or what makes a row once the permit is out, all of one model."""


def row_of(
    raw: bytes, *, gate: str, plan_id: str, fate: Permit.Fate, said: payloads.Answer | None = None
) -> Permit:
    """The unsaved row of a permit that was written."""
    return fast.new(Permit, **_columns(raw, gate=gate, plan_id=plan_id, fate=fate, said=said))


def _columns(
    raw: bytes, *, gate: str, plan_id: str, fate: Permit.Fate, said: payloads.Answer | None = None
) -> dict[str, Any]:
    """Of a permit that was written or spent; raw is the fact, the others are for reading. said: what the bytes were
    made of just now, by whoever need not read them again."""
    permit = said or payloads.read(raw, gate=gate, all_fields=False)
    issued = permit.created_at if permit.created_at is not None else Decimal(clock.now_ms()) / 1000
    expires = permit.expires_at if permit.expires_at is not None else issued + settings.PERMIT_TTL_SEC
    return {
        "plan_id": plan_id,
        "gate": gate,
        "verdict": permit.verdict,
        "reason": permit.reason[:60],
        "symbol": (permit.symbol or "")[:40],
        "quantity": permit.quantity,
        "digest": permit.digest or "",
        "mode": permit.mode or "",
        "account": permit.account or "",
        "issuer": (permit.issuer or "by hand")[:80],
        "raw": raw.decode(),
        "issued_at": _moment(issued),
        "expires_at": _moment(expires),
        "fate": fate,
    }


def _moment(seconds: Decimal) -> dt.datetime:
    """A hand-made permit may carry milliseconds: a time nobody can write must not stop a settlement."""
    return clock.from_ms(int(min(seconds, LATEST_S) * 1000))


def record_issued(rows: list[Permit], *, beside: Sequence[Beside] = ()) -> None:
    """Rows and their audit events in one transaction. A row that the spend already wrote is left as it is."""
    events = [
        audit.event(
            kind=f"permit_{'granted' if row.verdict else 'denied'}",
            actor=row.issuer,
            plan_id=row.plan_id,
            symbol=row.symbol,
            reason=row.reason,
            data={
                "gate": row.gate,
                "quantity": _text(row.quantity),
                "expires_at": row.expires_at.isoformat(),
            },
        )
        for row in rows
    ]
    questions = [one for one in beside if isinstance(one, Approval)]
    made = [one() for one in beside if not isinstance(one, Approval)]
    pile = fast.Pile()
    with transaction.atomic():
        for question in questions:
            approvals.park(question)
        fast.insert(*rows, skip_conflicts=True, pile=pile)
        fast.insert(*events, pile=pile)
        fast.insert(*made, skip_conflicts=True, pile=pile)
        pile.send(last=True)


def _text(quantity: Decimal | None) -> str:
    """A permit by hand may name none."""
    return str(quantity) if quantity is None else amounts.plain(quantity)


_AS_SPENT = """ON CONFLICT (plan_id, gate, issued_at) DO UPDATE SET fate = excluded.fate, fate_at = excluded.fate_at,
fate_by = excluded.fate_by, fate_reason = excluded.fate_reason"""


def record_spent(plan_id: str, spent: Mapping[str, bytes], *, pile: fast.Pile | None = None) -> None:
    """The bytes by their gates, inside the caller's transaction. Whether the gate's own row came first or not, it ends
    as spent; so does one that the sweep, or a revocation that came too late, has marked in between."""
    end = {"fate_at": clock.now(), "fate_by": "apply"}
    rows = [
        _columns(raw, gate=gate, plan_id=plan_id, fate=Permit.Fate.SPENT) | end for gate, raw in spent.items()
    ]
    fast.add(Permit, *rows, on_conflict=_AS_SPENT, pile=pile)


# ---- what a person does with a permit: asked for first, so that no death hides who did it and why


def record_asked(
    plan_id: str, rows: list[Permit], *, kind: str, by: str, reason: str, symbol: str = "", **more: str
) -> None:
    """Before Redis is touched. A row that stays marked like this was asked to be revoked by somebody who
    got no answer: the sweep ends it as revoked, unless it turns out to be spent."""
    with transaction.atomic():
        Permit.objects.bulk_create(rows, ignore_conflicts=True)
        for row in rows:
            _same(row).filter(fate=Permit.Fate.LIVE).update(
                fate_at=clock.now(), fate_by=by[:80], fate_reason=reason[:400]
            )
        _record_act(f"{kind}_asked", plan_id, rows, by=by, reason=reason, symbol=symbol, **more)


def record_revoked(plan_id: str, rows: list[Permit], *, by: str, reason: str) -> None:
    with transaction.atomic():
        for row in rows:
            _same(row).exclude(fate=Permit.Fate.SPENT).update(
                fate=Permit.Fate.REVOKED, fate_at=clock.now(), fate_by=by[:80], fate_reason=reason[:400]
            )
        _record_act("permit_revoked", plan_id, rows, by=by, reason=reason)


def record_not_revoked(plan_id: str, rows: list[Permit], *, by: str, reason: str, why: str) -> None:
    """Nothing was taken back: the mark goes, the question and the answer stay in the audit."""
    with transaction.atomic():
        for row in rows:
            _same(row).filter(fate=Permit.Fate.LIVE).update(fate_at=None, fate_by="", fate_reason="")
        _record_act("permit_revoke_refused", plan_id, rows, by=by, reason=reason, why=why)


def _same(row: Permit) -> models.QuerySet[Permit]:
    return Permit.objects.filter(plan_id=row.plan_id, gate=row.gate, issued_at=row.issued_at)


def _record_act(
    kind: str, plan_id: str, rows: list[Permit], *, by: str, reason: str, symbol: str = "", **more: str
) -> None:
    data = {"gates": [row.gate for row in rows], **more}
    symbol = symbol or (rows[0].symbol if rows else "")
    audit.record(kind=kind, actor=by[:80], plan_id=plan_id, symbol=symbol, reason=reason, data=data)


# ---- the fate of what was never spent

SWEEP_MARGIN_S = 10
SWEEP_BATCH = 500
"""A backlog of hours is worked off in short transactions: an intent must not wait for one."""

_SWEEP = """
UPDATE permits_permit SET
    fate_at = COALESCE(fate_at, expires_at),
    fate = CASE WHEN fate_by <> '' THEN 'revoked'
                WHEN EXISTS (SELECT 1 FROM permits_permit newer
                             WHERE newer.plan_id = permits_permit.plan_id AND newer.gate = permits_permit.gate
                               AND newer.issued_at > permits_permit.issued_at
                               AND newer.issued_at < permits_permit.expires_at) THEN 'superseded'
                ELSE 'expired' END
WHERE id IN (SELECT id FROM permits_permit WHERE fate = 'live' AND expires_at < %s ORDER BY expires_at LIMIT %s)
"""
"""The word `live` stands in the text, not as a parameter: so the database may use the index of live rows."""


def sweep() -> int:
    """Rows whose time is over for longer than an outcome takes to be recorded. Returns how many ended.

    A permit that another one of its gate replaced while it still had time is superseded; one that
    nothing followed, or that was renewed after its end, has expired. A later record_spent wins.
    """
    ended_before = clock.now() - dt.timedelta(seconds=SWEEP_MARGIN_S)
    with connection.cursor() as cursor:
        cursor.execute(_SWEEP, (connection.ops.adapt_datetimefield_value(ended_before), SWEEP_BATCH))
        return int(cursor.rowcount)


def fate_at(row: Permit, *, now: dt.datetime, history: Iterable[Permit] = ()) -> Permit.Fate:
    """What a person is told: a row says live until the sweep has come by, or until its gate is recorded."""
    if row.fate != Permit.Fate.LIVE:
        return Permit.Fate(row.fate)
    if any(row.issued_at < other.issued_at < row.expires_at for other in history if other.gate == row.gate):
        return Permit.Fate.SUPERSEDED
    if row.expires_at > now:
        return Permit.Fate.LIVE
    return Permit.Fate.REVOKED if row.fate_by else Permit.Fate.EXPIRED
