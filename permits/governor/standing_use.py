"""What is used of the limits now, for whoever looks: what was executed, and what permits that live have reserved."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from permits.desk import payloads
from permits.desk.reserved import Reservation
from permits.governor import spent
from permits.governor.reservations import Book
from permits.models import Usage
from permits.policy.policy import TOTAL, Use
from quantum.redis import Client, RedisError


class Standing(Struct, frozen=True):
    in_total: Use
    by_symbol: dict[str, Use]
    reserved_known: bool
    """False: Redis does not answer, and only what was filled is counted."""


def read(client: Client, symbols: Iterable[str]) -> Standing:
    """In the Governor's order, reservations first. Changes nothing: what was lost is the Governor's to make anew."""
    known = True
    try:
        held = Book(client=client, gate=payloads.GOVERNOR).read().reservations
    except RedisError:
        held, known = {}, False
    charged = set(Usage.objects.filter(plan_id__in=held).values_list("plan_id", flat=True))
    used = {symbol: Use() for symbol in sorted(symbols)} | spent.used()
    for one in held.values():
        if one.plan_id not in charged:  # it ended in between, and counts as what it came to
            for scope in (one.symbol, TOTAL):
                used[scope] = _with(used.get(scope, Use()), one)
    in_total = used.pop(TOTAL)
    return Standing(in_total=in_total, by_symbol=dict(sorted(used.items())), reserved_known=known)


def _with(use: Use, one: Reservation) -> Use:
    return replace(
        use,
        permits_5min=use.permits_5min + 1,
        permits_hour=use.permits_hour + 1,
        notional_day=use.notional_day + one.notional,
        quantity_day=use.quantity_day + one.quantity,
        in_flight=use.in_flight + 1,
    )
