"""What a list says of itself to be had as a file; it stands beside the page of the list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from django.db import models
from django.http import QueryDict
from msgspec import Struct

from quantum.lists import Asked

PERMISSION = "quantum.export"
"""Besides the right to see the list: a page shows fifty rows, a file carries all of them away."""


class NotAsked(Exception):
    """The address asks for nothing that could be exported; its text says why."""


class Export(Struct, frozen=True, kw_only=True):
    name: str
    """Of the file, and in the command."""
    sees: str
    """The permission of the page."""
    asked: Callable[[QueryDict], Asked[Any]]
    """What the page itself reads its address with."""
    filters: Sequence[str]
    columns: Sequence[str]
    """Of the rows; nothing that no page shows."""
    beside: Callable[[Sequence[Any]], Mapping[int, Mapping[str, Any]]] = lambda _: {}
    """Per row what lies in other tables, or is worked out; it stands for the column of that name."""

    @property
    def needs(self) -> tuple[str, ...]:
        return (PERMISSION, self.sees)

    def of(self, address: QueryDict) -> Asked[Any]:
        """A page lets pass what it does not know, and shows what it understood; a file is believed later."""
        unknown = sorted(set(address) - set(self.filters))
        if unknown:
            raise NotAsked(f"There is no filter {', '.join(unknown)}; there are {', '.join(self.filters)}.")
        asked = self.asked(address)
        if asked.problem or asked.not_all:
            raise NotAsked(asked.problem or f"{asked.not_all} Ask for less.")
        return asked

    def told(self, rows: Sequence[models.Model]) -> Iterator[list[Any]]:
        beside = self.beside(rows)
        for row in rows:
            more = beside.get(row.pk, {})
            yield [more[name] if name in more else getattr(row, name) for name in self.columns]
