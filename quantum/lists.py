"""Lists of facts that grow without end: no page of theirs reads a table from one end to the other.

Ours are turned by the row's number, newest first: nothing is counted and nothing is skipped over, so the thousandth
leaf costs what the first one does. Django's own count to a number, and say so.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import urlencode

from django.contrib.admin import AllValuesFieldListFilter
from django.core.paginator import Paginator
from django.db import models
from django.utils.functional import cached_property
from msgspec import Struct, field

SHOWN = 50
LOOKED_THROUGH = 50_000
PART_MIN = 4
"""Characters of an id: with fewer of them too many ids are meant."""
PARTS_MOST = 200
ID_LENGTH = 16
DIGITS_MAX = 18
COUNTED_MOST = 10_000
LOOKED_AT = 1_000
AT_ONCE = 500
"""Rows of a whole list that are in memory at a time."""
ROUGHLY = dt.timedelta(hours=1)
"""How far a row's time may be from where its number lies: a whole list looks so much further than it has to."""

M = TypeVar("M", bound=models.Model)
if TYPE_CHECKING:
    _Paginator = Paginator[Any]
else:
    _Paginator = Paginator


# ---- ours


class Leaf(Struct, Generic[M], frozen=True):
    """For quantum/leaf.html."""

    rows: list[M]
    older: int | None = None
    """What the next leaf lies before; None: there is nothing further back."""
    newer: int | None = None
    looked_to: dt.datetime | None = None
    """The leaf is not full, and older rows were not looked at: the time of the oldest that was."""


class Window(Struct, frozen=True):
    """Where a leaf lies. `since` and `until` are by the row's time, which only roughly follows its number."""

    before: int | None = None
    after: int | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None


class Book(Struct, Generic[M], frozen=True, kw_only=True):
    """A leaf looks through so many rows at most, by primary key, whatever is asked for: so a list needs no index per
    filter, which every plan would pay for on its way."""

    model: type[M]
    when: str
    """The time of a row; it has an index."""
    named: bool = False
    """The few rows somebody asked for by name, which need no limit."""
    looked_through: int | None = field(default_factory=lambda: LOOKED_THROUGH)
    """None: each filter of this list has its index."""

    def leaf(self, found: models.QuerySet[M], window: Window) -> Leaf[M]:
        found = self._within(found, window)
        if self.named:
            return Leaf(list(found.order_by("-id")[:PARTS_MOST]))
        newest = self._newest()
        if window.after is not None:
            return self._going_up(found, after=window.after, newest=newest)
        top = window.before or self._after_the_end(window) or newest + 1
        return self._going_down(found, top=top, newest=newest, since=window.since)

    def whole(self, found: models.QuerySet[M], window: Window) -> Iterator[list[M]]:
        """All of it, newest first, a few rows at a time, however long somebody takes for them: each question is over
        before its rows are given, and looks through no more rows than a leaf does. What is written meanwhile has a
        higher number and is not in it. An empty list: so far nothing was found."""
        found, newest = self._within(found, window), self._newest()
        top = (self._after_the_end(window, by=ROUGHLY) if window.until else None) or newest + 1
        while top > 1:
            end = 1 if self.named else max(1, top - LOOKED_THROUGH)
            rows = list(found.filter(id__lt=top, id__gte=end).order_by("-id")[:AT_ONCE])
            yield rows
            full = len(rows) == AT_ONCE
            top = rows[-1].pk if full else end
            if not full and window.since and self._lies_before(end, window.since - ROUGHLY):
                return

    def _within(self, found: models.QuerySet[M], window: Window) -> models.QuerySet[M]:
        if window.since:
            found = found.filter(**{f"{self.when}__gte": window.since})
        if window.until:
            found = found.filter(**{f"{self.when}__lte": window.until})
        return found

    def _newest(self) -> int:
        return self._first(self._all().order_by("-id"), "id") or 0

    def _lies_before(self, number: int, moment: dt.datetime) -> bool:
        at = self._first(self._all().filter(id__lt=number).order_by("-id"), self.when)
        return at is not None and at < moment

    def _going_up(self, found: models.QuerySet[M], *, after: int, newest: int) -> Leaf[M]:
        end = after + self.looked_through if self.looked_through else newest
        rows = list(found.filter(id__gt=after, id__lte=end).order_by("id")[: SHOWN + 1])
        shown = rows[:SHOWN]
        last = shown[-1].pk if len(rows) > SHOWN else end
        return Leaf(shown[::-1], older=after + 1, newer=last if last < newest else None)

    def _going_down(
        self, found: models.QuerySet[M], *, top: int, newest: int, since: dt.datetime | None
    ) -> Leaf[M]:
        end = max(1, top - self.looked_through) if self.looked_through else 1
        rows = list(found.filter(id__lt=top, id__gte=end).order_by("-id")[: SHOWN + 1])
        newer = top - 1 if top <= newest else None
        if len(rows) > SHOWN:
            return Leaf(rows[:SHOWN], older=rows[SHOWN - 1].pk, newer=newer)
        looked_to = (
            self._first(self._all().filter(id__lt=end).order_by("-id"), self.when) if end > 1 else None
        )
        if looked_to is None or (since is not None and looked_to < since):
            return Leaf(rows, newer=newer)
        return Leaf(rows, older=end, newer=newer, looked_to=looked_to)

    def _after_the_end(self, window: Window, by: dt.timedelta = dt.timedelta(0)) -> int | None:
        """The number of the first row past `until`; None: the newest are not past it."""
        if window.until is None:
            return None
        past = self._all().filter(**{f"{self.when}__gt": window.until + by})
        found: int | None = self._first(past.order_by(self.when), "id")
        return found

    def _all(self) -> models.QuerySet[M]:
        return self.model._default_manager.order_by()

    @staticmethod
    def _first(rows: models.QuerySet[M], name: str) -> Any:
        return rows.values_list(name, flat=True).first()


class Asked(Struct, Generic[M], frozen=True, kw_only=True):
    """What an address asks of a list: the page shows a leaf of it, an export takes all of it."""

    found: models.QuerySet[M]
    book: Book[M]
    window: Window = Window()
    said: Mapping[str, object] = field(default_factory=dict)
    """The filters of the address, without where the leaf lies."""
    problem: str = ""
    """It makes no sense: nothing is shown."""
    not_all: str = ""
    """Why this is not all that is meant, which a leaf may be and a whole list may not."""

    def leaf(self) -> Leaf[M]:
        return Leaf([]) if self.problem else self.book.leaf(self.found, self.window)

    def whole(self) -> Iterator[list[M]]:
        return self.book.whole(self.found, self.window)


def window_of(said: Mapping[str, str]) -> Window:
    """From the address, where anything may stand: what is no number shows the newest."""
    before, after = said.get("before", ""), said.get("after", "")
    return Window(before=_number(before), after=_number(after))


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) <= DIGITS_MAX else None


def with_part(model: type[models.Model], part: str) -> list[str]:
    """Plan ids with this part. A whole id is one step in the index of ids; for less all ids are read once."""
    named = {"plan_id": part} if len(part) == ID_LENGTH else {"plan_id__contains": part}
    hits = model._default_manager.filter(**named).order_by()
    return list(hits.values_list("plan_id", flat=True)[:PARTS_MOST])


def address(said: dict[str, object], **more: object) -> str:
    """The same view with this changed; what is not said is not in it."""
    kept = {name: value for name, value in {**said, **more}.items() if value not in (None, "")}
    return f"?{urlencode(kept)}"


# ---- Django's


class CountedSoFar(_Paginator):
    """Pages over the newest rows; how many there are beyond would take a look at each of them."""

    @cached_property
    def count(self) -> int:
        return min(self._seen, COUNTED_MOST)

    @property
    def more(self) -> bool:
        return self._seen > COUNTED_MOST

    @cached_property
    def _seen(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[: COUNTED_MOST + 1].count())


class NewestValuesFilter(AllValuesFieldListFilter):
    """Offers what stands in the newest rows; an older value is an address away (?symbol=...)."""

    def __init__(
        self, field: Any, request: Any, params: Any, model: Any, model_admin: Any, **path: Any
    ) -> None:
        super().__init__(field, request, params, model, model_admin, **path)
        newest = model._default_manager.order_by("-pk").values_list(path["field_path"], flat=True)[:LOOKED_AT]
        self.lookup_choices: Any = sorted({value for value in newest if value not in (None, "")})
