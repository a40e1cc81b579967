"""Work of many threads in one transaction: what each of them is told is what is in the database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import OperationalError, connection, connections, transaction

from positions.models import SymbolLock
from quantum import clock, rows
from quantum.together import BATCH_MAX, NotCommitted, Together, _Job

pytestmark = pytest.mark.usefixtures("transactional_db")
WITHIN_S = 10
LINE: Any = type(connections["default"])


def lock(symbol: str) -> str:
    with transaction.atomic():
        rows.insert(SymbolLock(account="main", symbol=symbol, plan_id="p", since=clock.now()))
    return symbol


def locked() -> set[str]:
    return set(SymbolLock.objects.values_list("symbol", flat=True))


class Crowd:
    """Threads that come while another is at work, so that its successor finds all of them waiting."""

    def __init__(self) -> None:
        self.together = Together()
        self.by: dict[str, int] = {}

    def lock(self, symbol: str) -> str:
        self.by[symbol] = threading.get_ident()
        return lock(symbol)

    def comes(self, *works: Callable[[], Any]) -> list[Future[Any]]:
        at_work, go_on = threading.Event(), threading.Event()

        def first() -> None:
            at_work.set()
            assert go_on.wait(WITHIN_S)

        with ThreadPoolExecutor(len(works) + 1) as threads:
            threads.submit(self._run, first)
            assert at_work.wait(WITHIN_S)
            asked = [threads.submit(self._run, work) for work in works]
            while len(self.together._waiting) < len(works):
                clock.sleep_s(0.001)
            go_on.set()
        return asked

    def _run(self, work: Callable[[], Any]) -> Any:
        try:
            return self.together.run(work)
        finally:
            connections.close_all()


@pytest.fixture
def crowd() -> Crowd:
    if connection.vendor != "sqlite":
        pytest.skip("each does its own on PostgreSQL")
    return Crowd()


@contextmanager
def commits_counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    made: list[int] = []
    commit = LINE.commit

    def counted(line: Any) -> None:
        made.append(1)
        commit(line)

    with monkeypatch.context() as patch:
        patch.setattr(LINE, "commit", counted)
        yield made


def test_who_comes_alone_does_its_own_work_at_once() -> None:
    assert Together().run(lambda: (lock("A"), threading.get_ident())) == ("A", threading.get_ident())
    assert locked() == {"A"}


def test_who_waits_together_is_committed_together(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["A", "B", "C", "D"]
    with commits_counted(monkeypatch) as commits:
        asked = crowd.comes(*(lambda name=name: crowd.lock(name) for name in names))
    assert [each.result() for each in asked] == names
    assert locked() == set(names)
    assert len(commits) == 1
    assert len(set(crowd.by.values())) == 1


def test_one_that_fails_is_told_and_takes_nothing_of_the_others_back(crowd: Crowd) -> None:
    def fails() -> None:
        with transaction.atomic():
            lock("gone")
            raise ValueError("mine")

    before, failed, after = crowd.comes(lambda: lock("A"), fails, lambda: lock("B"))
    assert (before.result(), after.result()) == ("A", "B")
    with pytest.raises(ValueError, match="mine"):
        failed.result()
    assert locked() == {"A", "B"}


def test_a_commit_that_fails_is_told_to_each_of_them(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any) -> None:
        raise OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(LINE, "_commit", fail)
        asked = crowd.comes(lambda: lock("A"), lambda: lock("B"))
    for each in asked:
        with pytest.raises(OperationalError):
            each.result()
    assert locked() == set()


def test_nobody_is_told_that_it_is_written_where_django_rolls_back_without_a_word(crowd: Crowd) -> None:
    def swallows() -> None:
        try:
            with transaction.atomic(savepoint=False):
                raise ValueError
        except ValueError:
            pass

    asked = crowd.comes(lambda: lock("A"), swallows)
    for each in asked:
        with pytest.raises(NotCommitted):
            each.result()
    assert locked() == set()


def finds_no_room() -> int:
    """A statement for which the disk is too full; the limit is this connection's own."""
    line: Any = connection
    with line.cursor() as cursor:
        cursor.execute("PRAGMA page_count")
        cursor.execute(f"PRAGMA max_page_count = {cursor.fetchone()[0]}")
        cursor.execute("PRAGMA freelist_count")  # what other tests left would be room
        size = 1_000_000 + 4096 * int(cursor.fetchone()[0])
    try:
        return rows.insert(SymbolLock(account="main", symbol="FULL", plan_id="p" * size, since=clock.now()))
    finally:
        with line.cursor() as cursor:
            cursor.execute("PRAGMA max_page_count = 1000000000")


def finds_no_room_in_its_block() -> int:
    with transaction.atomic():
        return finds_no_room()


@pytest.mark.parametrize("work", [finds_no_room, finds_no_room_in_its_block])
def test_a_full_disk_that_takes_everything_back_is_told_to_each(
    crowd: Crowd, work: Callable[[], int]
) -> None:
    """SQLite ends the whole transaction, not the statement: an intent written before it was told as kept."""
    asked = crowd.comes(lambda: lock("A"), work, lambda: lock("B"))
    for each in asked:
        with pytest.raises(NotCommitted):
            each.result()
    assert locked() == set()


def test_work_is_not_done_once_its_thread_has_ended_over_anothers() -> None:
    """An intent with nobody to send it would lock its symbol until the resolver has proved that it never left."""

    def ends() -> None:
        raise SystemExit

    if connection.vendor != "sqlite":
        pytest.skip("each does its own on PostgreSQL")
    together = Together()
    together._waiting.extend(_Job(ends) for _ in range(BATCH_MAX))
    with pytest.raises(SystemExit):
        together.run(lambda: lock("A"))
    assert together.run(lambda: lock("B")) == "B"
    assert locked() == {"B"}


def test_nobody_waits_for_ever_for_a_thread_that_was_ended(crowd: Crowd) -> None:
    def ends() -> None:
        raise SystemExit

    asked = crowd.comes(ends, lambda: lock("A"), ends)
    outcomes = {type(each.exception(WITHIN_S)) for each in asked}
    assert outcomes <= {SystemExit, NotCommitted}
    assert locked() == set()


def test_inside_a_transaction_of_the_callers_nobody_elses_work_is_done() -> None:
    """It would be rolled back with it."""
    together = Together()
    waiting = _Job(lambda: lock("B"))
    together._waiting.append(waiting)
    with transaction.atomic():
        assert together.run(lambda: lock("A")) == "A"
        transaction.set_rollback(True)
    assert not waiting.ended
    assert locked() == set()
