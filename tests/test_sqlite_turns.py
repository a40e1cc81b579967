"""The one writer of SQLite: what a transaction that cannot begin leaves behind."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.db import Error as DatabaseError

from quantum.sqlite import base
from quantum.sqlite.base import DatabaseWrapper

QUICK_S = 0.05


@pytest.fixture
def line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, django_db_blocker: Any
) -> Iterator[DatabaseWrapper]:
    """A connection of its own to a file of its own, whatever database the suite runs on."""
    monkeypatch.setattr(base, "BUSY_S", QUICK_S)
    given: dict[str, Any] = {
        "ENGINE": "quantum.sqlite",
        "NAME": str(tmp_path / "turns.sqlite3"),
        "ATOMIC_REQUESTS": False,
        "AUTOCOMMIT": True,
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": False,
        "OPTIONS": {"timeout": 1},
        "TIME_ZONE": None,
        "USER": "",
        "PASSWORD": "",
        "HOST": "",
        "PORT": "",
        "TEST": {},
    }
    made = DatabaseWrapper(given, alias="turns")
    with django_db_blocker.unblock():
        with made.cursor() as cursor:
            cursor.execute("CREATE TABLE seen (n INTEGER)")
        yield made
        made.close()


def begin(line: DatabaseWrapper) -> None:
    line.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)


def end(line: DatabaseWrapper) -> None:
    line.rollback()
    line.set_autocommit(True)


def test_whatever_keeps_a_transaction_from_beginning_is_an_error_of_djangos(line: DatabaseWrapper) -> None:
    """The loops that outlive a database that fails catch Django's errors, and the driver's are none of them."""
    Path(line.settings_dict["NAME"]).write_bytes(b"no database any more " * 400)
    with pytest.raises(DatabaseError):
        begin(line)


def test_a_refused_transaction_leaves_the_line_as_it_was_and_the_next_one_begins(
    line: DatabaseWrapper,
) -> None:
    with closing(sqlite3.connect(line.settings_dict["NAME"], isolation_level=None)) as neighbour:
        neighbour.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseError, match="locked"):
            begin(line)
        neighbour.execute("ROLLBACK")
    assert line.get_autocommit()
    with line.cursor() as cursor:
        assert cursor.execute("PRAGMA busy_timeout").fetchone() == (QUICK_S * 1000,)
    begin(line)
    end(line)


def test_a_child_forked_while_a_neighbour_waits_can_still_write(line: DatabaseWrapper) -> None:
    with base._turnstile:  # a thread that waits for its turn; it is not forked with us
        child = os.fork()
        if child == 0:
            taken = base._turnstile.acquire(timeout=QUICK_S)
            os._exit(0 if taken else 1)
        assert os.waitpid(child, 0)[1] == 0
