"""Parts of pages that live: one look is made for all who look."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from django.core.cache import caches
from django.http import HttpResponse
from msgspec import Struct

from quantum import clock

T = TypeVar("T")
FRESH_MS = 1600
"""More than half of what a page waits: whoever asks between two looks of others is given theirs, and asks with them
from then on. So five viewers cost one look in 3 s, whenever each of them came."""
LIFE_S = 4
MAKING_S = 3
LOOKS, STEP_S = 5, 0.05
"""So often whoever comes while one is made looks whether it is there: told the one before, he would come again."""
_WAITING = threading.BoundedSemaphore(2)
"""Of the web process's four threads: a making that takes long must not keep a person from his act."""


class Part(Struct, frozen=True):
    html: str
    age_ms: int


def shared(name: str, make: Callable[[], str]) -> Part:
    """What `make` wrote a moment ago, for everybody who may see the same. While one makes it anew the others
    wait for it a moment, else get the one before, and are told its age. `name` says everything that shaped it, the
    viewer's permissions included. A cache that is away costs a making for each look, and nothing else."""
    cache, key = caches["pages"], f"part:{name}"
    found = cache.get(key)
    if found is not None:
        if _age_ms(found) < FRESH_MS:
            return Part(found[1], _age_ms(found))
        if not cache.add(f"{key}:making", 1, timeout=MAKING_S):
            found = _awaited(key, found)
            return Part(found[1], _age_ms(found))
    began_ms = clock.now_ms()
    html = make()
    cache.set(key, (began_ms, html), timeout=LIFE_S)
    cache.delete(f"{key}:making")
    return Part(html, clock.now_ms() - began_ms)


def _age_ms(found: Any) -> int:
    return max(0, clock.now_ms() - int(found[0]))


def _awaited(key: str, before: Any) -> Any:
    """The one that is being made, if it comes soon; else the one before."""
    if not _WAITING.acquire(blocking=False):
        return before
    try:
        for _ in range(LOOKS):
            clock.sleep_s(STEP_S)
            found = caches["pages"].get(key)
            if found is not None and found != before:
                return found
    finally:
        _WAITING.release()
    return before


def kept(name: str, make: Callable[[], T], *, life_s: int) -> T:
    """Figures that cost more than they change: of a whole hour, say. For parts, never for acts."""
    cache, key = caches["pages"], f"kept:{name}"
    found: T | None = cache.get(key)
    if found is None:
        found = make()
        cache.set(key, found, timeout=life_s)
    return found


def answer(part: Part) -> HttpResponse:
    """What live.js fetches."""
    response = HttpResponse(part.html)
    response["X-Age-Ms"] = str(part.age_ms)
    return response
