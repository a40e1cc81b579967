"""Permit rows: what was written into Redis, kept for good. The raw bytes are the fact."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from decimal import Decimal

from django.conf import settings
from django.db import models, transaction

from permits import payloads
from permits.models import Permit
from quantum import audit, clock
from quantum.models import AuditEvent

LATEST_S = Decimal(10_000_000_000)


def row_of(raw: bytes, *, gate: str, plan_id: str, fate: Permit.Fate) -> Permit:
    """The unsaved row of a permit that was written or spent; raw is the fact, columns are for reading."""
    permit = payloads.read(raw, gate=gate, all_fields=False)
    issued = permit.created_at if permit.created_at is not None else Decimal(clock.now_ms()) / 1000
    expires = permit.expires_at if permit.expires_at is not None else issued + settings.PERMIT_TTL_SEC
    return Permit(
        plan_id=plan_id,
        gate=gate,
        verdict=permit.verdict,
        reason=permit.reason[:60],
        symbol=(permit.symbol or "")[:40],
        quantity=permit.quantity,
        digest=permit.digest or "",
        mode=permit.mode or "",
        account=permit.account or "",
        issuer=(permit.issuer or "by hand")[:80],
        raw=raw.decode(),
        issued_at=_moment(issued),
        expires_at=_moment(expires),
        fate=fate,
    )


def _moment(seconds: Decimal) -> dt.datetime:
    """A hand-made permit may carry milliseconds: a time nobody can write must not stop a settlement."""
    return clock.from_ms(int(min(seconds, LATEST_S) * 1000))


def record_issued(rows: list[Permit], *, beside: Iterable[models.Model] = ()) -> None:
    """Rows and their audit events in one transaction. A row that the spend already wrote is left as it is."""
    events = [
        audit.event(
            kind=f"permit_{'granted' if row.verdict else 'denied'}",
            actor=row.issuer,
            plan_id=row.plan_id,
            symbol=row.symbol,
            reason=row.reason,
            data={"gate": row.gate, "quantity": str(row.quantity), "expires_at": row.expires_at.isoformat()},
        )
        for row in rows
    ]
    with transaction.atomic():
        Permit.objects.bulk_create(rows, ignore_conflicts=True)
        AuditEvent.objects.bulk_create(events)
        for row in beside:
            type(row)._default_manager.bulk_create([row], ignore_conflicts=True)


def record_spent(rows: list[Permit]) -> None:
    """Inside the caller's transaction. Whether the gate's own row came first or not, it ends as spent."""
    Permit.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["plan_id", "gate", "issued_at"],
        update_fields=["fate"],
    )
