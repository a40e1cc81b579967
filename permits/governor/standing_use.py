"""What is used of the limits now, for whoever looks: the Governor's own tally, made anew from what it is made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from permits.desk import payloads
from permits.governor import usage
from permits.governor.reservations import Book
from permits.governor.tally import Tally
from permits.policy.policy import TOTAL, Use
from quantum import clock
from quantum.redis import Client, RedisError


@dataclass(frozen=True, slots=True)
class Standing:
    in_total: Use
    by_symbol: dict[str, Use]
    reserved_known: bool
    """False: Redis does not answer, and only what was filled is counted."""


def read(client: Client, symbols: Iterable[str]) -> Standing:
    """In the Governor's order, reservations first. Changes nothing: what was lost is the Governor's to make anew."""
    tally, known = Tally(), True
    try:
        held = Book(client=client, gate=payloads.GOVERNOR).read().reservations
    except RedisError:
        held, known = {}, False
    charges = usage.Reader().new()
    for charge in charges:
        tally.charge(charge)
    tally.replace_reserved(held.values())
    now_ms = int(clock.boot_s() * 1000)  # the clock of usage.Reader
    named = {*symbols, *(charge.symbol for charge in charges), *(one.symbol for one in held.values())}
    return Standing(
        in_total=tally.use(TOTAL, now_ms=now_ms),
        by_symbol={symbol: tally.use(symbol, now_ms=now_ms) for symbol in sorted(named)},
        reserved_known=known,
    )
