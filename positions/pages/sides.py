"""Both sides of symbols as the pages show them. Whether they agree and how well the feed is are two things, and are
never shown as one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal

from django.utils.html import format_html
from django.utils.safestring import SafeString
from msgspec import Struct

from positions.books import agreed
from positions.reconcile import reconcile
from positions.reconcile.reconcile import Line, Record, State
from quantum import amounts, charts, clock, facts
from quantum.redis import RedisError, command_client

TONES = {State.MATCH: "good", State.DRIFT: "bad", State.IN_FLIGHT: "calm"}
HEALTH = {"good": "fresh", "warn": "ageing", "bad": "stale"}
WORST_FIRST = (State.DRIFT, State.UNKNOWN, State.STALE, State.IN_FLIGHT, State.MATCH)
NO_REDIS = "Redis gave no answer: what the exchange holds is not known."

_BAND = (
    '<svg class="band" viewBox="0 0 100 14" role="img" aria-label="{} of {} allowed">'
    '<rect class="room" x="25" y="2" width="50" height="10" rx="5"/>'
    '<line class="ground" x1="50" x2="50" y1="0" y2="14"/><circle{} cx="{}" cy="7" r="4"/></svg>'
)


def tone(line: Line | None) -> str:
    """Of whether both sides agree. That they did, some seconds ago, is not told in green."""
    found = TONES.get(line.state, "warn") if line else "warn"
    return "calm" if line and found == "good" and facts.tone_of_age(line.age_s) != "good" else found


def apart(line: Line) -> Decimal:
    return line.exchange - (line.ledger or 0)


def signed(amount: Decimal) -> str:
    return f"{'+' if amount > 0 else ''}{amounts.plain(amount)}"


def band(line: Line) -> SafeString:
    """Where the difference lies within what is tolerated, drawn: other colours beyond it, and by an old read."""
    at, beyond = charts.in_band(apart(line), tolerance=line.tolerance)
    old = facts.tone_of_age(line.age_s) != "good"
    tone = SafeString(' class="over"' if beyond else ' class="old"' if old else "")
    return format_html(_BAND, signed(apart(line)), amounts.plain(line.tolerance), tone, at)


class Row(Struct, frozen=True):
    """One symbol. line None: what the exchange holds is not known, which is not zero."""

    record: Record
    line: Line | None
    agreed_at: dt.datetime | None

    @property
    def state(self) -> State:
        return self.line.state if self.line else State.UNKNOWN

    @property
    def state_chip(self) -> SafeString:
        return facts.chip(self.state.value.replace("_", " "), tone=tone(self.line))

    @property
    def feed_chip(self) -> SafeString:
        """How well the feed of this symbol is, whatever the numbers say."""
        if self.line is None:
            return facts.chip("no read", tone="bad")
        found = facts.tone_of_age(self.line.age_s)
        return facts.chip(f"{HEALTH[found]}, {self.age}", tone=found)

    @property
    def is_old(self) -> bool:
        return self.line is not None and facts.tone_of_age(self.line.age_s) == "bad"

    @property
    def exchange(self) -> str:
        return amounts.plain(self.line.exchange) if self.line else "unknown"

    @property
    def ledger(self) -> str:
        balance = self.record.balance
        return "never entered" if balance is None else amounts.plain(balance.amount)

    @property
    def apart(self) -> Decimal | None:
        return apart(self.line) if self.line else None

    @property
    def difference(self) -> str:
        return "unknown" if self.apart is None else signed(self.apart)

    @property
    def band(self) -> str:
        return band(self.line) if self.line else ""

    @property
    def ledger_when_closed(self) -> str:
        return amounts.plain(-self.apart) if self.apart is not None else "unknown"

    @property
    def tolerance(self) -> str:
        return amounts.plain(self.line.tolerance) if self.line else "unknown"

    @property
    def age(self) -> str:
        if self.line is None:
            return "no read"
        ahead = self.line.age_s < 0 and self.is_old
        return "a moment that is to come" if ahead else f"{max(self.line.age_s, Decimal(0)):.1f} s ago"

    @property
    def agreed(self) -> str:
        if self.state is State.MATCH and self.line:
            return facts.moment(clock.from_ms(self.line.asked_ms))
        return facts.moment(self.agreed_at) if self.agreed_at else facts.NOTHING

    @property
    def agreed_ago(self) -> str:
        if self.state is State.MATCH:
            return "now"
        return facts.age(self.agreed_at) if self.agreed_at else facts.NOTHING

    @property
    def order(self) -> str:
        """The order in flight, and for how long."""
        return f"{self.record.locked_s:.0f} s" if self.record.lock else ""

    @property
    def order_is_late(self) -> bool:
        return self.record.locked_s >= reconcile.LONG_LOCK_S

    @property
    def stands(self) -> dict[str, str]:
        """What a decision would stand on, for an address."""
        if self.line is None:
            return {"exchange": "", "version": ""}
        return {"exchange": self.exchange, "version": str(self.line.version or 0)}


def rows(names: Sequence[str]) -> tuple[list[Row], str]:
    """As p33 left it last, and what kept the exchange's side from being read, in words."""
    problem = ""
    try:
        found = reconcile.stand_recorded(command_client(), names=names)
    except RedisError:
        found, problem = [(record, None) for record in reconcile.records(names).values()], NO_REDIS
    at = agreed.last(names)
    return [Row(record, line, at.get(record.symbol)) for record, line in found], problem


def feed(found: Sequence[Row], *, problem: str) -> SafeString:
    """Of the feed as a whole: its oldest read."""
    ages = [row.line.age_s for row in found if row.line]
    if not ages:
        return facts.chip("no read of the exchange", tone="bad")
    oldest = max(ages, key=abs)
    health = "bad" if problem else facts.tone_of_age(oldest)
    if health == "bad":
        return facts.chip(f"stale, oldest read {oldest:.0f} s ago", tone="bad")
    return facts.chip(f"{HEALTH[health]}, oldest read {max(oldest, Decimal(0)):.1f} s ago", tone=health)
