"""What became of the plans of the last hour. Each question has its index and answers with few rows, however many
plans there were: the database counts, and only the last orders are looked at one by one."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from django.db.models import CharField, Count, OuterRef, Subquery
from django.db.models.functions import Cast, Substr
from msgspec import Struct, field

from apply.models import Order, Plan
from apply.plans.blocked import FREED, REFUSED, cause_of
from permits.models import Permit
from quantum import clock, live
from quantum.chain import reading

T = TypeVar("T")
MINUTES = 60
MINUTE_S, KEPT_S = 60, 3
ORDERS_LOOKED_AT = 200
UNKNOWN = Plan.State.UNKNOWN
_MINUTE = len("2026-01-31 23:59")


class Spread(Struct, frozen=True):
    """How often each number of milliseconds came."""

    counts: Mapping[int, int]

    @property
    def n(self) -> int:
        return sum(self.counts.values())

    def percentile(self, percent: int) -> int | None:
        """The smallest number that so many percent do not exceed; None where there is none at all."""
        wanted, seen = -(-self.n * percent // 100), 0
        for value in sorted(self.counts):
            seen += self.counts[value]
            if seen >= wanted:
                return value
        return None

    def over(self, limit: int) -> int:
        return sum(count for value, count in self.counts.items() if value > limit)

    def as_data(self) -> dict[str, int | None]:
        return {"n": self.n, "p50_ms": self.percentile(50), "p95_ms": self.percentile(95)}


@dataclass(slots=True)
class Minute:
    done: int = 0
    refused: int = 0
    unknown: int = 0


class Hour(Struct, frozen=True):
    states: Mapping[str, int]
    causes: Sequence[tuple[str, int]]
    """Why exits were refused, the most frequent first."""
    minutes: Sequence[Minute]
    wait: Spread
    order: Spread
    """From the plan to the request on its way, of the last orders."""
    gates: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """gate -> granted, denied."""

    @property
    def done(self) -> int:
        return sum(minute.done for minute in self.minutes)

    @property
    def refused(self) -> int:
        return sum(minute.refused for minute in self.minutes)

    @property
    def unknown(self) -> int:
        return sum(minute.unknown for minute in self.minutes)


NOT_LOOKED_AT = Hour(states={}, causes=(), minutes=(), wait=Spread({}), order=Spread({}))
"""For whoever needs the rest of the glance alone."""


def kept() -> Hour:
    """For pages that live: at most every 3 s, and in a quiet house once a minute. Whatever becomes of a plan or a
    permit writes its event in the same transaction; on PostgreSQL one may appear below another's number, which the
    next event or minute shows."""
    return kept_as("hour", lambda: look())


def kept_as(name: str, make: Callable[[], T]) -> T:
    """The same of what a page makes of them: its pictures."""
    return live.kept(f"{name}:{live.kept('hour:stand', _stand, life_s=KEPT_S)}", make, life_s=MINUTE_S)


def _stand() -> str:
    newest = reading.first("SELECT max(id) FROM quantum_auditevent")
    return f"{newest}:{clock.now():%H:%M}"


def look() -> Hour:
    now = clock.now()
    since = now - dt.timedelta(minutes=MINUTES)
    states: Counter[str] = Counter()
    causes: Counter[str] = Counter()
    minutes = [Minute() for _ in range(MINUTES + 1)]
    plans = Plan.objects.filter(created_at__gte=since).order_by()
    # A date cut by the database's own text functions: TruncMinute calls Python for each row of SQLite.
    in_minute = Substr(Cast("created_at", CharField()), 1, _MINUTE)
    grouped = plans.annotate(minute=in_minute).values_list("minute", "state", "error", "gate_reason")
    for minute, state, error, gate_reason, n in grouped.annotate(n=Count("id")):
        at = minutes[min(max(0, _minutes_ago(minute, now)), MINUTES)]
        states[state] += n
        if state in FREED:
            at.done += n
        elif state in REFUSED:
            at.refused += n
            causes[cause_of(error, gate_reason)] += n
        elif state == UNKNOWN:
            at.unknown += n
    waits = plans.filter(wait_ms__isnull=False).values_list("wait_ms").annotate(n=Count("id"))
    return Hour(
        states=states,
        causes=causes.most_common(),
        minutes=minutes[::-1],
        wait=Spread(dict(waits)),
        order=_to_order(since),
        gates=_gates(since),
    )


def _minutes_ago(minute: str, now: dt.datetime) -> int:
    at = dt.datetime.fromisoformat(minute).replace(tzinfo=dt.UTC)
    return int((now.replace(second=0, microsecond=0) - at).total_seconds() // 60)


def _to_order(since: dt.datetime) -> Spread:
    made = Plan.objects.filter(plan_id=OuterRef("plan_id")).values("created_at")[:1]
    orders = Order.objects.filter(intended_at__gte=since, sent_at__isnull=False).order_by("-intended_at")
    pairs = orders.annotate(made=Subquery(made)).values_list("sent_at", "made")[:ORDERS_LOOKED_AT]
    return Spread(
        Counter(round((sent - made).total_seconds() * 1000) for sent, made in pairs if sent and made)
    )


def _gates(since: dt.datetime) -> dict[str, tuple[int, int]]:
    found: dict[str, list[int]] = {}
    permits = Permit.objects.filter(issued_at__gte=since).order_by()
    for gate, verdict, n in permits.values_list("gate", "verdict").annotate(n=Count("id")):
        found.setdefault(gate, [0, 0])[0 if verdict else 1] += n
    return {gate: (granted, denied) for gate, (granted, denied) in sorted(found.items())}
