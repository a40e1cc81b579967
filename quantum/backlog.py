"""What waits in the plan stream, per group, and how much was parked as poison."""

from __future__ import annotations

from django.conf import settings
from msgspec import Struct
from redis.exceptions import ResponseError

from quantum import clock
from quantum.redis import Client


class Backlog(Struct, frozen=True):
    group: str
    pending: int
    """Delivered, not acknowledged."""
    lag: int | None
    """Not yet delivered; None where the server cannot tell after a trim."""
    oldest_pending_s: float


def groups(client: Client) -> list[Backlog]:
    """Every group that reads the plan stream, declared by us or not."""
    stream = settings.KEYS.plan_stream
    try:
        found = client.xinfo_groups(stream)
    except ResponseError:
        return []  # no stream yet: nothing was ever published and no consumer has started
    return [
        Backlog(
            group=_text(row["name"]),
            pending=int(row["pending"]),
            lag=None if row.get("lag") is None else int(row["lag"]),
            oldest_pending_s=_oldest_pending_s(client, stream, row) if row["pending"] else 0.0,
        )
        for row in found
    ]


def _oldest_pending_s(client: Client, stream: str, row: dict[str, bytes | str]) -> float:
    """By the time in the entry's id; 0 when it was acknowledged between the two questions."""
    oldest = client.xpending(stream, row["name"])["min"]
    return max(0.0, clock.now_s() - int(oldest.partition(b"-")[0]) / 1000) if oldest else 0.0


def dead_letters(client: Client) -> int:
    """Of every stream that has consumers of ours."""
    streams = (settings.KEYS.plan_stream, settings.KEYS.proposal_stream)
    return sum(int(client.xlen(settings.KEYS.dead_letters(stream))) for stream in streams)


def _text(name: bytes | str) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else name
