"""Statements to PostgreSQL by psycopg's own libpq: of a short statement's cost its cursors are two thirds.

The connection stays Django's and psycopg's: they open it, commit, roll back and close. Here texts go out, with their
values written by psycopg, and the last answer comes back. The server keeps each text under a name (PREPARE), so that it
reads and plans it once per connection. The first statement of a transaction takes its BEGIN along, and the last one its
COMMIT where the caller says that it is the last, which saves a way there and back each: psycopg, asked to commit, finds
no transaction any more and says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import OperationalError
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus

KEPT_MAX = 256
"""Texts under a name on one connection. Ours are a few dozen; rows of many numbers have a text for each number."""
_DONE = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK)
Statement = tuple[str, Sequence[Any]]


class _Talk:
    """What is known of one connection: how each type is written and read there, and which texts the server keeps."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self.transformer = Transformer(driver)
        self._kept: dict[str, bytes] = {}

    def said(self, text: str, values: Sequence[Any]) -> bytes:
        literals = [self.transformer.as_literal(value) for value in values]
        name = self._kept.get(text) or self._keep(text, len(values))
        return b"EXECUTE %b(%b);" % (name, b",".join(literals)) if literals else b"EXECUTE %b;" % name

    def _keep(self, text: str, count: int) -> bytes:
        """On its own: what the server keeps stays when the transaction is rolled back, and is not there when an
        earlier statement of the same message failed."""
        pieces = text.split("%s")
        if len(pieces) != count + 1:
            raise ValueError(f"{count} values for {len(pieces) - 1} places: {text}")
        numbered = "".join(f"{piece}${number}" for number, piece in enumerate(pieces[:-1], 1)) + pieces[-1]
        name = b"q%d" % len(self._kept)
        self.ask(b"PREPARE %b AS %b" % (name, numbered.encode()))
        self._kept[text] = name
        return name

    def make_room(self) -> None:
        """Between two messages: one that is being written names what is kept."""
        if len(self._kept) >= KEPT_MAX:
            self.ask(b"DEALLOCATE ALL")
            self._kept.clear()

    def ask(self, message: bytes) -> Any:
        libpq = self.driver.pgconn
        answer = libpq.exec_(message)
        if answer.status in _DONE:
            return answer
        if libpq.status == ConnStatus.BAD:
            raise OperationalError(answer.get_error_message() or "the connection is lost")
        raise error_from_result(answer)


def execute(
    line: BaseDatabaseWrapper, statements: Iterable[Statement], *, commit: bool = False
) -> tuple[int, Any]:
    """All in one message: how many rows the last of them met, and the first row it told of, or None. With a COMMIT
    nobody hears of either."""
    driver: Any = line.connection
    talk = _talk(line, driver)
    talk.make_room()
    said = [talk.said(text, values) for text, values in statements]
    if not driver.autocommit and driver.pgconn.transaction_status == TransactionStatus.IDLE:
        said.insert(0, b"BEGIN;")
    if commit:
        said.append(b"COMMIT;")
    answer = talk.ask(b"".join(said))
    row = None
    if answer.ntuples:
        talk.transformer.set_pgresult(answer)
        row = talk.transformer.load_row(0, tuple)
    return answer.command_tuples or 0, row


def _talk(line: Any, driver: Any) -> _Talk:
    known = getattr(line, "talk", None)
    if known is None or known.driver is not driver:
        known = line.talk = _Talk(driver)
    talk: _Talk = known
    return talk
