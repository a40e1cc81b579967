"""One leaf of a long list, newest first. Turned by the last number that was seen: the thousandth leaf costs what the
first one does, and nothing is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from django.db.models import Model, QuerySet

ROWS = 50
DIGITS_MAX = 18

M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Leaf(Generic[M]):
    rows: Sequence[M]
    older: int | None
    """For ?before= of the next leaf. None: this is the last one."""
    first: bool


def of(rows: QuerySet[M], *, before: str, size: int = ROWS) -> Leaf[M]:
    """before: from the address, so it may be anything; what is no number shows the first leaf."""
    number = int(before) if before.isascii() and before.isdecimal() and len(before) <= DIGITS_MAX else None
    asked = rows.order_by("-id") if number is None else rows.filter(id__lt=number).order_by("-id")
    found = list(asked[: size + 1])
    older = found[size - 1].pk if len(found) > size else None
    return Leaf(rows=found[:size], older=older, first=number is None)
