"""The trading state: changed in the database with who and why, projected into Redis under a lease.

Missing, unreadable or out of lease is HALTED (I13). Redis never knows better than the database.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from msgspec import Struct
from redis.exceptions import ResponseError

from permits.models import TradingState
from permits.state import holds
from quantum import audit, clock
from quantum.log import log
from quantum.models import AuditEvent
from quantum.redis import Client, Script

LEASE_MS = 6000
VERSION_MAX = 2**31 - 1
HALT_TRIES = 10
REPEATED_AGAIN_S = 3600
PERSON = "person"
TAMPERING = "tampering"
UNREADABLE = b""

State, Scope = TradingState.State, TradingState.Scope

_PROJECT_STATE = Script(Path(__file__).parent / "lua" / "project_state-1.lua")


class StateChanged(Exception):
    """Somebody else made the next version first: look again before you decide."""


class Projection(Struct, frozen=True):
    """The one serialisation of the newest state row; equality of bytes is equality of state."""

    raw: bytes
    version: int
    active: bool
    scope: str = Scope.EVERYTHING

    def lets_pass(self, *, by_operator: bool) -> bool:
        """Any scope but exactly `automatic`, an unknown one of an old row too, counts as everything."""
        return self.active or (by_operator and self.scope == Scope.AUTOMATIC)


def newest() -> TradingState | None:
    return TradingState.objects.order_by("-version").first()


def current() -> Projection:
    """What the database says now."""
    return projected(newest())


def projected(row: TradingState | None) -> Projection:
    """No row at all is HALTED with version 0."""
    if row is None:
        return Projection(raw=_written(None), version=0, active=False)
    return Projection(
        raw=_written(row), version=row.version, active=row.state == State.ACTIVE, scope=row.scope
    )


def is_halted(raw: bytes) -> bool:
    """Whether stored bytes read HALTED. Unreadable bytes are not ACTIVE, but they are not this either."""
    return _members(raw).get("state") == State.HALTED


def _members(raw: bytes) -> dict[str, Any]:
    """Anybody may have written these bytes; what cannot be read says nothing."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _written(row: TradingState | None) -> bytes:
    members = {
        "state": row.state if row else State.HALTED.value,
        "scope": row.scope if row else Scope.EVERYTHING.value,
        "since": row.since.timestamp() if row else 0,
        "until": row.until.timestamp() if row and row.until else None,
        "by": row.by if row else "start",
        "reason": row.reason if row else "no trading state was ever set",
        "account": settings.ACCOUNT,
        "mode": settings.APPLY_MODE,
        "version": row.version if row else 0,
    }
    return json.dumps(members, separators=(",", ":")).encode()


# ---- changing it


def change(
    *,
    state: TradingState.State,
    by: str,
    reason: str,
    scope: str = Scope.EVERYTHING,
    cause: str = PERSON,
    until: dt.datetime | None = None,
    on: int | None = None,
) -> TradingState:
    """One new version; with `on`, only on top of that one. Two changes at once: the primary key lets one win."""
    try:
        with transaction.atomic():
            version = TradingState.objects.order_by("-version").values_list("version", flat=True).first() or 0
            if on is not None and version != on:
                raise StateChanged
            row = TradingState.objects.create(
                version=version + 1, state=state, by=by, reason=reason, scope=scope, cause=cause, until=until
            )
            audit.record(
                kind=f"trading_{state.value.lower()}",
                actor=by,
                reason=reason,
                data={"version": row.version, "scope": scope, "cause": cause},
            )
    except IntegrityError:
        raise StateChanged from None
    return row


def halt(
    *,
    cause: str,
    by: str,
    reason: str,
    scope: TradingState.Scope = Scope.AUTOMATIC,
    until: dt.datetime | None = None,
) -> TradingState:
    """The one call that halts, for people and for machines. A halt only ever adds: over another one it may widen
    the scope or move the end further away, never the reverse. What adds nothing is an event, no new version.
    """
    for _ in range(HALT_TRIES):
        row = newest()
        wider, later = _merged(row, scope, until)
        if row is not None and (row.state, row.scope, row.until) == (State.HALTED, wider, later):
            if _told_again(row, cause=cause, by=by, reason=reason):
                return row
            continue  # left while we looked: this halt must not be lost
        try:
            return change(
                state=State.HALTED,
                by=by,
                reason=reason,
                scope=wider,
                cause=cause,
                until=later,
                on=row.version if row else 0,
            )
        except StateChanged:
            continue
    raise StateChanged


def _merged(
    row: TradingState | None, scope: TradingState.Scope, until: dt.datetime | None
) -> tuple[str, dt.datetime | None]:
    """The wider scope and the later end of what stands and what is asked. No end is the latest end."""
    if row is None or row.state != State.HALTED:
        return scope.value, until
    wider = scope.value if row.scope == Scope.AUTOMATIC else row.scope
    return wider, None if until is None or row.until is None else max(until, row.until)


def _told_again(row: TradingState, *, cause: str, by: str, reason: str) -> bool:
    """Whether that halt still stands. A person's word is always recorded, a machine's once an hour and cause."""
    since = max(row.since, clock.now() - dt.timedelta(seconds=REPEATED_AGAIN_S))
    known = AuditEvent.objects.filter(at__gte=since, kind="halt_repeated", data__cause=cause)
    with alone_on(row):
        if cause == PERSON or (row.cause != cause and not known.exists()):
            data = {"version": row.version, "cause": cause}
            audit.record(kind="halt_repeated", actor=by, reason=reason, data=data)
        return TradingState.objects.filter(version__gt=row.version).first() is None


@contextlib.contextmanager
def alone_on(row: TradingState) -> Iterator[None]:
    """One transaction, and nobody else in one about this version: a halt that is only told again and a resume
    that looks whether one was must come one after the other, or each finds the other not there yet."""
    with transaction.atomic():  # on SQLite the write lock is taken here, and select_for_update says nothing
        TradingState.objects.select_for_update().filter(version=row.version).first()
        yield


def ensure_first_state() -> None:
    """First start: ACTIVE where no money is at stake, HALTED in live until a person says otherwise."""
    if TradingState.objects.exists():
        return
    live = settings.APPLY_MODE == "live"
    state = State.HALTED if live else State.ACTIVE
    with contextlib.suppress(StateChanged):  # two starts at once
        change(state=state, by="start", reason=f"first start in {settings.APPLY_MODE}", cause="start", on=0)


# ---- projecting it


def renew(client: Client, state: Projection, *, lease_ms: int = LEASE_MS) -> bool:
    """Extends the lease only while the bytes there equal the database's. False: arm anew, holds first."""
    args = (state.raw, state.version, lease_ms, 0, b"")
    return bool(_PROJECT_STATE(client, keys=(settings.KEYS.trading_state,), args=args))


def project(client: Client, state: Projection, *, lease_ms: int = LEASE_MS, instead_of: bytes = b"") -> bool:
    """False: a newer version stands there, made by someone who read the database after us."""
    args = (state.raw, state.version, lease_ms, 1, instead_of)
    return bool(_PROJECT_STATE(client, keys=(settings.KEYS.trading_state,), args=args))


def arm(client: Client, *, actor: str) -> Projection:
    """Holds first, then the state: after a wipe nothing may pass that should be frozen.

    Bytes that stand there are looked up in the database after they were read, and whoever projects has committed
    before: so a version that is not there now was not made by us. It was forged, or the database was restored.
    """
    standing = _standing(client)
    denied = standing is not None and not _is_of_the_database(standing)
    if denied:
        halt(cause=TAMPERING, by=actor, reason="the trading state in Redis is not one of this database's")
        log.error("trading state in Redis was not written by us", bytes=(standing or b"")[:200])
    state = current()
    holds.project(client)
    # Also where only the script's look at the version would be misled by bytes that the database knows.
    replaced = standing if standing and (denied or _version(standing) <= state.version) else b""
    project(client, state, instead_of=replaced)
    return state


def _standing(client: Client) -> bytes | None:
    try:
        found: bytes | None = client.get(settings.KEYS.trading_state)
    except ResponseError:
        return UNREADABLE  # a value of another type
    return found


def _is_of_the_database(raw: bytes) -> bool:
    """Whether the row of that version says the same, member by member: a newer program may add some."""
    told, version = _members(raw), _version(raw)
    row = TradingState.objects.filter(version=version).first() if 0 < version <= VERSION_MAX else None
    if row is None and version != 0:
        return False
    ours = json.loads(_written(row))
    return {"state", "scope", "version"} <= told.keys() and all(
        ours[name] == told[name] for name in ours.keys() & told.keys()
    )


def _version(raw: bytes) -> int:
    found = _members(raw).get("version")
    return found if type(found) is int else -1
