"""Django's SQLite backend with another way to wait for the one writer.

SQLite's own waiting sleeps 1, 2, 5, 10 ... 100 ms and lets whoever looks at the right moment go first: with sixteen
senders and five processes an intent could wait its whole second while others wrote twice. Here one thread
per process looks, every two milliseconds; its neighbours queue behind it. The end is the same: after BUSY_S the
transaction is refused, and nothing was written.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from typing import Any

from django.db.backends.sqlite3 import base
from django.db.backends.sqlite3.features import DatabaseFeatures as DjangosFeatures
from django.db.utils import OperationalError

from quantum import clock

BUSY_S = 1.0
LOOK_S = 0.002

_turnstile = threading.Lock()


def _open_anew() -> None:
    """In a forked child: the neighbour that stood in it was not forked with it, and would never leave."""
    global _turnstile
    _turnstile = threading.Lock()


os.register_at_fork(after_in_child=_open_anew)


def _knows_json() -> bool:
    with contextlib.closing(sqlite3.connect(":memory:")) as line:
        try:
            line.execute("SELECT JSON('{}')")
        except sqlite3.OperationalError:
            return False
        return True


class DatabaseFeatures(DjangosFeatures):
    supports_json_field = _knows_json()
    """Of the library. Django asks the database, in a transaction: each command begins as one more writer, and where
    another one wrote for a second it ended with "SQLite does not support JSONFields"."""


class DatabaseWrapper(base.DatabaseWrapper):
    features_class = DatabaseFeatures

    def _start_transaction_under_autocommit(self) -> None:
        end_s = clock.boot_s() + BUSY_S
        turnstile = _turnstile
        if not turnstile.acquire(timeout=BUSY_S):
            raise OperationalError("database is locked")
        try:
            # The driver's own errors as Django's: a disk that fails here is caught where every database is.
            with self.wrap_database_errors:
                self._wait(end_s=end_s)
        finally:
            turnstile.release()

    def _wait(self, *, end_s: float) -> None:
        line: Any = self.connection
        line.execute("PRAGMA busy_timeout = 0")
        try:
            while not _is_begun(line):
                if clock.boot_s() >= end_s:
                    raise OperationalError("database is locked")
                clock.sleep_s(LOOK_S)
        finally:
            line.execute(f"PRAGMA busy_timeout = {BUSY_S * 1000:.0f}")


def _is_begun(line: Any) -> bool:
    try:
        line.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return False
    return True
