"""Lists of facts that may have millions of rows: newest first, a leaf at a time, by the row's number.

Nothing is counted and nothing is skipped over. A leaf looks through so many rows at most, by primary key, whatever is
asked for: so a list needs no index per filter, which every plan would pay for on its way.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from django.db import models

SHOWN = 50
LOOKED_THROUGH = 50_000
PART_MIN = 4
"""Characters of an id: with fewer of them too many ids are meant."""
PARTS_MOST = 200
ID_LENGTH = 16

M = TypeVar("M", bound=models.Model)


@dataclass(frozen=True, slots=True)
class Leaf(Generic[M]):
    rows: list[M]
    older: int | None = None
    """What the next leaf lies before; None: there is nothing further back."""
    newer: int | None = None
    looked_to: dt.datetime | None = None
    """The leaf is not full, and older rows were not looked at: the time of the oldest that was."""


@dataclass(frozen=True, slots=True)
class Window:
    """Where a leaf lies. `since` and `until` are by the row's time, which only roughly follows its number."""

    before: int | None = None
    after: int | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Book(Generic[M]):
    """A table with an index on `when`; `named` are the few rows somebody asked for by name, which need no limit."""

    model: type[M]
    when: str
    named: bool = False
    looked_through: int = field(default_factory=lambda: LOOKED_THROUGH)

    def leaf(self, found: models.QuerySet[M], window: Window) -> Leaf[M]:
        if window.since:
            found = found.filter(**{f"{self.when}__gte": window.since})
        if window.until:
            found = found.filter(**{f"{self.when}__lte": window.until})
        if self.named:
            return Leaf(list(found.order_by("-id")[:PARTS_MOST]))
        newest = self._first(self._all().order_by("-id"), "id") or 0
        if window.after is not None:
            return self._going_up(found, after=window.after, newest=newest)
        top = window.before or self._after_the_end(window) or newest + 1
        return self._going_down(found, top=top, newest=newest, since=window.since)

    def _going_up(self, found: models.QuerySet[M], *, after: int, newest: int) -> Leaf[M]:
        end = after + self.looked_through
        rows = list(found.filter(id__gt=after, id__lte=end).order_by("id")[: SHOWN + 1])
        shown = rows[:SHOWN]
        last = shown[-1].pk if len(rows) > SHOWN else end
        return Leaf(shown[::-1], older=after + 1, newer=last if last < newest else None)

    def _going_down(
        self, found: models.QuerySet[M], *, top: int, newest: int, since: dt.datetime | None
    ) -> Leaf[M]:
        end = max(1, top - self.looked_through)
        rows = list(found.filter(id__lt=top, id__gte=end).order_by("-id")[: SHOWN + 1])
        newer = top - 1 if top <= newest else None
        if len(rows) > SHOWN:
            return Leaf(rows[:SHOWN], older=rows[SHOWN - 1].pk, newer=newer)
        looked_to = self._first(self._all().filter(id__lt=end).order_by("-id"), self.when)
        if looked_to is None or (since is not None and looked_to < since):
            return Leaf(rows, newer=newer)
        return Leaf(rows, older=end, newer=newer, looked_to=looked_to)

    def _after_the_end(self, window: Window) -> int | None:
        """The number of the first row past `until`; None: the newest are not past it."""
        if window.until is None:
            return None
        past = self._all().filter(**{f"{self.when}__gt": window.until})
        found: int | None = self._first(past.order_by(self.when), "id")
        return found

    def _all(self) -> models.QuerySet[M]:
        return self.model._default_manager.order_by()

    @staticmethod
    def _first(rows: models.QuerySet[M], name: str) -> Any:
        return rows.values_list(name, flat=True).first()


def with_part(model: type[models.Model], part: str) -> list[str]:
    """Plan ids with this part. A whole id is one step in the index of ids; for less all ids are read once."""
    named = {"plan_id": part} if len(part) == ID_LENGTH else {"plan_id__contains": part}
    hits = model._default_manager.filter(**named).order_by()
    return list(hits.values_list("plan_id", flat=True)[:PARTS_MOST])


# ---- addresses


def address(said: dict[str, object], **more: object) -> str:
    """The same view with this changed; what is not said is not in it."""
    kept = {name: value for name, value in {**said, **more}.items() if value not in (None, "")}
    return f"?{urlencode(kept)}"


def turning(
    leaf: Leaf[Any], said: dict[str, object], *, shown: Callable[[dt.datetime], str]
) -> dict[str, str]:
    """Links to what lies beside this leaf, for quantum/leaf.html."""
    return {
        "newest": address(said) if leaf.newer is not None else "",
        "newer": address(said, after=leaf.newer) if leaf.newer is not None else "",
        "older": address(said, before=leaf.older) if leaf.older is not None else "",
        "looked_to": shown(leaf.looked_to) if leaf.looked_to else "",
    }
