"""How the chain stands now, by few indexed questions: for doctor, the page and the gauges."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from msgspec import Struct
from prometheus_client import Metric

from quantum import clock
from quantum.chain import reading
from quantum.gauges import gauge
from quantum.models import AuditEvent, Verification

BEHIND_S = 30.0
"""The sealer comes every second; an event that waits this long is not going to be sealed by itself."""
COUNTED_MOST = 10_000


class Tail(Struct, frozen=True):
    """Events in no seal."""

    count: int
    oldest_at: dt.datetime | None = None

    @property
    def oldest_s(self) -> float | None:
        return None if self.oldest_at is None else (clock.now() - self.oldest_at).total_seconds()

    @property
    def behind(self) -> bool:
        return self.oldest_s is not None and self.oldest_s > BEHIND_S


class Standing(Struct, frozen=True):
    seal: reading.StoredSeal | None
    tail: Tail
    verified: Verification | None

    @property
    def sealed_at(self) -> dt.datetime | None:
        return clock.from_ms(int(self.seal.at_us) // 1000) if self.seal else None


def now() -> Standing:
    return Standing(reading.seal(last_number()), unsealed(), Verification.objects.first())


def broken() -> Verification | None:
    """The last look at the chain, if it found it broken."""
    last = Verification.objects.first()
    return last if last is not None and last.outcome == "broken" else None


def last_number() -> int:
    return int(reading.first("SELECT max(number) FROM quantum_seal") or 0)


def total_at(number: int) -> int:
    return int(reading.first("SELECT total FROM quantum_seal WHERE number = %s", [number]) or 0)


def any_event() -> bool:
    return AuditEvent.objects.exists()


def unsealed() -> Tail:
    """Those after the newest sealed one, counted to a number. What committed late is the sweep's to find."""
    newest = int(reading.first("SELECT max(event_id) FROM quantum_sealedevent") or 0)
    found = AuditEvent.objects.filter(id__gt=newest).order_by("id")
    count = found[: COUNTED_MOST + 1].count()
    return Tail(count, found.values_list("at", flat=True).first() if count else None)


def unsealed_in_all() -> Tail:
    count, oldest = reading.unsealed_in_all()
    if oldest is None:
        return Tail(0)
    return Tail(count, AuditEvent.objects.filter(id=oldest).values_list("at", flat=True).first())


def gauges() -> Iterator[Metric]:
    found = now()
    yield gauge("quantum_audit_unsealed", "Audit events that lie in no seal yet", found.tail.count)
    yield gauge("quantum_audit_unsealed_oldest_seconds", "Age of the oldest", found.tail.oldest_s or 0)
    yield gauge(
        "quantum_audit_broken", "1 where the last audit_verify found the chain broken", broken() is not None
    )
