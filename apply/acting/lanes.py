"""Lanes: plans of one symbol run one at a time and in order; symbols run in parallel.

A wait occupies a cheap thread with no database connection; intent, order and settling take one of
at most 16 sender threads, which keep theirs. A job that fails leaves its entry pending: the stream
brings it again and the recovery table decides.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from django.db import Error as DatabaseError

from quantum import ailing, rows
from quantum.log import log

WAITERS_MAX = 256
SENDERS_MAX = 16

After = Callable[[], None]
Wait = Callable[[], After | None]
"""A wait returns what a sender does next, or None when it was told to stop."""


class Lanes:
    def __init__(self) -> None:
        self._waiters = ThreadPoolExecutor(WAITERS_MAX, thread_name_prefix="wait")
        self._senders = ThreadPoolExecutor(SENDERS_MAX, thread_name_prefix="send")
        self._lock = threading.Lock()
        self._queued: dict[str, deque[tuple[Wait, After]]] = {}
        self._closed = False

    def put(self, symbol: str, wait: Wait, *, done: After) -> None:
        """done is called when the job has left its lane, however it ended."""
        with self._lock:
            lane = self._queued.get(symbol)
            if lane is not None:
                lane.append((wait, done))
                return
            self._queued[symbol] = deque()
        self._start(symbol, wait, done)

    def work(self, job: After) -> None:
        """Something for a sender that belongs to no lane."""
        self._senders.submit(_fresh, job).add_done_callback(_tell_failure)

    def drain(self) -> None:
        """Queued plans are dropped untouched (their entries are pending); what was begun is finished."""
        with self._lock:
            self._closed = True
        self._waiters.shutdown(wait=True, cancel_futures=True)
        self._senders.shutdown(wait=True)

    def _start(self, symbol: str, wait: Wait, done: After) -> None:
        self._waiters.submit(wait).add_done_callback(lambda waited: self._waited(symbol, waited, done))

    def _waited(self, symbol: str, waited: Future[After | None], done: After) -> None:
        _tell_failure(waited)
        after = None if waited.cancelled() or waited.exception() else waited.result()
        if after is None:
            self._next(symbol, done)
            return
        self._senders.submit(_fresh, after).add_done_callback(lambda sent: self._sent(symbol, sent, done))

    def _sent(self, symbol: str, sent: Future[None], done: After) -> None:
        _tell_failure(sent)
        self._next(symbol, done)

    def _next(self, symbol: str, done: After) -> None:
        done()
        with self._lock:
            lane = self._queued[symbol]
            if self._closed or not lane:
                del self._queued[symbol]
                return
            wait, next_done = lane.popleft()
        self._start(symbol, wait, next_done)


def _fresh(job: After) -> None:
    """A connection that died with its server is found out here, not by the intent of a spent pair."""
    rows.look_after_line()
    job()


def _tell_failure(future: Future[Any]) -> None:
    if future.cancelled():
        return
    error = future.exception()
    if error is not None:
        if isinstance(error, DatabaseError):
            ailing.note(error)
        log.failure("plan failed, its entry will be delivered again", error)
