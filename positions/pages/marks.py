"""What a page showed, signed, so that an act on it can be bound to it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from django.conf import settings
from django.core import signing
from msgspec import Struct

from positions.reconcile.reconcile import Line, Record, Seen
from quantum import amounts

SALT = "positions.pages"
LIFE_S = 900
"""A page left open for longer is a page that nobody looks at."""


class Mark(Struct, frozen=True):
    symbol: str
    exchange: Decimal | None
    version: int | None
    hold_id: int | None
    incidents: frozenset[int]
    requests: frozenset[int]

    @property
    def seen(self) -> Seen | None:
        """None: no amount of the exchange was shown, so none can be decided on."""
        if self.exchange is None:
            return None
        return Seen(symbol=self.symbol, exchange=self.exchange, version=self.version)


def made(record: Record, line: Line | None, requests: Sequence[int]) -> str:
    return signing.dumps(
        {
            "account": settings.ACCOUNT,
            "mode": settings.APPLY_MODE,
            "symbol": record.symbol,
            "exchange": amounts.plain(line.exchange) if line else None,
            "version": line.version if line else None,
            "hold": record.hold.pk if record.hold else None,
            "incidents": [each.pk for each in record.incidents],
            "requests": list(requests),
        },
        salt=SALT,
    )


def of_many(lines: Sequence[Line]) -> str:
    """Of a page that shows several symbols to be adopted together."""
    seen = {line.symbol: [amounts.plain(line.exchange), line.version] for line in lines}
    said = {"account": settings.ACCOUNT, "mode": settings.APPLY_MODE, "several": seen}
    return signing.dumps(said, salt=SALT)


def read_many(text: str) -> dict[str, Seen] | None:
    """None: not of our making, of another account or mode, or too old."""
    try:
        said: dict[str, Any] = signing.loads(text, salt=SALT, max_age=LIFE_S)
        if (said["account"], said["mode"]) != (settings.ACCOUNT, settings.APPLY_MODE):
            return None
        shown = said["several"].items()
        return {name: Seen(symbol=name, exchange=Decimal(held), version=at) for name, (held, at) in shown}
    except (signing.BadSignature, KeyError, InvalidOperation):
        return None


def read(text: str, *, symbol: str) -> Mark | None:
    """None: not of our making, of another symbol, account or mode, or too old."""
    try:
        said: dict[str, Any] = signing.loads(text, salt=SALT, max_age=LIFE_S)
        if (said["account"], said["mode"], said["symbol"]) != (settings.ACCOUNT, settings.APPLY_MODE, symbol):
            return None
        return Mark(
            symbol=symbol,
            exchange=None if said["exchange"] is None else Decimal(said["exchange"]),
            version=said["version"],
            hold_id=said["hold"],
            incidents=frozenset(said["incidents"]),
            requests=frozenset(said["requests"]),
        )
    except (signing.BadSignature, KeyError, InvalidOperation):
        return None
