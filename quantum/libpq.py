"""A statement to PostgreSQL by psycopg's own libpq: of a short statement's cost its cursors are two thirds.

The connection stays Django's and psycopg's: they open it, commit, roll back and close. Here one text goes out, with its
values written into it by psycopg, and the last answer comes back. The first statement of a transaction takes its BEGIN
along, which saves a way there and back.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import OperationalError
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus

TEXTS_MAX = 256
_DONE = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK)


def execute(line: BaseDatabaseWrapper, text: str, values: Sequence[Any]) -> tuple[int, Any]:
    """How many rows the last statement of the text met, and the first row it told of, or None."""
    driver: Any = line.connection
    libpq, transformer = driver.pgconn, _transformer(line, driver)
    pieces = _pieces(text)
    said = [pieces[0]]
    for value, piece in zip(values, pieces[1:], strict=True):
        said += (transformer.as_literal(value), piece)
    if not driver.autocommit and libpq.transaction_status == TransactionStatus.IDLE:
        said.insert(0, b"BEGIN;")
    answer = libpq.exec_(b"".join(said))
    if answer.status not in _DONE:
        if libpq.status == ConnStatus.BAD:
            raise OperationalError(answer.get_error_message() or "the connection is lost")
        raise error_from_result(answer)
    row = None
    if answer.ntuples:
        transformer.set_pgresult(answer)
        row = transformer.load_row(0, tuple)
    return answer.command_tuples or 0, row


@lru_cache(TEXTS_MAX)
def _pieces(text: str) -> list[bytes]:
    return [piece.encode() for piece in text.split("%s")]


def _transformer(line: Any, driver: Any) -> Any:
    """One per connection: it remembers how each type is written and read there."""
    known = getattr(line, "transformer_of", None)
    if known is None or known[0] is not driver:
        known = line.transformer_of = (driver, Transformer(driver))
    return known[1]
