"""When to look. A full look asks Redis a dozen questions; where nothing was written and nothing is in the way, two in a
quarter of a minute show whether anything is new."""

from __future__ import annotations

from collections.abc import Sequence

from django.conf import settings
from django.db.models import Max
from msgspec import Struct

from apply.alerts import conditions
from apply.alerts.conditions import Condition
from apply.glance import glance, hour
from apply.plans.blocked import BlockedTimes
from positions.reconcile import reconcile
from quantum import amounts, clock, roles
from quantum.models import AuditEvent
from quantum.redis import Client, RedisError

PEEK_EVERY_S = 15.0
LOOK_EVERY_S = 300.0
KNOWN_FOR_S = 2 * PEEK_EVERY_S


class Seen(Struct, frozen=True):
    conditions: Sequence[Condition]
    redis_answers: bool
    """False: what only Redis tells is not known, and so not over."""


class Lookout:
    def __init__(self, *, client: Client) -> None:
        self._client = client
        self._times = BlockedTimes()
        self._written: int | None = None
        self._looked_at_s = self._peeked_at_s = 0.0
        self._flows = False
        self.restless = True
        """Something is in the way, or an alert is open: every look is a full one."""

    @property
    def flows(self) -> bool:
        """Exits can leave, by a look that is not old."""
        seen_at_s = max(self._looked_at_s, self._peeked_at_s)
        return self._flows and clock.boot_s() - seen_at_s < KNOWN_FOR_S

    def look(self) -> Seen | None:
        """None: nothing is new. Raises DatabaseError, RedisError."""
        if not self._is_due():
            return None
        self.restless = True  # whatever fails from here on is asked again in the next turn
        found = glance.look(of_the_hour=hour.NOT_LOOKED_AT)
        seen = conditions.of(found, self._times)
        self._looked_at_s = clock.boot_s()
        self._flows = found.flows
        self.restless = bool(seen)
        return Seen(seen, redis_answers=found.running is not None)

    def _is_due(self) -> bool:
        written = AuditEvent.objects.aggregate(newest=Max("id"))["newest"]
        new, self._written = (
            written != self._written,
            written,
        )  # whatever happens is written there with its fact
        now_s = clock.boot_s()
        if self.restless or new or now_s - self._looked_at_s >= LOOK_EVERY_S:
            return True
        if now_s - max(self._peeked_at_s, self._looked_at_s) < PEEK_EVERY_S:
            return False
        calm = self._looks_calm()
        self._peeked_at_s = now_s if calm else self._peeked_at_s
        return not calm

    def _looks_calm(self) -> bool:
        """Every lease and the trading state stand, and the exchange was seen: by the symbol that is first."""
        keys = [*(settings.KEYS.lease(role.name) for role in roles.registered()), settings.KEYS.trading_state]
        symbol = min(reconcile.symbols(), default="")
        try:
            if None in self._client.mget(keys):
                return False
            raw = self._client.hget(settings.KEYS.snapshot(symbol), "seen_epoch") if symbol else None
        except RedisError:
            return False
        seen_s = amounts.parse(raw.decode(errors="replace")) if raw else None
        stale_s = float(settings.P33_STALE_THRESHOLD_SEC)
        return not symbol or (seen_s is not None and abs(clock.now_s() - float(seen_s)) <= stale_s)
