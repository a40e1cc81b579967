"""What this process could not do a moment ago because its database could not be used: told with its role's heartbeat,
so that health is red before somebody misses an exit. One role per process, so one note per process."""

from __future__ import annotations

from msgspec import Struct

from quantum import clock

STANDS_S = 30.0
"""Longer than an entry waits to be tried again: one that goes on failing goes on being told."""


class _Noted(Struct, frozen=True):
    what: str
    at_s: float


_last: _Noted | None = None


def note(error: Exception) -> None:
    """The kind of error alone: its text may carry values, and everybody may read /healthz."""
    global _last
    _last = _Noted(what=f"database: {type(error).__name__}", at_s=clock.boot_s())


def now() -> str:
    """Empty: nothing that is known."""
    last = _last
    return last.what if last is not None and clock.boot_s() - last.at_s < STANDS_S else ""
