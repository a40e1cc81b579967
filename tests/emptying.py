"""The database between two tests: only tables that have rows are emptied, by DELETE.

Django's own flush truncates forty tables, which PostgreSQL answers after a third of a second, and then makes content
types and permissions anew. Those are the same for every test, so they stay.
"""

from __future__ import annotations

import functools
from contextlib import nullcontext

from django.db import connection, transaction

from quantum.chain import guards
from tests.unguarded import unguarded

STAYS = {"django_content_type", "auth_permission"}


@functools.cache
def _which_have_rows() -> str:
    names = connection.introspection.django_table_names(only_existing=True, include_views=False)
    quote = connection.ops.quote_name
    looks = (
        f"SELECT '{name}' WHERE EXISTS (SELECT 1 FROM {quote(name)})" for name in names if name not in STAYS
    )
    return " UNION ALL ".join(looks)


def empty_database() -> None:
    with transaction.atomic(), connection.cursor() as cursor:  # references are checked at its end
        cursor.execute(_which_have_rows())
        names = [name for (name,) in cursor.fetchall()]
        with unguarded() if set(names) & set(guards.TABLES) else nullcontext():
            for name in names:
                cursor.execute(f"DELETE FROM {connection.ops.quote_name(name)}")
