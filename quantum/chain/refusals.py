"""Who tried to change an audit event or a seal, and was refused by the database (guards.py): an audit event too.

A trigger that raises takes back whatever it has written itself, so the refusal is seen where it arrives, on the
connection of ours that asked. What a session that is not ours is refused stands in the server's log alone.
"""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from django.db import DatabaseError, close_old_connections, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import DatabaseErrorWrapper

from quantum import audit, clock
from quantum.chain import guards
from quantum.log import log

TRIES, WAIT_S = 3, 1.0
SAID_EVERY_S = 60.0
"""Whoever tries in a loop makes one event of a kind in so long, and a log line each time."""
_NO_RIGHT = "42501"
_TABLE = re.compile(rf"\b({'|'.join(guards.TABLES)})\b")
_ACT = re.compile(r"\s*(UPDATE|DELETE|TRUNCATE)\b", re.IGNORECASE)
_said: dict[tuple[str, str], float] = {}


class _Seeing(DatabaseErrorWrapper):
    """Django's own, which every statement passes. It costs nothing where nothing fails."""

    wrapper: BaseDatabaseWrapper

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and (how := _refused(error)):
            _seen(self.wrapper, str(error), _statement(trace), how)
        super().__exit__(kind, error, trace)


def watch(*, connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Receiver of connection_created."""
    vars(connection)["wrap_database_errors"] = _Seeing(connection)


def _refused(error: BaseException) -> str:
    if guards.REFUSES in str(error):
        return "trigger"
    no_right = getattr(error, "sqlstate", None) == _NO_RIGHT
    return "right" if no_right and _TABLE.search(str(error)) else ""


def _statement(trace: TracebackType | None) -> str:
    """The driver's error does not tell it; who executed it stands first in the traceback, with `sql` or, for
    several at once, `statements`."""
    names = trace.tb_frame.f_locals if trace else {}
    several = [text for text, _ in names.get("statements", ())]
    return str(names.get("sql") or next((text for text in several if _ACT.match(text)), ""))


def _seen(line: BaseDatabaseWrapper, error: str, statement: str, how: str) -> None:
    """Table and kind of statement, never the statement: its values are somebody's."""
    act, table = _ACT.match(statement), _TABLE.search(statement) or _TABLE.search(error)
    data = {
        "table": table[1] if table else "",
        "statement": act[1].upper() if act else "",
        "by": how,
        "database_user": str(line.settings_dict.get("USER") or ""),
    }
    log.warning("[AUDIT] a change was refused", **data)
    key = (data["table"], data["statement"])
    if clock.boot_s() - _said.get(key, -SAID_EVERY_S) < SAID_EVERY_S:
        return
    _said[key] = clock.boot_s()
    tell(data)


def tell(data: dict[str, str]) -> None:
    """On a line of its own: the one that was refused can write nothing until its transaction is over. SQLite lets
    nobody else write until then either, so that nobody waits for it here; the process does not end before it."""
    threading.Thread(target=_record, args=[_program(), data], name="refusal").start()


def _program() -> str:
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]])[:80]


def _record(actor: str, data: dict[str, str]) -> None:
    try:
        for left in reversed(range(TRIES)):
            try:
                audit.record(kind="audit_change_refused", actor=actor, data=data)
            except DatabaseError as failure:
                if not left:
                    log.failure("[AUDIT] a refused change was not recorded", failure, **data)
                close_old_connections()
                clock.sleep_s(WAIT_S)
            else:
                return
    finally:
        connections.close_all()
