"""The trading state and holds: changed in the database with who and why, projected into Redis.

Missing, unreadable or out of lease is HALTED (I13). Redis never knows better than the database.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import transaction

from permits.models import Hold, TradingState
from quantum import audit, clock
from quantum.redis import Client, Script

LEASE_MS = 6000

_PROJECT_STATE = Script(Path(__file__).parent / "lua" / "project_state-1.lua")


@dataclass(frozen=True, slots=True)
class Projection:
    """The one serialisation of the newest state row; equality of bytes is equality of state."""

    raw: bytes
    version: int
    active: bool


def current() -> Projection:
    """What the database says now. No row at all is HALTED with version 0."""
    row = TradingState.objects.order_by("-version").first()
    if row is None:
        return Projection(raw=_written(None), version=0, active=False)
    return Projection(raw=_written(row), version=row.version, active=row.state == TradingState.State.ACTIVE)


def is_halted(raw: bytes) -> bool:
    """Whether stored bytes read HALTED. Unreadable bytes are not ACTIVE, but they are not this either."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("state") == TradingState.State.HALTED


def _written(row: TradingState | None) -> bytes:
    members = {
        "state": row.state if row else TradingState.State.HALTED.value,
        "scope": row.scope if row else TradingState.Scope.EVERYTHING.value,
        "since": row.since.timestamp() if row else 0,
        "until": row.until.timestamp() if row and row.until else None,
        "by": row.by if row else "start",
        "reason": row.reason if row else "no trading state was ever set",
        "account": settings.ACCOUNT,
        "mode": settings.APPLY_MODE,
        "version": row.version if row else 0,
    }
    return json.dumps(members, separators=(",", ":")).encode()


def change(
    *, state: TradingState.State, by: str, reason: str, scope: str = TradingState.Scope.EVERYTHING
) -> TradingState:
    """One new version. Two changes at once: the primary key lets one win and the other fail."""
    with transaction.atomic():
        newest = TradingState.objects.order_by("-version").values_list("version", flat=True).first() or 0
        row = TradingState.objects.create(version=newest + 1, state=state, by=by, reason=reason, scope=scope)
        audit.record(
            kind=f"trading_{state.value.lower()}",
            actor=by,
            reason=reason,
            data={"version": row.version, "scope": scope},
        )
    return row


def ensure_first_state() -> None:
    """First start: ACTIVE where no money is at stake, HALTED in live until a person says otherwise."""
    if TradingState.objects.exists():
        return
    live = settings.APPLY_MODE == "live"
    state = TradingState.State.HALTED if live else TradingState.State.ACTIVE
    change(state=state, by="start", reason=f"first start in {settings.APPLY_MODE}")


def renew(client: Client, state: Projection, *, lease_ms: int = LEASE_MS) -> bool:
    """Extends the lease only while the bytes there equal the database's. False: arm anew, holds first."""
    args = (state.raw, state.version, lease_ms, 0)
    return bool(_PROJECT_STATE(client, keys=(settings.KEYS.trading_state,), args=args))


def project(client: Client, state: Projection, *, lease_ms: int = LEASE_MS) -> bool:
    """False: a newer version stands there, made by someone who read the database after us."""
    args = (state.raw, state.version, lease_ms, 1)
    return bool(_PROJECT_STATE(client, keys=(settings.KEYS.trading_state,), args=args))


# ---- holds


def place_hold(client: Client, *, symbol: str, by: str, reason: str) -> Hold:
    with transaction.atomic():
        hold, made = Hold.objects.get_or_create(
            symbol=symbol, lifted_at=None, defaults={"by": by, "reason": reason}
        )
        if made:
            audit.record(kind="hold_placed", actor=by, symbol=symbol, reason=reason, data={"hold": hold.pk})
    client.set(settings.KEYS.hold(symbol), _hold_bytes(hold))
    return hold


def lift_hold(client: Client, *, symbol: str, by: str, reason: str) -> bool:
    with transaction.atomic():
        lifted = Hold.objects.filter(symbol=symbol, lifted_at=None).update(
            lifted_at=clock.now(), lifted_by=by, lifted_reason=reason
        )
        if lifted:
            audit.record(kind="hold_lifted", actor=by, symbol=symbol, reason=reason)
    client.delete(settings.KEYS.hold(symbol))
    return bool(lifted)


def project_holds(client: Client) -> None:
    """All open holds, before the state is armed: after a wipe nothing passes that should be frozen."""
    for hold in Hold.objects.filter(lifted_at=None):
        client.set(settings.KEYS.hold(hold.symbol), _hold_bytes(hold))


def _hold_bytes(hold: Hold) -> bytes:
    members = {"hold_id": hold.pk, "reason": hold.reason, "by": hold.by, "since": hold.since.timestamp()}
    return json.dumps(members, separators=(",", ":")).encode()
