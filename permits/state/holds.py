"""Holds: a symbol frozen with a reason. The row is the hold; the key in Redis is its copy for the consume.

Order, everywhere: the row is committed first, then the key follows. So whatever key was seen before the rows were
read belongs to an open row or to none that will ever open again, and the projection, every other second, may
- write the key of every open row that lacks it: at worst one that was lifted since; gone with the next round;
- remove the bytes it saw where no row is open, and only those bytes: a hold placed since then has others.
An intent asks the rows themselves, so a key that lags lets no order through.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from django.conf import settings

from permits.models import Hold
from permits.policy import policies
from permits.policy.rules import Nonsense
from permits.state.freezing import drop, lift, place, written
from quantum import audit
from quantum.log import log
from quantum.redis import Client

__all__ = ["allowed", "drop_unreadable", "lift", "place", "project"]


def project(client: Client) -> None:
    """Keys first, rows after: see above. One command while nothing differs."""
    seen = _keys(client, _listed())
    opened = {hold.symbol: written(hold) for hold in Hold.objects.filter(lifted_at=None)}
    unlisted = sorted(opened.keys() - seen.keys())
    if unlisted:
        seen |= _keys(client, unlisted)
    for symbol, raw in opened.items():
        if seen[symbol] != raw:
            client.set(settings.KEYS.hold(symbol), raw)
            log.warning("hold projected", symbol=symbol)
    for symbol, found in seen.items():
        if found is not None and symbol not in opened and drop(client, symbol, found):
            _tell_removed(symbol, found)


def drop_unreadable(client: Client) -> None:
    """A value of another type freezes a symbol and looks like nothing to MGET. Asked for now and then."""
    listed = _listed()
    names = [settings.KEYS.hold(symbol) for symbol in listed]
    readable = sum(raw is not None for raw in client.mget(names))
    if client.exists(*names) <= readable:
        return
    for symbol in listed:
        if drop(client, symbol, b""):
            _tell_removed(symbol, b"")


def allowed(*, hold_id: int, symbol: str) -> bytes:
    """The bytes of that symbol's open hold if it is the one of that id, else none."""
    hold = Hold.objects.filter(pk=hold_id, symbol=symbol, lifted_at=None).first()
    return written(hold) if hold else b""


def _listed() -> list[str]:
    """Whatever may be executed. A policy that cannot be read allows nothing more than the settings."""
    try:
        return sorted({*settings.APPLY_ALLOWLIST, *policies.copy().allowlist})
    except Nonsense:
        return sorted(settings.APPLY_ALLOWLIST)


def _keys(client: Client, symbols: Iterable[str]) -> dict[str, bytes | None]:
    names = list(symbols)
    return dict(zip(names, client.mget([settings.KEYS.hold(symbol) for symbol in names]), strict=True))


def _tell_removed(symbol: str, raw: bytes) -> None:
    """The key of a lifted hold is late; any other was written by a stranger, and that is a fact to keep."""
    if _hold_id(raw) in Hold.objects.filter(symbol=symbol).values_list("pk", flat=True):
        log.info("key of a lifted hold removed", symbol=symbol)
        return
    log.error("hold in Redis was not written by us", symbol=symbol, bytes=raw[:200])
    audit.record(
        kind="hold_forged",
        actor="apply",
        symbol=symbol,
        reason="no such hold",
        data={"bytes": repr(raw[:200])},
    )


def _hold_id(raw: bytes) -> Any:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return found.get("hold_id") if isinstance(found, dict) else None
