"""The seam of time. Nothing else in the tree asks what time it is."""

from __future__ import annotations

import datetime as dt
import time


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def now_s() -> float:
    return time.time()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def from_ms(ms: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC)


def monotonic_ms() -> float:
    """For deadlines inside one process; a jump of the wall clock does not move it."""
    return time.monotonic() * 1000


def monotonic_s() -> float:
    return time.monotonic()


def boot_s() -> float:
    """Counts on while the machine sleeps: a lease that slept through its life is over."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def sleep_s(seconds: float) -> None:
    time.sleep(seconds)
