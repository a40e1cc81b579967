"""The table of transitions inside the database: an update past our code cannot make a step that it does not know.

Installed after every `migrate`, not by one migration: SQLite makes a table anew to alter it, and its triggers are
gone with the old one; and so the database always holds the table that the code has.
"""

from __future__ import annotations

from typing import Any

from django.db import connections

from apply.plans.transitions import ALLOWED

NAME = "apply_plan_step"
REFUSES = "a plan cannot make this step"


def install(*, using: str, **_: Any) -> None:
    """Receiver of post_migrate."""
    connection = connections[using]
    if "apply_plan" not in connection.introspection.table_names():
        return  # migrated back to before there were plans
    statements = _sqlite() if connection.vendor == "sqlite" else _postgres()
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def _illegal() -> str:
    """Names of states are ours, from the enum: nothing here was ever typed by anybody."""
    legal = [
        f"(OLD.state = '{state!s}' AND NEW.state IN ({_listed(allowed)}))"
        for state, allowed in ALLOWED.items()
    ]
    return f"OLD.state <> NEW.state AND NOT ({' OR '.join(legal)})"


def _listed(states: frozenset[str]) -> str:
    return ", ".join(f"'{state!s}'" for state in sorted(states))


def _sqlite() -> list[str]:
    made = f"""
        CREATE TRIGGER {NAME} BEFORE UPDATE OF state ON apply_plan WHEN {_illegal()}
        BEGIN SELECT RAISE(ABORT, '{REFUSES}'); END
    """
    return [f"DROP TRIGGER IF EXISTS {NAME}", made]


def _postgres() -> list[str]:
    """The trigger stays and its function is replaced: no lock on the table while orders flow."""
    refuse = f"RAISE EXCEPTION '{REFUSES}' USING ERRCODE = 'integrity_constraint_violation'"
    made = f"""
        CREATE TRIGGER {NAME} BEFORE UPDATE OF state ON apply_plan
        FOR EACH ROW EXECUTE FUNCTION {NAME}()
    """
    function = f"""
        CREATE OR REPLACE FUNCTION {NAME}() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN IF {_illegal()} THEN {refuse}; END IF; RETURN NEW; END $$
    """
    once = f"""
        DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgname = '{NAME}') THEN {made}; END IF; END $$
    """
    return [function, once]
