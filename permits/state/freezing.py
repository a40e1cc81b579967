"""The rows of holds, and their bytes; placing and lifting by a person. What freezes by itself (drift) writes rows
only: apply projects the keys.

Apart from holds.py because the Brain's side may not lean on the policy, which the projection reads.
"""

from __future__ import annotations

import json
from pathlib import Path

from django.conf import settings
from django.db import transaction

from permits.models import Hold
from quantum import audit, clock
from quantum.redis import Client, Script

DRIFT = "p33"
"""Who freezes by itself, and lifts that by itself when ledger and exchange agree again."""

_DROP = Script(Path(__file__).parent / "lua" / "drop_hold-1.lua")


def freeze(*, symbol: str, by: str, reason: str) -> tuple[Hold, bool]:
    """Inside the caller's transaction. False: it was frozen already, and the first hold stays as it is."""
    hold, made = Hold.objects.get_or_create(
        symbol=symbol, lifted_at=None, defaults={"by": by, "reason": reason}
    )
    if made:
        audit.record(kind="hold_placed", actor=by, symbol=symbol, reason=reason, data={"hold": hold.pk})
    return hold, made


def thaw(*, hold_id: int, by: str, reason: str) -> Hold | None:
    """Inside the caller's transaction. None: that hold was lifted before. Another one of its symbol stays."""
    open_one = Hold.objects.filter(pk=hold_id, lifted_at=None)
    hold = open_one.first()
    if hold is None or not open_one.update(lifted_at=clock.now(), lifted_by=by, lifted_reason=reason):
        return None
    audit.record(kind="hold_lifted", actor=by, symbol=hold.symbol, reason=reason, data={"hold": hold.pk})
    return hold


def written(hold: Hold) -> bytes:
    """The one serialisation in the hold's key."""
    members = {"hold_id": hold.pk, "reason": hold.reason, "by": hold.by, "since": hold.since.timestamp()}
    return json.dumps(members, separators=(",", ":")).encode()


def drop(client: Client, symbol: str, raw: bytes) -> bool:
    """Remove the key while it has these bytes, and no others: a hold placed since has its own."""
    return bool(_DROP(client, keys=(settings.KEYS.hold(symbol),), args=(raw,)))


def place(client: Client, *, symbol: str, by: str, reason: str) -> Hold:
    """Placing twice keeps the first, except that a person takes over the hold of a drift: it would end with the
    incident, and he wants it to stay. Raises RedisError once the row stands: the projection brings the key."""
    with transaction.atomic():
        automatic = Hold.objects.filter(symbol=symbol, lifted_at=None, by=DRIFT).first()
        if automatic is not None:
            thaw(hold_id=automatic.pk, by=by, reason=f"taken over: {reason}"[:400])
        hold, _ = freeze(symbol=symbol, by=by, reason=reason)
    client.set(settings.KEYS.hold(symbol), written(hold))
    return hold


def lift(client: Client, *, symbol: str, by: str, reason: str) -> bool:
    """Raises RedisError once the row is lifted: the projection removes the key. Nothing passes before."""
    hold = Hold.objects.filter(symbol=symbol, lifted_at=None).first()
    return hold is not None and release(client, hold=hold, by=by, reason=reason)


def release(client: Client, *, hold: Hold, by: str, reason: str) -> bool:
    """That hold, and none that was placed since. Like lift."""
    with transaction.atomic():
        lifted = thaw(hold_id=hold.pk, by=by, reason=reason)
    drop(client, hold.symbol, written(hold))
    return lifted is not None
