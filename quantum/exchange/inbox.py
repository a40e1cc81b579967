"""What the user stream has told and nobody has taken yet: events in order, and the gaps between them.

The one promise: whatever happened at the exchange is either in here as an event or lies within a Gap.
"""

from __future__ import annotations

import threading
from collections import deque
from enum import StrEnum
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from quantum.exchange.events import Event

GAP_MARGIN_MS: Final = 5000
"""How much later than it happened the exchange may send an event: every gap begins that much earlier."""


class GapReason(StrEnum):
    STARTED = "started"
    LOST = "lost"
    """The line broke, or would not open."""
    KEY_EXPIRED = "key_expired"
    SILENT = "silent"
    """The line stood, but the other side did not answer a ping."""
    OVERFLOW = "overflow"
    UNREADABLE = "unreadable"
    """One message made no sense; the line goes on."""
    DOUBTED = "doubted"
    """Its own consumer saw by REST what the stream should have told."""


class Gap(Struct, frozen=True):
    """Events of this time may be missing: read them again by REST. All times are the exchange's.

    Told twice where the line is down: open (until_ms None) at once, and again when it is live, with
    the end. A read that is asked for after the second one covers the gap.
    """

    since_ms: int
    reason: GapReason
    until_ms: int | None = None


class Received(Struct, frozen=True):
    event: Event
    received_ms: int
    """When it reached us, by the exchange's clock as we know it."""


Item = Received | Gap


class Inbox:
    """One writer, one reader, bounded: what does not fit any more becomes a Gap, never silence."""

    def __init__(self, *, items_max: int):
        self._items: deque[Item] = deque()
        self._items_max = items_max
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item) -> Gap | None:
        """The gap that a full inbox just made of it, if it did."""
        with self._changed:
            full = len(self._items) >= self._items_max
            if full and isinstance(item, Received):
                since_ms = item.received_ms - GAP_MARGIN_MS
                item = Gap(since_ms, GapReason.OVERFLOW, item.received_ms)
            tail = self._items[-1] if self._items else None
            if full and isinstance(item, Gap) and isinstance(tail, Gap):
                # Both in one, so that not even gaps can fill the memory of a stopped reader's process.
                self._items[-1] = replace(item, since_ms=min(item.since_ms, tail.since_ms))
                return None
            self._items.append(item)
            self._changed.notify()
            return item if full and isinstance(item, Gap) else None

    def take(self, *, timeout_s: float) -> Item | None:
        """The oldest item; None when nothing came in time."""
        with self._changed:
            if not self._items:
                self._changed.wait(timeout_s)
            return self._items.popleft() if self._items else None
