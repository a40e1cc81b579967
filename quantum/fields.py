"""AmountField: a Decimal that stays exact in every database."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from quantum import amounts


class AmountField(models.DecimalField):  # type: ignore[type-arg]
    """numeric(36,18) on PostgreSQL, text on SQLite: SQLite's own decimals are floats of 15 digits."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"max_digits": 36, "decimal_places": 18, **kwargs})

    def get_internal_type(self) -> str:
        return "AmountField"  # unknown to the backends, so that none of them converts through float

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "text" if connection.vendor == "sqlite" else "numeric(36, 18)"

    def from_db_value(self, value: str | Decimal | None, *_: object) -> Decimal | None:
        return None if value is None else Decimal(amounts.plain(Decimal(value)))

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:  # noqa: ARG002  Django's
        exact = self.to_python(value)
        return exact if exact is None or connection.vendor != "sqlite" else amounts.plain(exact)

    def get_db_prep_save(self, value: Any, connection: BaseDatabaseWrapper) -> Any:
        return self.get_db_prep_value(value, connection)
