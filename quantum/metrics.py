"""Metrics of the kernel, and the multi-process folder that lets the web port show all processes."""

from __future__ import annotations

import os
from collections.abc import Iterable

from django.conf import settings

# Must be set before prometheus_client is imported anywhere: every process writes its values into
# this folder and the web process adds them up.
_FOLDER = settings.VAR_DIR / "metrics"
_ROOM_BYTES = 4 * 1024 * 1024
"""Its files are mapped into memory: where the disk has no block left, the first value ends the process by SIGBUS."""


def _has_room() -> bool:
    try:
        _FOLDER.mkdir(parents=True, exist_ok=True)
        disk = os.statvfs(_FOLDER)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize >= _ROOM_BYTES


# A folder that cannot be written is told by whoever needs it, in words; here it only costs the sums.
if _has_room():
    os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", str(_FOLDER))
else:
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, Metric, multiprocess  # noqa: E402
from prometheus_client.registry import Collector  # noqa: E402

LATENCY_BUCKETS = (
    0.001,
    0.002,
    0.004,
    0.006,
    0.008,
    0.01,
    0.015,
    0.02,
    0.03,
    0.05,
    0.1,
    0.2,
    0.4,
    0.8,
    1.2,
    2.5,
    5,
)

HANDLER_FAILURES = Counter("quantum_handler_failures_total", "Entries whose handling failed", ["group"])
DEAD_LETTERS = Counter("quantum_dead_letters_total", "Entries parked as poison", ["group"])


def symbol_label(symbol: str) -> str:
    """A stranger's plans must not be able to make a time series each."""
    return symbol if symbol in settings.APPLY_ALLOWLIST else "other"


def histogram(name: str, text: str) -> Histogram:
    return Histogram(name, text, buckets=LATENCY_BUCKETS)


class _OwnAlone(Collector):
    def collect(self) -> Iterable[Metric]:
        return REGISTRY.collect()


def registry() -> CollectorRegistry:
    """Adds up the values of all processes; without a folder it has this one's alone. Made anew for each scrape: whoever
    asks adds to it what it reads then."""
    made = CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        made.register(_OwnAlone())
        return made
    multiprocess.MultiProcessCollector(made)  # type: ignore[no-untyped-call]
    return made
