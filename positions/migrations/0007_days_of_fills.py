"""PostgreSQL learns how many days the fills are of.

Asked for sums by day, symbol and asset it guesses one group per fill and sorts them all; told, it keeps the few groups
in a table: half the time (positions/books/profit.py). The statistics are gathered by ANALYZE, which autovacuum runs.
"""

from __future__ import annotations

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

TABLES = ("positions_fill", "positions_funding")


def forwards(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
    if editor.connection.vendor == "postgresql":
        for table in TABLES:
            editor.execute(f"CREATE STATISTICS {table}_days ON ((at AT TIME ZONE 'UTC')::date) FROM {table}")


def backwards(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
    if editor.connection.vendor == "postgresql":
        for table in TABLES:
            editor.execute(f"DROP STATISTICS {table}_days")


class Migration(migrations.Migration):
    dependencies = [("positions", "0006_fills_of_an_order")]

    operations = [migrations.RunPython(forwards, backwards)]
