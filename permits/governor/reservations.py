"""Reservations in Redis: one hash per gate, written with the permit, emptied when a plan ends.

The hash has a version that every new reservation moves. A Governor names the version it decided by, and the
issuing script refuses another: of two Governors at once, one decides again. A hash without a version was wiped.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable
from decimal import Decimal

from django.conf import settings
from msgspec import Struct

from permits.desk import payloads
from permits.desk.reserved import Reservation
from quantum import clock
from quantum.redis import Client

VERSION = "version"
VERSION_DIGITS_MAX = 18
YOUNG_MS = 1000
SPENDING_MS = 5000
"""After its permit is over or lost, so long may a pair that was spent before still become an intent."""


class InFlight(Struct, frozen=True):
    """A plan whose order may still be filled, with the Governor's permit that the intent has kept."""

    plan_id: str
    symbol: str
    quantity: Decimal
    governor_permit: str


class Plans(Struct, frozen=True):
    """What the floor that knows plans tells of them."""

    in_flight: Callable[[], Iterable[InFlight]]
    ended: Callable[[Collection[str]], Collection[str]]
    """Those of the ids that are final: whatever they were charged is written."""


_plans: list[Plans] = []


def register_plans(plans: Plans) -> None:
    """From AppConfig.ready()."""
    if _plans:
        raise ValueError("somebody tells of plans already")
    _plans.append(plans)


class Held(Struct, frozen=True):
    version: str
    """Empty where the hash was never made, or is lost."""
    reservations: dict[str, Reservation]


class Book:
    """One gate's hash."""

    def __init__(self, *, client: Client, gate: str) -> None:
        self._client = client
        self._key = settings.KEYS.reserved(gate)
        self._parsed: dict[tuple[bytes, bytes], Reservation | None] = {}
        self.unproven: frozenset[str] = frozenset()
        """In flight for longer than any exit takes, found by the last sweep: their outcome is unknown."""

    def read(self) -> Held:
        fields: dict[bytes, bytes] = self._client.hgetall(self._key)
        version = _version(fields.pop(VERSION.encode(), None))
        self._parsed = {
            field: self._parsed.get(field) or _parsed(*field) for field in fields.items()
        }  # a reservation is written once and never changed
        found = (one for one in self._parsed.values() if one is not None)
        return Held(version=version, reservations={one.plan_id: one for one in found})

    def rebuild(self, known: Iterable[Reservation]) -> None:
        """After a loss, and at a start, which may follow one. Permits are lost with the hash, so only what is in
        flight is held again, and for a moment what may have been spent just before and be about to be: whatever
        the age of its permit, for it may have waited behind another exit. The rest, and a second loss, must not
        stand in the way of the next exit (I8)."""
        now_ms = clock.now_ms()
        spent = [one for one in known if one.expires_ms > now_ms - SPENDING_MS]
        held = {one.plan_id: _until(one, min(one.expires_ms, now_ms)) for one in spent}
        held |= {one.plan_id: one for one in in_flight()}
        fields = {one.plan_id: one.text() for one in held.values()}
        # No version of before comes back, so that whoever decided by one decides again.
        fields[VERSION] = str(now_ms * 1000 + secrets.randbelow(1000))
        self._client.hset(self._key, mapping=fields)

    def sweep(self, held: Held) -> set[str]:
        """Frees what no end of a plan has freed: a permit that came after its plan's end, or one of a plan
        that apply has never seen, when it is long over."""
        now_ms = clock.now_ms()
        # Both ways: after a clock that went back it lies ahead, and must not wait until that comes again.
        old = {one.plan_id for one in held.reservations.values() if abs(now_ms - one.issued_ms) > YOUNG_MS}
        self.unproven = frozenset()
        if not old:
            return set()
        over = {one for one in old if held.reservations[one].expires_ms < now_ms - SPENDING_MS}
        if over:
            self.unproven = frozenset(over.intersection(one.plan_id for one in in_flight()))
            over -= self.unproven
        free = over.union(*(plans.ended(old) for plans in _plans))
        if free:
            self._client.hdel(self._key, *free)
        return free


def _parsed(plan_id: bytes, text: bytes) -> Reservation | None:
    return Reservation.read(plan_id.decode(errors="replace"), text.decode(errors="replace"))


def _version(raw: bytes | None) -> str:
    """One too long to be counted on is lost too: else the issuing script would fail on it for ever."""
    return raw.decode() if raw and raw.isdigit() and len(raw) <= VERSION_DIGITS_MAX else ""


def in_flight() -> list[Reservation]:
    return [_reservation(one) for plans in _plans for one in plans.in_flight()]


def _reservation(plan: InFlight) -> Reservation:
    """By the permit in the intent; one laid by hand may name no size, then the order's quantity stands."""
    now_ms = clock.now_ms()
    try:
        permit = payloads.read(plan.governor_permit.encode(), gate=payloads.GOVERNOR, all_fields=False)
    except payloads.Malformed:
        permit = None
    quantity = permit.quantity if permit and permit.quantity else plan.quantity
    notional = permit.notional if permit and permit.notional else Decimal(0)
    return Reservation(plan.plan_id, plan.symbol, quantity, notional, now_ms, now_ms)


def _until(one: Reservation, expires_ms: int) -> Reservation:
    return Reservation(one.plan_id, one.symbol, one.quantity, one.notional, one.issued_ms, expires_ms)
