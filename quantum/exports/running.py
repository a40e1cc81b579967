"""One export while it runs: chunks for whoever reads, and who took what, recorded before the first of them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

from django.db import Error as DatabaseError

from quantum import audit, clock
from quantum.exports.declared import Export
from quantum.exports.formats import FORMATS
from quantum.lists import Asked
from quantum.log import log

NOT_READ = "it was not read to its end"


class Cut(Exception):
    """It ends in the middle: whoever reads must see that, so this leaves through the server, which cuts the line."""


class Running:
    """Reads the first leaf when the first chunk is asked for. Whoever takes it closes it, whatever happens."""

    def __init__(
        self,
        export: Export,
        asked: Asked[Any],
        *,
        kind: str,
        by: str,
        limit_s: float | None = None,
        freed: Callable[[], None] = lambda: None,
    ) -> None:
        self.rows = 0
        self._export, self._asked, self._format = export, asked, FORMATS[kind]
        self._by, self._limit_s, self._freed = by, limit_s, freed
        self._began_s, self._open = clock.boot_s(), True
        said = {"list": export.name, "format": kind, "filters": dict(asked.said)}
        self._said = {"export": secrets.token_hex(8), **said}
        self._chunks = self._made()
        audit.record(kind="export_begun", actor=by, data=self._said)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._chunks).encode()
        except DatabaseError as failure:
            raise self._cut(f"the database failed: {type(failure).__name__}") from None

    def close(self) -> None:
        if self._open:
            self._cut(NOT_READ)

    def _made(self) -> Iterator[str]:
        columns = self._export.columns
        if head := self._format.head(columns):
            yield head
        for leaf in self._asked.whole():
            if self._limit_s is not None and clock.boot_s() - self._began_s > self._limit_s:
                raise self._cut(f"it took more than {self._limit_s:g} s")
            self.rows += len(leaf)
            if leaf:
                yield self._format.lines(columns, self._export.told(leaf))
        yield self._format.end(columns, rows=self.rows)
        # Asked for more: the last line went out. Where this cannot be recorded the file does not end well either.
        self._record("whole")
        self._let_go()

    def _cut(self, why: str) -> Cut:
        log.warning("[EXPORT] cut", list=self._export.name, by=self._by, rows=self.rows, because=why)
        try:
            self._record("cut", why)
        except DatabaseError as failure:
            log.failure("[EXPORT] its end is not recorded", failure, by=self._by)
        self._let_go()
        return Cut(why)

    def _record(self, outcome: str, why: str = "") -> None:
        took_s = round(clock.boot_s() - self._began_s, 1)
        data = {**self._said, "outcome": outcome, "rows": self.rows, "took_s": took_s}
        audit.record(kind="export_ended", actor=self._by, reason=why, data=data)

    def _let_go(self) -> None:
        self._open = False
        self._freed()
