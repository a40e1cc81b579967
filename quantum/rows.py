"""Fast inserts for the hot path: one SQL statement, prepared once per model, values through the fields' own
conversion. The ORM's insert of two rows costs 0.8 ms of CPU, this 0.2; everywhere else the ORM is the way."""

from __future__ import annotations

from functools import cache
from typing import Any

from django.db import connection
from django.db.models import Field, Model


@cache
def _columns(model: type[Model]) -> list[Field[Any, Any]]:
    return [
        field for field in model._meta.concrete_fields if not field.primary_key or not _is_automatic(field)
    ]


def _is_automatic(field: Field[Any, Any]) -> bool:
    return field.get_internal_type() in ("AutoField", "BigAutoField", "SmallAutoField")


def _quoted(name: str | None) -> str:
    return str(connection.ops.quote_name(str(name)))


@cache
def _statement(model: type[Model], rows: int, *, skip_conflicts: bool) -> str:
    columns = _columns(model)
    one = "(" + ", ".join(["%s"] * len(columns)) + ")"
    names = ", ".join(_quoted(field.column) for field in columns)
    table = _quoted(model._meta.db_table)
    # Names come from the models and values go as parameters.
    text = f"INSERT INTO {table} ({names}) VALUES {', '.join([one] * rows)}"  # noqa: S608
    return text + " ON CONFLICT DO NOTHING" if skip_conflicts else text


def insert(*instances: Model, skip_conflicts: bool = False) -> int:
    """Rows of one model, inside the caller's transaction; returns how many were written. Keys are not set."""
    model = type(instances[0])
    values = [
        field.get_db_prep_save(getattr(instance, field.attname), connection=connection)
        for instance in instances
        for field in _columns(model)
    ]
    with connection.cursor() as cursor:
        cursor.execute(_statement(model, len(instances), skip_conflicts=skip_conflicts), values)
        return int(cursor.rowcount)
