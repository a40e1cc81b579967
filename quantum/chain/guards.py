"""Events and seals are never changed or taken away: the database itself refuses, whoever asks.

Installed after every `migrate`, not by one migration: SQLite makes a table anew to alter it, and its triggers are gone
with the old one. On PostgreSQL the owner of the tables gives up the rights as well; a superuser keeps them, and whoever
owns a table can drop a trigger. That is what the chain is for: what was changed all the same is found.
"""

from __future__ import annotations

from typing import Any

from django.db import connections

TABLES = ("quantum_auditevent", "quantum_seal", "quantum_sealedevent")
REFUSES = "audit events and their seals are never changed"
_FUNCTION = "quantum_audit_stays"
_ACTS = ("update", "delete")


def install(*, using: str, **_: Any) -> None:
    """Receiver of post_migrate."""
    connection = connections[using]
    there = set(connection.introspection.table_names())
    with connection.cursor() as cursor:
        for table in TABLES:
            if table in there:  # migrated back to before there were seals
                for statement in _sqlite(table) if connection.vendor == "sqlite" else _postgres(table):
                    cursor.execute(statement)


def _sqlite(table: str) -> list[str]:
    made = []
    for act in _ACTS:
        name = f"{table}_no_{act}"
        made += [
            f"DROP TRIGGER IF EXISTS {name}",
            f"CREATE TRIGGER {name} BEFORE {act} ON {table} BEGIN SELECT RAISE(ABORT, '{REFUSES}'); END",
        ]
    return made


def _postgres(table: str) -> list[str]:
    name = f"{table}_stays"
    refuse = f"RAISE EXCEPTION '{REFUSES}' USING ERRCODE = 'integrity_constraint_violation'"
    made = (
        f"CREATE TRIGGER {name} BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {_FUNCTION}()"
    )
    return [
        f"CREATE OR REPLACE FUNCTION {_FUNCTION}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {refuse}; END $$",
        f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgname = '{name}') THEN {made}; END IF; END $$",
        f"REVOKE UPDATE, DELETE, TRUNCATE ON {table} FROM PUBLIC, CURRENT_USER",
    ]
