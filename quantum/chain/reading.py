"""Events, links and seals as the database holds them, in pieces: what lies in memory does not grow with the chain.

Of each column exactly its bytes: whatever somebody did to a row past our code, text that is no UTF-8 included, must be
found and named, not end the reading.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any

from django.db import connection
from msgspec import Struct

from quantum.chain import form

PIECE = 5_000
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001  SQLite keeps UTC without saying so
_MICROSECOND = dt.timedelta(microseconds=1)


class Link(Struct, frozen=True):
    """Which event lies where in which seal, and the event itself if it is there."""

    seal: int
    position: int
    event: int
    leaf: bytes
    found: bytes | None
    """The leaf that the event has now. None: the event is gone."""


class StoredSeal(form.Fields, frozen=True, kw_only=True):
    """A seal's row. Every text is what stands there, however strange."""

    head: str
    signature: str


SEAL_FIELDS = StoredSeal.__struct_fields__
_NUMBERS = {"number", "format", "events", "total", "at_us", "checkpointed"}


def event_columns() -> str:
    """`data` as text: jsonb has one spelling for it, and SQLite keeps what was written."""
    if connection.vendor == "sqlite":
        return ", ".join(["e.id", *(f"CAST(e.{name} AS BLOB)" for name in form.FIELDS[1:])])
    moment = "trunc(extract(epoch FROM e.at) * 1000000)::text"
    texts = [f"e.{name}" for name in ("kind", "plan_id", "symbol", "actor", "reason")]
    return ", ".join(["e.id", moment, *texts, "e.data::text"])


def leaf_of(values: Sequence[Any]) -> bytes:
    return form.leaf(_event(values))


def _event(values: Sequence[Any]) -> bytes:
    """Of the values of event_columns()."""
    number, moment, *others = values
    return form.event_bytes([b"%d" % number, _moment(moment), *map(_raw, others)])


def _raw(value: Any) -> bytes:
    return value if type(value) is bytes else str(value).encode("utf-8", "surrogatepass")


def _moment(value: Any) -> bytes:
    """Microseconds since 1970. What somebody made unreadable stands for itself."""
    if type(value) is not bytes:
        return _raw(value)
    try:
        at = dt.datetime.fromisoformat(value.decode())
        return b"%d" % ((at - _EPOCH) // _MICROSECOND)
    except (ValueError, TypeError, OverflowError):
        return value


def seals(*, after: int = 0, until: int) -> Iterator[StoredSeal]:
    text = f"SELECT {_seal_columns()} FROM quantum_seal WHERE number > %s AND number <= %s ORDER BY number LIMIT %s"  # noqa: S608  names are ours
    while found := _asked(text, [after, until, PIECE]):
        yield from map(_seal, found)
        after = found[-1][SEAL_FIELDS.index("number")]


def seal(number: int) -> StoredSeal | None:
    found = _asked(f"SELECT {_seal_columns()} FROM quantum_seal WHERE number = %s", [number])  # noqa: S608
    return _seal(found[0]) if found else None


def _seal_columns() -> str:
    sqlite = connection.vendor == "sqlite"
    return ", ".join(
        f"CAST({name} AS BLOB)" if sqlite and name not in _NUMBERS else name for name in SEAL_FIELDS
    )


def _seal(values: Sequence[Any]) -> StoredSeal:
    said = dict(zip(SEAL_FIELDS, values, strict=True))
    return StoredSeal(
        **{name: value if name in _NUMBERS else _readable(value) for name, value in said.items()}
    )


def _readable(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if type(value) is bytes else str(value)


def links(*, until: int) -> Iterator[Link]:
    """By seal and position."""
    leaf = "CAST(s.leaf AS BLOB)" if connection.vendor == "sqlite" else "s.leaf"
    text = (
        f"SELECT s.seal, s.position, s.event_id, {leaf}, {event_columns()} FROM quantum_sealedevent s "  # noqa: S608
        "LEFT JOIN quantum_auditevent e ON e.id = s.event_id WHERE (s.seal, s.position) > (%s, %s) "
        "AND s.seal <= %s ORDER BY s.seal, s.position LIMIT %s"
    )
    seal, position = 0, -1
    while found := _asked(text, [seal, position, until, PIECE]):
        for seal, position, event, kept, *values in found:
            yield Link(seal, position, event, _raw(kept), None if values[0] is None else leaf_of(values))


def astray() -> list[tuple[int, int]]:
    """Events (and the seals they are said to lie in) that lie in no seal there is: nobody would ever seal them."""
    text = (
        "SELECT event_id, seal FROM quantum_sealedevent WHERE seal < 1 "
        "OR seal > (SELECT coalesce(max(number), 0) FROM quantum_seal) ORDER BY seal LIMIT 10"
    )
    return [(event, number) for event, number in _asked(text, [])]


class Placed(Struct, frozen=True):
    """An event as it stands, in its canonical bytes, and where it lies. seal None: in none yet."""

    event: bytes
    seal: int | None
    position: int | None


def of_plan(plan_id: str) -> list[Placed]:
    """By number."""
    text = (
        f"SELECT s.seal, s.position, {event_columns()} FROM quantum_auditevent e "  # noqa: S608
        "LEFT JOIN quantum_sealedevent s ON s.event_id = e.id WHERE e.plan_id = %s ORDER BY e.id"
    )
    return [Placed(_event(values), seal, position) for seal, position, *values in _asked(text, [plan_id])]


def leaves(number: int) -> list[bytes]:
    """As they were kept of one seal, by position."""
    leaf = "CAST(leaf AS BLOB)" if connection.vendor == "sqlite" else "leaf"
    text = f"SELECT {leaf} FROM quantum_sealedevent WHERE seal = %s ORDER BY position"  # noqa: S608
    return [_raw(kept) for (kept,) in _asked(text, [number])]


def unsealed(where: str, values: Sequence[Any], *, most: int) -> list[tuple[int, bytes]]:
    """Events in no seal, with their leaves, oldest number first. `where` is SQL of ours."""
    text = (
        f"SELECT {event_columns()} FROM quantum_auditevent e WHERE {where} AND NOT EXISTS "  # noqa: S608
        "(SELECT 1 FROM quantum_sealedevent s WHERE s.event_id = e.id) ORDER BY e.id LIMIT %s"
    )
    return [(found[0], leaf_of(found)) for found in _asked(text, [*values, most])]


def first(text: str, values: Sequence[Any] = ()) -> Any:
    """The first value of the first row, or None."""
    found = _asked(text, values)
    return found[0][0] if found else None


def unsealed_in_all() -> tuple[int, int | None]:
    """How many, and the oldest number. Every row is looked at."""
    text = (
        "SELECT count(*), min(e.id) FROM quantum_auditevent e WHERE NOT EXISTS "
        "(SELECT 1 FROM quantum_sealedevent s WHERE s.event_id = e.id)"
    )
    count, oldest = _asked(text, [])[0]
    return count, oldest


def _asked(text: str, values: Sequence[Any]) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(text, values)
        return list(cursor.fetchall())
