"""Fast writes and reads for the hot path: one SQL statement, prepared once per model, values through the fields' own
conversion. The ORM's insert of two rows costs 0.8 ms of CPU, this 0.1; everywhere else the ORM is the way."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import cache, lru_cache
from operator import attrgetter
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, close_old_connections, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field, Model

from quantum import amounts, clock

M = TypeVar("M", bound=Model)
Convert = Callable[[Any], Any]
Statement = tuple[str, Sequence[Any]]
BATCH = 50
"""Rows of one statement: an old SQLite takes 999 values."""
SKIP = "ON CONFLICT DO NOTHING"
TEXTS_MAX = 256
LOOK_EVERY_S = 1.0


def _line() -> BaseDatabaseWrapper:
    """This thread's connection itself: asked through django.db.connection each attribute is a look-up of its own."""
    return connections[DEFAULT_DB_ALIAS]


def look_after_line() -> None:
    """Between two pieces of work: a connection that has failed, or has not been used for a while, is tried and if need
    be made anew. close_old_connections alone has the server asked each time: five ways there and back for an exit.
    What dies within that while fails once, and is tried again like whatever meets a server that dies."""
    line, now_s = _line(), clock.boot_s()
    if line.errors_occurred or now_s - getattr(line, "looked_after_s", 0.0) >= LOOK_EVERY_S:
        close_old_connections()
        line.looked_after_s = now_s  # type: ignore[attr-defined]


# ---- statements


def run(text: str, values: Sequence[Any]) -> int:
    """How many rows it met."""
    return _execute([(text, values)])[0]


def first(text: str, values: Sequence[Any]) -> Any:
    """The first row, as the database tells it, or None."""
    return _execute([(text, values)])[1]


def _execute(statements: Sequence[Statement], *, last: bool = False) -> tuple[int, Any]:
    """By the driver itself: Django's cursor costs four times what SQLite needs, and psycopg's is dear as well. Where
    somebody counts or logs the statements, it is Django's as everywhere. last: nothing follows in this block."""
    line = _line()
    if line.queries_logged or line.execute_wrappers:
        return _counted(line, statements)
    line.close_if_health_check_failed()
    line.ensure_connection()
    line.validate_no_broken_transaction()
    with line.wrap_database_errors:
        if line.vendor != "sqlite":
            from quantum import libpq  # psycopg, which nobody pays for who has SQLite

            # A block inside another's is not where the transaction ends.
            ends = last and line.in_atomic_block and not line.savepoint_ids
            return libpq.execute(line, statements, commit=ends)
        return _by_sqlite(line.connection, statements)


def _counted(line: BaseDatabaseWrapper, statements: Sequence[Statement]) -> tuple[int, Any]:
    with line.cursor() as cursor:
        for text, values in statements:
            cursor.execute(text, values)
        return cursor.rowcount, cursor.fetchone() if cursor.description else None


def _by_sqlite(driver: Any, statements: Sequence[Statement]) -> tuple[int, Any]:
    met, row = 0, None
    for text, values in statements:
        cursor = driver.execute(_with_its_marks(text), values)
        met, row = cursor.rowcount, cursor.fetchone()
        cursor.close()  # half read, it would keep SQLite at the moment it was asked
    return met, row


@lru_cache(TEXTS_MAX)
def _with_its_marks(text: str) -> str:
    return text.replace("%s", "?")


class Pile:
    """Statements of one transaction whose counts nobody asks for. They are looked after once, and PostgreSQL takes them
    in one go, which saves a way there and back for each. Whoever reads what they write sends them first, or along."""

    def __init__(self) -> None:
        self._statements: list[Statement] = []

    def put(self, text: str, values: Sequence[Any]) -> None:
        self._statements.append((text, values))

    def send(self, *, last: bool = False) -> None:
        """last: of an atomic block, which ends right after. PostgreSQL takes its COMMIT along, if it has one."""
        if self._statements:
            _execute(self._statements, last=last)
            self._statements = []

    def first(self, text: str, values: Sequence[Any]) -> Any:
        """Sends them and this question after them; its first row."""
        self.put(text, values)
        row = _execute(self._statements)[1]
        self._statements = []
        return row


def _done(text: str, values: Sequence[Any], pile: Pile | None) -> int:
    if pile is None:
        return run(text, values)
    pile.put(text, values)
    return 0


# ---- values


def _converter(field: Field[Any, Any]) -> Convert:
    """What the field itself would make of a value; for the usual types without asking each of its base classes."""

    def by_field(value: Any) -> Any:
        return field.get_db_prep_save(value, connection=_line())

    sqlite = _line().vendor == "sqlite"
    kind = field.get_internal_type()
    if kind in ("CharField", "TextField"):
        return lambda value: value if isinstance(value, str) else by_field(value)
    if kind in ("IntegerField", "BigIntegerField", "PositiveIntegerField", "PositiveBigIntegerField"):
        return lambda value: value if type(value) is int else by_field(value)
    if kind == "BinaryField":
        return lambda value: value if type(value) is bytes else by_field(value)
    if kind == "BooleanField":
        return lambda value: value if type(value) is bool else by_field(value)
    if kind == "DateTimeField" and _line().timezone is dt.UTC:
        return (
            _moment_of_sqlite(by_field)
            if sqlite
            else lambda value: value if _is_utc(value) else by_field(value)
        )
    if kind == "AmountField":
        return _amount_of_sqlite(by_field) if sqlite else by_field
    if kind == "JSONField" and sqlite:
        return lambda value: json.dumps(value) if type(value) is dict else by_field(value)
    return by_field


def _is_utc(value: Any) -> bool:
    return type(value) is dt.datetime and value.tzinfo is dt.UTC


def _moment_of_sqlite(by_field: Convert) -> Convert:
    return lambda value: str(value.replace(tzinfo=None)) if _is_utc(value) else by_field(value)


def _amount_of_sqlite(by_field: Convert) -> Convert:
    """No number is the field's to refuse."""
    return lambda value: (
        amounts.plain(value) if type(value) is Decimal and value.is_finite() else by_field(value)
    )


def _is_automatic(field: Field[Any, Any]) -> bool:
    return field.get_internal_type() in ("AutoField", "BigAutoField", "SmallAutoField")


def _quoted(name: str | None) -> str:
    return str(_line().ops.quote_name(str(name)))


def _field(model: type[Model], name: str) -> Field[Any, Any]:
    field = model._meta.get_field(name)
    if not isinstance(field, Field):
        raise TypeError(f"{name} is no column of {model.__name__}")
    return field


def _converters(model: type[Model], names: Iterable[str]) -> list[Convert]:
    return [_converter(_field(model, name)) for name in names]


def _converted(values: Iterable[Any], converters: list[Convert]) -> list[Any]:
    return [convert(value) for convert, value in zip(converters, values, strict=True)]


# ---- rows


@cache
def _making(model: type[Model]) -> list[tuple[str, Callable[[], Any]]]:
    return [(field.attname, field.get_default) for field in model._meta.concrete_fields]


def new(model: type[M], **values: Any) -> M:
    """An instance that is not saved. By their places Django takes the values of all columns in a third of the time
    that it needs for the same by their names."""
    made = model(*[values.pop(name) if name in values else default() for name, default in _making(model)])
    if values:
        raise TypeError(f"{model.__name__} has no column {', '.join(values)}")
    return made


@cache
def _insertion(model: type[Model]) -> tuple[Callable[[Model], tuple[Any, ...]], list[Convert], str, str]:
    """What takes the values of a row out of its instance, what converts them, and the statement's two halves."""
    columns = _columns(model)
    return (
        attrgetter(*(field.attname for field in columns)),
        [_converter(field) for field in columns],
        *_halves(model, columns),
    )


def _columns(model: type[Model]) -> list[Field[Any, Any]]:
    """Those that get a value of ours."""
    return [
        field for field in model._meta.concrete_fields if not (field.primary_key and _is_automatic(field))
    ]


def _halves(model: type[Model], columns: Iterable[Field[Any, Any]]) -> tuple[str, str]:
    names = [_quoted(field.column) for field in columns]
    head = f"INSERT INTO {_quoted(model._meta.db_table)} ({', '.join(names)}) VALUES "  # noqa: S608  names are the models'
    return head, "(" + ", ".join(["%s"] * len(names)) + ")"


def insert(
    *instances: Model, skip_conflicts: bool = False, on_conflict: str = "", pile: Pile | None = None
) -> int:
    """Rows of one model, inside the caller's transaction; returns how many were written. Keys are not set.

    on_conflict: SQL of ours, the same on both databases, for a row that is there already.
    pile: written when that is sent, and not counted.
    """
    on_conflict = SKIP if skip_conflicts else on_conflict
    batches = (instances[first : first + BATCH] for first in range(0, len(instances), BATCH))
    return sum(_insert(batch, on_conflict, pile) for batch in batches)


def _insert(instances: tuple[Model, ...], on_conflict: str, pile: Pile | None) -> int:
    taken, converters, head, one = _insertion(type(instances[0]))
    values: list[Any] = []
    for instance in instances:
        values += _converted(taken(instance), converters)
    return _done(f"{head}{', '.join([one] * len(instances))} {on_conflict}", values, pile)


@cache
def _addition(
    model: type[Model], named: tuple[str, ...]
) -> tuple[list[Convert], list[Callable[[], Any]], str, str]:
    """What converts what is named, what makes the values of the other columns, and the statement's two halves."""
    columns = {field.attname: field for field in _columns(model)}
    if unknown := set(named) - set(columns):
        raise TypeError(f"{model.__name__} has no column {', '.join(unknown)}")
    others = [field for name, field in columns.items() if name not in named]
    given = [columns[name] for name in named]
    return (
        [_converter(field) for field in given],
        [_making_default(field) for field in others],
        *_halves(model, [*given, *others]),
    )


def _making_default(field: Field[Any, Any]) -> Callable[[], Any]:
    convert = _converter(field)
    if callable(field.default):
        return lambda: convert(field.get_default())
    always = convert(field.get_default())
    return lambda: always


def add(model: type[Model], *each: Mapping[str, Any], on_conflict: str = "", pile: Pile | None = None) -> int:
    """insert() for rows whose instances nobody needs, which are dearer than their statement: by their values, all of
    them by the same names. Columns that are not named get their defaults."""
    named, values = tuple(each[0]), list[Any]()
    converters, making, head, one = _addition(model, named)
    for row in each:
        if tuple(row) != named:
            raise TypeError(f"rows of {model.__name__} in one statement name other columns")
        values += _converted(row.values(), converters)
        values += [make() for make in making]
    return _done(f"{head}{', '.join([one] * len(each))} {on_conflict}", values, pile)


@cache
def _reading(model: type[M], named: tuple[str, ...]) -> tuple[str, list[Convert], list[Any], list[str]]:
    """Text, what converts what is named, per column what makes a value of Python's of the database's, and its name."""
    line, columns = _line(), model._meta.concrete_fields
    backwards = []
    for field in columns:
        column = field.get_col(model._meta.db_table)
        backwards.append((column, [*line.ops.get_db_converters(column), *column.get_db_converters(line)]))
    names = ", ".join(_quoted(field.column) for field in columns)
    text = f"SELECT {names} FROM {_quoted(model._meta.db_table)} WHERE {_equal(model, named, ' AND ')}"  # noqa: S608
    return text, _converters(model, named), backwards, [field.attname for field in columns]


def one(model: type[M], *, where: Mapping[str, Any]) -> M | None:
    """The row whose fields equal `where`, which are unique."""
    text, converters, backwards, names = _reading(model, tuple(where))
    found = first(text, _converted(where.values(), converters))
    if found is None:
        return None
    line, values = _line(), []
    for value, (column, chain) in zip(found, backwards, strict=True):
        for convert in chain:
            value = convert(value, column, line)
        values.append(value)
    return model.from_db(line.alias, names, values)


def _equal(model: type[Model], names: Iterable[str], between: str) -> str:
    return between.join(f"{_quoted(_field(model, name).column)} = %s" for name in names)


@cache
def _removal(model: type[Model], named: tuple[str, ...]) -> tuple[str, list[Convert]]:
    text = f"DELETE FROM {_quoted(model._meta.db_table)} WHERE {_equal(model, named, ' AND ')}"  # noqa: S608
    return text, _converters(model, named)


def remove(model: type[Model], *, where: Mapping[str, Any], pile: Pile | None = None) -> int:
    """Delete the rows whose fields equal `where`; nothing may hang on them."""
    text, converters = _removal(model, tuple(where))
    return _done(text, _converted(where.values(), converters), pile)


@cache
def _change(
    model: type[Model], changed: tuple[str, ...], named: tuple[str, ...]
) -> tuple[str, list[Convert]]:
    sets, wheres = _equal(model, changed, ", "), _equal(model, named, " AND ")
    text = f"UPDATE {_quoted(model._meta.db_table)} SET {sets} WHERE {wheres}"  # noqa: S608
    return text, _converters(model, (*changed, *named))


def change(
    model: type[Model], values: Mapping[str, Any], *, where: Mapping[str, Any], pile: Pile | None = None
) -> int:
    """Set fields of the rows whose other fields equal `where`; returns how many there were."""
    text, converters = _change(model, tuple(values), tuple(where))
    return _done(text, _converted((*values.values(), *where.values()), converters), pile)
