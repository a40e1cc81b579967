"""What stands on this machine: versions, settings, the folder, the keys, the database."""

from __future__ import annotations

import os
import platform
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import django
from django.conf import settings
from django.core import checks
from django.db import Error as DatabaseError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from quantum.doctor import Finding, fail, ok, warn
from quantum.log import masked
from quantum.signing import PAIRS

TESTED_PYTHONS = ((3, 11), (3, 12), (3, 13))


def versions() -> Iterator[Finding]:
    python, own_django = sys.version_info[:2], django.VERSION[:2]
    known = python in TESTED_PYTHONS and own_django == ((5, 2) if python == (3, 11) else (6, 1))
    text = f"Python {platform.python_version()}, Django {django.get_version()}"
    if known:
        yield ok(text)
    else:
        yield warn(
            f"{text}: a pair nobody has tested",
            remedy="make setup installs the locked one (README: what runs with what)",
        )


def sources() -> Iterator[Finding]:
    """Wrong settings never come this far: manage.py refuses. Here: where the right ones came from."""
    given = [name for name in settings.ENVIRONMENT.names() if settings.ENVIRONMENT.given(name)]
    own = [name for name in given if name in os.environ or f"{name}_FILE" in os.environ]
    file = _env_file()
    from_file = f"{len(given) - len(own)} from {file}" if file.is_file() else f"no file {file}"
    yield ok(
        f"mode {settings.APPLY_MODE}, account {settings.ACCOUNT}, profile {settings.POLICY_PROFILE}; "
        f"{len(own)} from the process environment, {from_file}, the rest are defaults"
    )


def _env_file() -> Path:
    named = os.environ.get("QUANTUM_ENV_FILE")
    return Path(named) if named else settings.VAR_DIR / "quantum.env"


def system_checks() -> Iterator[Finding]:
    found = checks.run_checks()
    for message in found:
        say = fail if message.level >= checks.ERROR else warn
        yield say(f"{message.id} {message.msg}", remedy=message.hint or "see manage.py check")
    if not found:
        yield ok("no complaint")


# ---- files


def folder() -> Iterator[Finding]:
    var = settings.VAR_DIR
    if not var.is_dir():
        yield fail(f"there is no folder {var}", remedy="run manage.py up once, or set QUANTUM_VAR_DIR")
        return
    yield _private(var, wanted=0o700) or ok(f"{var} is ours alone")
    for file in (_env_file(), var / "admin_password"):
        if file.is_file() and (problem := _private(file, wanted=0o600)):
            yield problem


def signing_keys() -> Iterator[Finding]:
    directory = settings.PERMIT_KEYS_DIR
    problems = [problem for name in PAIRS if (problem := _key_problem(directory, name))]
    yield from problems
    if not problems:
        yield ok(f"{len(PAIRS)} pairs in {directory}, private halves readable by us alone")


def _key_problem(directory: Path, name: str) -> Finding | None:
    for file in (directory / f"{name}.key", directory / f"{name}.pub"):
        if not file.is_file():
            return fail(
                f"{file} is missing",
                remedy="run manage.py up: it makes missing pairs; or copy the pair back, both halves",
            )
    return _private(directory / f"{name}.key", wanted=0o600)


def _private(path: Path, *, wanted: int) -> Finding | None:
    found = path.stat()
    if found.st_uid != os.getuid():
        return fail(f"{path} belongs to another user", remedy=f"chown it to {_own_name()}")
    if stat.S_IMODE(found.st_mode) & 0o077:
        return fail(f"{path} is open to others", remedy=f"chmod {wanted:o} {path}")
    return None


def _own_name() -> str:
    return os.environ.get("USER") or str(os.getuid())


# ---- database


def database() -> Iterator[Finding]:
    try:
        connection.ensure_connection()
    except DatabaseError as failure:
        yield fail(
            f"{masked(settings.DATABASE_URL)} does not answer: {type(failure).__name__}",
            remedy="start it, free space on its disk, or correct DATABASE_URL",
            dependency=True,
        )
        return
    yield from _sqlite() if connection.vendor == "sqlite" else _postgres()


def _sqlite() -> Iterator[Finding]:
    found = {
        "journal_mode": str(_asked("PRAGMA journal_mode")).lower(),
        "synchronous": str(_asked("PRAGMA synchronous")),
        "transaction_mode": str(settings.DATABASES["default"].get("OPTIONS", {}).get("transaction_mode")),
    }
    # synchronous 2 is FULL: an intent that was committed survives a power cut.
    right = {"journal_mode": "wal", "synchronous": "2", "transaction_mode": "IMMEDIATE"}
    wrong = [f"{name} {found[name]}, not {right[name]}" for name in right if found[name] != right[name]]
    if wrong:
        yield fail(
            f"SQLite: {'; '.join(wrong)}",
            remedy="the file must lie on a local disk, and nothing else may open it with other settings",
        )
    else:
        yield ok("SQLite answers: WAL, synchronous FULL, IMMEDIATE")


def _postgres() -> Iterator[Finding]:
    level = str(_asked("SHOW synchronous_commit"))
    if level in ("on", "remote_apply"):
        yield ok(f"PostgreSQL answers: synchronous_commit {level}")
    else:
        yield fail(
            f"PostgreSQL: synchronous_commit is {level}, so a committed intent may be lost",
            remedy="a pooler or a role setting overrides ours: ALTER ROLE ... RESET synchronous_commit",
        )


def _asked(sql: str) -> object:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


def migrations() -> Iterator[Finding]:
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        yield fail(f"{len(missing)} migrations are not applied", remedy="run manage.py migrate")
    else:
        yield ok("all applied")
