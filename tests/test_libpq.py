"""Statements that go to libpq itself: Django's transaction, psycopg's values, and an error is still one of Django's."""

from __future__ import annotations

import datetime as dt
import os
import socket
from decimal import Decimal
from typing import Any

import pytest
from django.db import DataError, OperationalError, connection, transaction

from quantum import audit, rows
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
    with pytest.raises(ValueError, match="zip"):
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


def test_a_server_that_ended_the_connection_is_an_outage_and_the_next_work_finds_it_again() -> None:
    rows.first("SELECT %s", [1])
    dead: Any = connection.connection
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    _end_from_elsewhere(pid)
    with pytest.raises(OperationalError):
        rows.first("SELECT %s", [1])
    rows.look_after_line()
    assert rows.first("SELECT %s", [1]) == (1,)
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
    rows.first("SELECT %s", [1])
    line: Any = connection.connection
    with socket.socket(fileno=os.dup(line.pgconn.socket)) as other_end:
        other_end.shutdown(socket.SHUT_RDWR)
    with pytest.raises(OperationalError):
        rows.first("SELECT %s", [1])
    connection.close()


def test_a_new_connection_has_its_own_ways_with_values() -> None:
    assert rows.first("SELECT %s", ["x"]) == ("x",)
    connection.close()
    assert rows.first("SELECT %s", ["x"]) == ("x",)
