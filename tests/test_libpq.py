"""Statements that go to libpq itself: Django's transaction, psycopg's values, and an error is still one of Django's."""

from __future__ import annotations

import datetime as dt
import os
import socket
from decimal import Decimal
from typing import Any

import pytest
from django.db import DataError, OperationalError, connection, transaction

from quantum import audit, libpq, rows
from quantum.models import AuditEvent
from tests.environment import TOLD

pytestmark = [
    pytest.mark.usefixtures("transactional_db"),
    pytest.mark.skipif(TOLD["QUANTUM_TEST_DATABASE"] != "postgres", reason="SQLite has no libpq"),
]
AT = dt.datetime(2026, 11, 21, 4, 5, 6, 789012, dt.UTC)


def events() -> list[AuditEvent]:
    return [audit.event(kind="k", actor="a"), audit.event(kind="k", actor="b")]


def test_values_come_back_as_they_went() -> None:
    """As the columns' own types, so that what it makes of a value is what it made of psycopg's."""
    for column, value in (
        ("text", "q'uo\\te %s ü"),
        ("bigint", 2**62),
        ("numeric", Decimal("0.10")),
        ("timestamptz", AT),
        ("boolean", False),
        ("text", None),
    ):
        found = rows.first(f"SELECT %s::{column}, 'after'", [value])
        assert found == (value, "after")
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT %s::{column}, 'after'", [value])
            assert cursor.fetchone() == found


def test_a_text_that_no_text_of_postgresql_can_be_is_refused() -> None:
    with pytest.raises(DataError):
        rows.first("SELECT %s", ["\0"])


def test_too_few_values_are_no_statement() -> None:
    with pytest.raises(ValueError, match="1 values for 2 places"):
        rows.first("SELECT %s, %s", ["x"])


def test_the_first_statement_of_a_transaction_begins_it() -> None:
    with transaction.atomic():
        rows.insert(events()[0])
        rows.insert(events()[1])
        transaction.set_rollback(True)
    assert not AuditEvent.objects.exists()


def test_a_statement_outside_a_transaction_stands_at_once() -> None:
    rows.insert(events()[0])
    connection.close()
    assert AuditEvent.objects.count() == 1


def test_what_fails_in_a_pile_takes_all_of_it_back() -> None:
    pile = rows.Pile()
    rows.insert(events()[0], pile=pile)
    pile.put("SELECT 1 / %s", [0])
    rows.insert(events()[1], pile=pile)
    with pytest.raises(DataError), transaction.atomic():
        pile.send()
    assert not AuditEvent.objects.exists()


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    told: list[bytes] = []
    ask = libpq._Talk.ask

    def listen(self: Any, message: bytes) -> Any:
        told.append(message)
        return ask(self, message)

    monkeypatch.setattr(libpq._Talk, "ask", listen)
    connection.close()
    return told


def test_postgresql_is_asked_once_for_a_pile(messages: list[bytes]) -> None:
    for _ in range(2):
        messages.clear()
        pile = rows.Pile()
        for _ in range(3):
            rows.insert(events()[0], pile=pile)
        with transaction.atomic():
            pile.send()
    assert [message.count(b"EXECUTE") for message in messages] == [3]
    assert AuditEvent.objects.count() == 6


def test_a_text_is_read_and_planned_once_per_connection(messages: list[bytes]) -> None:
    for value in ("x", "y"):
        rows.first("SELECT %s || 'z'", [value])
    assert messages == [b"PREPARE q0 AS SELECT $1 || 'z'", b"EXECUTE q0('x');", b"EXECUTE q0('y');"]


def test_a_text_that_was_first_said_in_a_failed_transaction_is_known_after_it() -> None:
    with pytest.raises(DataError), transaction.atomic():
        rows.first("SELECT 1 / %s", [0])
    assert rows.first("SELECT 1 / %s", [1]) == (1,)


def test_texts_without_number_do_not_fill_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libpq, "KEPT_MAX", 3)
    for number in range(9):
        assert rows.first(f"SELECT {number} + %s", [1]) == (number + 1,)
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_prepared_statements")
            assert cursor.fetchone()[0] <= 3


def test_a_pile_of_more_texts_than_are_kept_goes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libpq, "KEPT_MAX", 1)
    pile = rows.Pile()
    for number in range(3):
        pile.put(f"SELECT {number} + %s", [1])
    pile.send()
    assert rows.first("SELECT %s::int", [5]) == (5,)


def test_a_server_that_ended_the_connection_is_an_outage_and_the_next_work_finds_it_again() -> None:
    rows.first("SELECT %s::int", [1])
    dead: Any = connection.connection
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    _end_from_elsewhere(pid)
    with pytest.raises(OperationalError):
        rows.first("SELECT %s::int", [1])
    rows.look_after_line()
    assert rows.first("SELECT %s::int", [1]) == (1,)
    assert connection.connection is not dead


def _end_from_elsewhere(pid: int) -> None:
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    finally:
        other.close()


def test_a_connection_that_is_cut_is_an_outage() -> None:
    """Nobody is there to say why: no code, only a text of libpq's own."""
    rows.first("SELECT %s::int", [1])
    line: Any = connection.connection
    with socket.socket(fileno=os.dup(line.pgconn.socket)) as other_end:
        other_end.shutdown(socket.SHUT_RDWR)
    with pytest.raises(OperationalError):
        rows.first("SELECT %s::int", [1])
    connection.close()


def test_a_new_connection_has_its_own_ways_with_values() -> None:
    assert rows.first("SELECT %s", ["x"]) == ("x",)
    connection.close()
    assert rows.first("SELECT %s", ["x"]) == ("x",)


def test_a_pile_that_is_the_last_of_its_transaction_takes_the_commit_along(messages: list[bytes]) -> None:
    pile = rows.Pile()
    rows.insert(events()[0], pile=pile)
    with transaction.atomic():
        pile.send(last=True)
        other = connection.copy()
        try:
            with other.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM quantum_auditevent")
                assert cursor.fetchone() == (1,)
        finally:
            other.close()
    assert messages[-1].startswith(b"BEGIN;EXECUTE")
    assert messages[-1].endswith(b"COMMIT;")


def test_what_is_last_in_a_block_inside_anothers_ends_nothing_of_the_others() -> None:
    for savepoint in (True, False):
        with transaction.atomic():
            rows.insert(events()[0])
            with transaction.atomic(savepoint=savepoint):
                pile = rows.Pile()
                rows.insert(events()[1], pile=pile)
                pile.send(last=True)
            transaction.set_rollback(True)
        assert not AuditEvent.objects.exists()


def test_a_question_that_goes_with_a_pile_is_answered_after_it() -> None:
    pile = rows.Pile()
    rows.insert(*events(), pile=pile)
    with transaction.atomic():
        assert pile.first("SELECT count(*) FROM quantum_auditevent", []) == (2,)
        pile.send()
    assert AuditEvent.objects.count() == 2
