"""How long exits have been blocked: from the first plan of a symbol that was refused since the last one that filled
or found the position gone, per symbol and cause. Read from the plans' rows, beside the path.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.db.models import Max, Q, QuerySet
from msgspec import Struct
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from apply.models import PENDING_STATES, Plan
from positions.models import Balance
from quantum import clock, metrics
from quantum.reasons import ApplyReason, BrainReason, GateReason, GovernorReason

LOOK_BACK = 20_000
"""Plans that are looked through at most, by primary key; what was blocked before them counts from them on."""
SETTLED_S = 10
"""Rows do not become visible in the order of their ids: those of the last seconds are read again."""

State = Plan.State
FREED = (State.FILLED, State.PARTIALLY_FILLED, State.ALREADY_DONE)
REFUSED = (State.BLOCKED, State.EXPIRED, State.REJECTED, State.SPENT_UNSENT, State.NOT_AT_EXCHANGE)
_CAUSES = {str(token) for kind in (GateReason, ApplyReason, BrainReason, GovernorReason) for token in kind}
_GONE = Q(gate_reason=BrainReason.NO_POSITION)
_FREED = Q(state__in=FREED) | _GONE
_REFUSED = Q(state__in=REFUSED) & ~_GONE


def cause_of(error: str, gate_reason: str) -> str:
    """A gate's own reason where it said no, else the refusal's token; never a stranger's text."""
    token = gate_reason if gate_reason in _CAUSES else error.rpartition(":")[2]
    return token if token in _CAUSES else "other"


# ---- one plan


class BlockedExit(Struct, frozen=True):
    """A plan that was refused, and how long its symbol's exit was or is blocked."""

    cause: str
    since: dt.datetime
    freed_at: dt.datetime | None
    seconds: float


def of_plan(plan: Plan) -> BlockedExit | None:
    """None: this plan was not refused."""
    if plan.state not in REFUSED or plan.gate_reason == BrainReason.NO_POSITION or plan.ended_at is None:
        return None
    near = Plan.objects.filter(symbol=plan.symbol, id__gt=plan.pk - LOOK_BACK, id__lt=plan.pk + LOOK_BACK)
    before = near.filter(_FREED, id__lt=plan.pk).order_by("-id").first()
    first = near.filter(_REFUSED, id__gt=before.pk if before else 0).order_by("id").first() or plan
    after = near.filter(_FREED, id__gt=plan.pk).order_by("id").first()
    since, freed_at = first.ended_at or plan.ended_at, after.ended_at if after else None
    seconds = ((freed_at or clock.now()) - since).total_seconds()
    return BlockedExit(
        cause=cause_of(plan.error, plan.gate_reason),
        since=since,
        freed_at=freed_at,
        seconds=max(0.0, seconds),
    )


# ---- all symbols


class BlockedTimes:
    """Kept up from scrape to scrape: each plan's row is read once when it is new, and again until it is final."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read_to: int | None = None
        self._pending: set[int] = set()
        self._freed: dict[str, dt.datetime] = {}
        self._first: dict[str, dict[str, dt.datetime]] = defaultdict(dict)

    def seconds(self) -> dict[tuple[str, str], float]:
        """By symbol and cause, of what is blocked now."""
        with self._lock:
            self._refresh()
            now = clock.now()
            return {
                (symbol, cause): max(0.0, (now - at).total_seconds())
                for symbol, causes in self._first.items()
                for cause, at in causes.items()
            }

    def _refresh(self) -> None:
        newest = Plan.objects.aggregate(newest=Max("id"))["newest"] or 0
        if self._read_to is None:
            self._read_to = max(0, newest - LOOK_BACK)
        known = sorted(self._pending)
        self._take_in(Plan.objects.filter(id__in=known) if known else Plan.objects.none())
        self._take_in(Plan.objects.filter(id__gt=max(self._read_to, newest - LOOK_BACK)))
        flat = Balance.objects.filter(account=settings.ACCOUNT, amount=0).values_list("symbol", flat=True)
        for symbol in flat:
            self._free(symbol, clock.now())  # closed by whatever means: nothing is left to exit

    def _take_in(self, plans: QuerySet[Plan]) -> None:
        """In any order and as often as you like: only the times of the rows decide."""
        settled = clock.now() - dt.timedelta(seconds=SETTLED_S)
        fields = ("id", "symbol", "state", "error", "gate_reason", "ended_at", "created_at")
        for pk, symbol, state, error, gate_reason, ended_at, created_at in plans.order_by("id").values_list(
            *fields
        ):
            if state in PENDING_STATES:
                self._pending.add(pk)
            else:
                self._pending.discard(pk)
                self._count(symbol, state, error, gate_reason, ended_at)
            if created_at < settled:
                self._read_to = max(self._read_to or 0, pk)

    def _count(self, symbol: str, state: str, error: str, gate_reason: str, at: dt.datetime | None) -> None:
        if at is None:
            return
        if state in FREED or gate_reason == BrainReason.NO_POSITION:
            self._free(symbol, at)
        elif state in REFUSED and (symbol not in self._freed or at > self._freed[symbol]):
            causes, cause = self._first[symbol], cause_of(error, gate_reason)
            causes[cause] = min(at, causes.get(cause, at))

    def _free(self, symbol: str, at: dt.datetime) -> None:
        self._freed[symbol] = max(at, self._freed.get(symbol, at))
        left = {
            cause: since
            for cause, since in self._first.pop(symbol, {}).items()
            if since > self._freed[symbol]
        }
        if left:
            self._first[symbol] = left


_times = BlockedTimes()


def read() -> Iterator[Metric]:
    gauge = GaugeMetricFamily(
        "quantum_exit_blocked_seconds",
        "Since the first refused exit of a symbol that was not followed by one that filled",
        labels=["symbol", "cause"],
    )
    longest: dict[tuple[str, str], float] = {}
    for (symbol, cause), seconds in _times.seconds().items():
        label = (metrics.symbol_label(symbol), cause)
        longest[label] = max(seconds, longest.get(label, 0.0))
    for labels, seconds in longest.items():
        gauge.add_metric(list(labels), seconds)
    yield gauge


def as_data(plan: Plan) -> dict[str, Any] | None:
    found = of_plan(plan)
    if found is None:
        return None
    return {
        "cause": found.cause,
        "since": found.since.isoformat(),
        "freed_at": found.freed_at.isoformat() if found.freed_at else None,
        "seconds": round(found.seconds, 3),
    }
