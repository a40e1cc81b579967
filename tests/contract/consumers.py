"""Consumers in threads on a stream of their own, for tests of the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest
from django.conf import settings
from redis.exceptions import ResponseError

from quantum import stream
from quantum.redis import Client
from quantum.stream import Consumer, Entry, Handler
from tests.house import Terms, wait_for

STREAM, GROUP = "quantum:stream:tests", "apply"
DEAD = settings.KEYS.dead_letters(STREAM)


class Running:
    """A consumer in a thread, what it was handed, and its end."""

    def __init__(self, *, name: str = "apply-test", handle: Handler | None = None, **options: Any) -> None:
        self.seen: list[bytes] = []
        self.terms = Terms("apply")
        self.terms.consumer = name
        self._handle = handle
        options = {"block_ms": 50, "reclaim_idle_ms": 0} | options
        self.consumer = Consumer(
            terms=self.terms, stream=STREAM, group=GROUP, handle=self._handled, **options
        )
        self._threads = ThreadPoolExecutor(1)
        self._loop: Future[None] = Future()

    def _handled(self, entry: Entry) -> bool:
        self.seen.append(entry.fields[b"n"])
        return True if self._handle is None else self._handle(entry)

    def start(self) -> Running:
        self._loop = self._threads.submit(self.consumer.run)
        return self

    @property
    def alive(self) -> bool:
        return not self._loop.done()

    def stop(self) -> None:
        self.terms.stopping = True
        wait([self._loop], 8)
        assert not self.alive, "the loop did not end"


@pytest.fixture
def consume(redis: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Running]]:
    """Starts consumers and ends them all; reclaims come quickly."""
    monkeypatch.setattr(stream, "RECLAIM_EVERY_S", 0.05)
    running: list[Running] = []

    def begin(**options: Any) -> Running:
        running.append(Running(**options))
        return running[-1].start()

    yield begin
    for each in running:
        each.stop()


def add(redis: Client, *numbers: int) -> list[bytes]:
    return [redis.xadd(STREAM, {"n": number}) for number in numbers]


def pending(redis: Client) -> int:
    """-1 while the consumer has not made its group yet."""
    try:
        return int(redis.xpending(STREAM, GROUP)["pending"])
    except ResponseError:
        return -1


def left_by(redis: Client, consumer: str, *numbers: int) -> list[bytes]:
    """Entries that a consumer had in its hands when it died."""
    if not redis.exists(STREAM):
        redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    ids = add(redis, *numbers)
    redis.xreadgroup(GROUP, consumer, {STREAM: ">"})
    return ids


def all_acknowledged(redis: Client) -> None:
    wait_for(lambda: pending(redis) == 0, what="all entries to be acknowledged")
