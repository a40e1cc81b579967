"""What the Governor's limits need to know of a plan's size: position and mark price, from the feed's snapshot.

Copies are kept warm between plans: a read on the path cost 0.6 ms there, while three processes wake at once. A
decision names the position it rests on, and is only written if that one still stands (issue-5.lua).
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_UP, Decimal

from django.conf import settings
from msgspec import Struct
from msgspec.structs import replace

from quantum import amounts, clock
from quantum.plan import ExitPlan
from quantum.redis import Client, RedisError

_QUANTITY, _USD = Decimal("1E-12"), Decimal("1E-8")
WAKE_EVERY_S, WAKE_LIFE_S = 1.0, 10
"""Once a second at most: a feed that is down must not make the Governor slow for everybody."""
SECOND_LOOKS_S = (0.01, 0.02, 0.05, 0.1)
COPY_EVERY_S, COPY_LATE_S = 3.0, 2.0
"""A copy is at most their sum old. Once a second would be a command per symbol and second in an idle house."""
MOVED_S = 0.5
COPIES_MAX = 500
_FIELDS = ("position_amt", "mark_price", "seen_epoch", "ts_epoch")


class Size(Struct, frozen=True):
    """The most a plan can close. None where it cannot be known, and `missing` says why."""

    quantity: Decimal | None = None
    notional: Decimal | None = None
    missing: str = ""
    position: bytes = b""
    """As it was told. Also of a fresh read: a database that is asked in between may take a second."""
    copied: bool = False
    """Of a copy and no fresh read: no denial may rest on its mark price."""


class Snapshots:
    def __init__(self, *, client: Client) -> None:
        self._client = client
        self._next_wake_s = 0.0
        self._copies: dict[str, list[bytes | None]] = {}
        self._due_s: dict[str, float] = {}

    def warm(self, symbols: Iterable[str]) -> None:
        """Between plans: what is due, in one trip."""
        now_s = clock.boot_s()
        due = [symbol for symbol in symbols if self._due_s.get(symbol, 0.0) <= now_s][:COPIES_MAX]
        if not due:
            return
        pipeline = self._client.pipeline(transaction=False)
        for symbol in due:
            pipeline.hmget(settings.KEYS.snapshot(symbol), _FIELDS)
        try:
            # One key that is no hash must not cost all the others their copies.
            found = pipeline.execute(raise_on_error=False)
        except RedisError:
            return
        for symbol, copy in zip(due, found, strict=True):
            self._copies.pop(symbol, None)
            self._due_s[symbol] = now_s + COPY_EVERY_S
            if isinstance(copy, list):
                self._copies[symbol] = copy

    def forget(self, symbol: str) -> None:
        """It moves, or has moved: an exit of it was let pass just now."""
        self._copies.pop(symbol, None)
        self._due_s[symbol] = clock.boot_s() + MOVED_S

    def size_of(self, plan: ExitPlan) -> Size:
        """Of the copy if it is young and holds a size. Flat is none: an exit that comes after a fresh entry
        would be measured by the moment before it."""
        copy = self._copies.get(plan.symbol)
        if copy is not None and clock.boot_s() < self._due_s[plan.symbol] + COPY_LATE_S:
            size = _size(plan, copy)
            if size.notional:
                return replace(size, copied=True)
        return self._read_now(plan)

    def _read_now(self, plan: ExitPlan) -> Size:
        """One read; after a wipe the feed is asked to tell anew, and gets a moment for it."""
        raw = self._read(plan.symbol)
        if raw[0] is None and clock.boot_s() >= self._next_wake_s:
            self._next_wake_s = clock.boot_s() + WAKE_EVERY_S
            self._client.rpush(settings.KEYS.feed_wake, "1")
            self._client.expire(settings.KEYS.feed_wake, WAKE_LIFE_S)
            for pause_s in SECOND_LOOKS_S:
                clock.sleep_s(pause_s)
                raw = self._read(plan.symbol)
                if raw[0] is not None:
                    break
        return _size(plan, raw)

    def _read(self, symbol: str) -> list[bytes | None]:
        found: list[bytes | None] = self._client.hmget(settings.KEYS.snapshot(symbol), _FIELDS)
        return found


def age_of(seen_s: Decimal | None, told_s: Decimal | None) -> Decimal | None:
    """By our own clock where the feed says it (`seen_epoch`), else by the exchange's (`ts_epoch`). Both ways: a
    time that lies ahead would stay fresh for ever."""
    at_s = seen_s if seen_s is not None else told_s
    return None if at_s is None else abs(Decimal(clock.now_ms()) / 1000 - at_s)


def _size(plan: ExitPlan, raw: list[bytes | None]) -> Size:
    """Old or unreadable is not a size (I12); flat is one, of zero."""
    amount, mark, seen, told = (
        None if one is None else amounts.parse(one.decode(errors="replace")) for one in raw
    )
    if amount is None:
        return Size(missing=f"no snapshot of {plan.symbol}")
    age_s = age_of(seen, told)
    if age_s is None or age_s > settings.P33_STALE_THRESHOLD_SEC:
        limit_s = settings.P33_STALE_THRESHOLD_SEC
        return Size(missing=f"snapshot of {plan.symbol} is {age_s} s old, the limit is {limit_s} s")
    position = raw[0] or b""
    percent = plan.step.percent if plan.step else 0
    quantity = (abs(amount) * percent / 100).quantize(_QUANTITY, rounding=ROUND_UP)
    if not quantity:
        return Size(quantity=Decimal(0), notional=Decimal(0), position=position)
    if mark is None or mark <= 0:
        return Size(quantity=quantity, missing=f"no mark price of {plan.symbol}", position=position)
    notional = (quantity * mark).quantize(_USD, rounding=ROUND_UP)
    return Size(quantity=quantity, notional=notional, position=position)
