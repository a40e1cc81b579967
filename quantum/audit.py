"""The only writer of audit events. Call it inside the transaction of the fact it records (I10)."""

from __future__ import annotations

from typing import Any

from quantum import rows
from quantum.models import AuditEvent

REASON_MIN = 8
"""Characters of a reason, wherever a person acts: somebody will ask for it."""


def event(
    *,
    kind: str,
    actor: str,
    plan_id: str = "",
    symbol: str = "",
    reason: str = "",
    data: dict[str, Any] | None = None,
) -> AuditEvent:
    """An unsaved event, for writers that insert many at once."""
    return rows.new(AuditEvent, **_columns(kind, actor, plan_id, symbol, reason, data))


def record(
    *,
    kind: str,
    actor: str,
    plan_id: str = "",
    symbol: str = "",
    reason: str = "",
    data: dict[str, Any] | None = None,
    pile: rows.Pile | None = None,
) -> None:
    """pile: written when that is sent."""
    rows.add(AuditEvent, _columns(kind, actor, plan_id, symbol, reason, data), pile=pile)


def _columns(
    kind: str, actor: str, plan_id: str, symbol: str, reason: str, data: dict[str, Any] | None
) -> dict[str, Any]:
    return {
        "kind": kind,
        "actor": actor,
        "plan_id": plan_id,
        "symbol": symbol[:40],
        "reason": reason[:400],
        "data": data or {},
    }
