"""Short transactions of many threads, committed together: whoever is first does the work of all who wait behind it.

SQLite has one writer at a time: sixteen senders that each begin, wait for the others and for the disk spend most of
their time on that, and on a busy machine some waited longer than their second. Together they do it once. A thread that
comes alone does its own work at once, as if this were not here.

PostgreSQL lets them commit side by side, and there one transaction with the rows of several symbols could meet another
that locks them in another order: each does its own.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db import Error as DatabaseError

T = TypeVar("T")
BATCH_MAX = 16


class NotCommitted(DatabaseError):
    """The transaction ended without a commit, for a reason that is another's."""


class _Job(Generic[T]):
    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._value: T
        self._error: Exception | None = None
        self.ended = False

    def do(self) -> None:
        try:
            self._value = self._work()
        except Exception as error:  # noqa: BLE001  it is raised again in the thread whose work it is
            self._error = error

    def end(self, error: Exception | None = None) -> None:
        self._error, self.ended = error or self._error, True

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._value


class Together:
    def __init__(self) -> None:
        self._waiting: deque[_Job[Any]] = deque()
        self._turn = threading.Lock()

    def run(self, work: Callable[[], T]) -> T:
        """What work returns, once its rows are committed, or what it raised. Work is one statement or one atomic
        block, so that its failure takes nothing of the others back. Inside a transaction of the caller's it is
        simply done."""
        line = connections[DEFAULT_DB_ALIAS]
        if line.in_atomic_block or line.vendor != "sqlite":
            return work()
        job = _Job(work)
        self._waiting.append(job)
        with self._turn:
            try:
                while not job.ended:
                    _do([self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_MAX))])
            finally:
                if not job.ended:  # this thread ends over another's work: nobody is left to hear of its own
                    self._waiting.remove(job)
        return job.result()


def _do(jobs: list[_Job[Any]]) -> None:
    """Each is ended, whatever happens: its thread waits for that, and has nobody else to ask."""
    error: Exception | None = NotCommitted("the thread that did the work was ended")
    try:
        if len(jobs) == 1:
            jobs[0].do()
        else:
            _commit_once(jobs)
        error = None
    except DatabaseError as failure:  # nobody could begin, or nobody knows whether it was committed
        error = failure
    finally:
        for job in jobs:
            job.end(error)


def _commit_once(jobs: list[_Job[Any]]) -> None:
    line = connections[DEFAULT_DB_ALIAS]
    with transaction.atomic():
        driver: Any = line.connection
        for job in jobs:
            job.do()
            # A full disk, or one that fails, has SQLite take back all of it by itself. Where that met a single
            # statement Django does not notice, and what comes after would be written on its own.
            if not driver.in_transaction:
                raise NotCommitted("the database took everything back")
        # Else Django would roll back without a word, and each would be told that it is written.
        if transaction.get_rollback():
            raise NotCommitted("another's work could not be taken back alone")


_of_this_process = Together()
run = _of_this_process.run
