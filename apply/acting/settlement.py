"""What an end came to, as one digest for the event that tells of it. The event is sealed, so the house cannot change
answer or fills afterwards without it being found. docs/audit.md has the text; tools/verify_bundle.py makes it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from decimal import Decimal
from operator import attrgetter

from quantum.amounts import plain
from quantum.exchange.types import Trade

SETTLED_AS = b"quantum-settlement-1\n"
_written = json.JSONEncoder(
    separators=(",", ":")
).encode  # json.dumps makes an encoder each time: every exit pays


def told(status: str, executed: Decimal | None, trades: Iterable[Trade] = ()) -> dict[str, str]:
    """Of exactly what is written into the order row, and of the trades that are booked with it. Not of the average
    price: the databases keep a quotient in different lengths, and it has to lie within the fills' prices."""
    fills = [_fill(trade) for trade in sorted(trades, key=attrgetter("trade_id"))]
    said = [status, None if executed is None else plain(executed), fills]
    text = SETTLED_AS + _written(said).encode()
    return {"settled": hashlib.sha256(text).hexdigest()}


def _fill(trade: Trade) -> list[str | int]:
    return [
        trade.trade_id,
        trade.order_id,
        trade.side.value,
        plain(trade.quantity),
        plain(trade.price),
        plain(trade.realized_pnl),
        plain(trade.commission),
        trade.commission_asset,
        trade.time_ms,
    ]
