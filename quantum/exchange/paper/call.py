"""One request to an endpoint, and how its parameters are read."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from quantum.exchange.paper.errors import ApiError
from quantum.exchange.paper.orders import required
from quantum.exchange.paper.store import Received
from quantum.exchange.paper.venue import AT_ONCE, FillWay, Venue
from quantum.exchange.paper.weights import LIMITS

Params = Mapping[str, str]


class Call(Struct, frozen=True):
    """One request, authenticated, with the time it came in."""

    venue: Venue
    params: Params
    now_ms: int
    received: Received
    way: FillWay = AT_ONCE
    limits: Mapping[str, int] = field(default_factory=lambda: LIMITS)


def symbols_of(call: Call, wanted: str | None) -> list[str]:
    listings = call.venue.market.listings
    if wanted is None:
        return list(listings)
    if wanted not in listings:
        raise ApiError(-1121)
    return [wanted]


def whole(call: Call, name: str) -> int:
    text = required(call.params, name)
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ApiError(-1102, name)
    return int(text)


def limit_of(call: Call, *, default: int, most: int) -> int:
    limit = whole(call, "limit") if "limit" in call.params else default
    if not 1 <= limit <= most:
        raise ApiError(-1102, "limit")
    return limit
