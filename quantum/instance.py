"""Which instance is this? Mode and account are stored once, in the database and in Redis (I15); tables fit the code.

A database, a Redis prefix and settings that belong to different instances must never meet: permits
of one account would stand beside the plans of another. Whoever starts asks here first.
"""

from __future__ import annotations

import json
from pathlib import Path
from pkgutil import iter_modules

from django.apps import apps
from django.conf import settings
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from msgspec import Struct

from quantum import audit, promotion, version
from quantum.models import Instance
from quantum.redis import Client, command_client

STARTED = "role_started"


class WrongInstance(Exception):
    """One line for a person, with what to do."""


class Identity(Struct, frozen=True):
    uuid: str
    mode: str
    account: str


def ensure(client: Client) -> Identity:
    """Store the identity where it is missing, refuse where it differs. Safe to call at every start."""
    stored = _stored_once()
    _compare_with_settings(stored)
    _require_promotion()
    # Two processes may start at once: NX lets one write, and both read what stands then.
    client.set(settings.KEYS.instance, _written(stored), nx=True)
    _compare_with_redis(stored, client.get(settings.KEYS.instance))
    return stored


def ensure_here(role: str = "") -> Identity:
    """At the start of every role, with a connection of its own. The start is a fact: a proof says which code ran."""
    _compare_with_tables()
    with command_client() as client:
        found = ensure(client)
    if role:
        audit.record(kind=STARTED, actor=role, data={"version": version.that_runs(), "mode": found.mode})
    return found


def check(client: Client) -> Identity | None:
    """Compare and store nothing. None: this instance was never started."""
    row = Instance.objects.first()
    if row is None:
        return None
    stored = _identity(row)
    _compare_with_settings(stored)
    _require_promotion()
    raw = client.get(settings.KEYS.instance)
    if raw is not None:  # a wiped Redis is filled again by the next start
        _compare_with_redis(stored, raw)
    return stored


def _stored_once() -> Identity:
    row, _ = Instance.objects.get_or_create(
        id=1, defaults={"mode": settings.APPLY_MODE, "account": settings.ACCOUNT}
    )
    return _identity(row)


def _identity(row: Instance) -> Identity:
    return Identity(uuid=str(row.uuid), mode=row.mode, account=row.account)


def _compare_with_settings(stored: Identity) -> None:
    for name, ours, theirs in (
        ("APPLY_MODE", settings.APPLY_MODE, stored.mode),
        ("ACCOUNT", settings.ACCOUNT, stored.account),
    ):
        if ours != theirs:
            raise WrongInstance(
                f"{name} is {ours}, but the database belongs to {theirs}; set {name} back, "
                f"or give the new one a place of its own (QUANTUM_VAR_DIR, or DATABASE_URL and KEY_PREFIX)"
            )


def _require_promotion() -> None:
    """What was never tried does not run live. When the proof was recent is asked where it is taken, not here: a role
    that falls over on a quiet day must come back."""
    if settings.APPLY_MODE != "live":
        return
    code = version.that_runs()
    if code != version.of_the_code():
        raise WrongInstance(
            f"live does not start with version {code}: the code was changed under a process that runs; "
            f"restart it, or put the old code back"
        )
    if not promotion.stands(code):
        raise WrongInstance(
            f"live does not start with version {code}: nobody has promoted it; "
            f"manage.py promote --check says what is missing"
        )


def _compare_with_tables() -> None:
    """A deploy without its `migrate`, one that is still running, or code that was taken back without its database:
    a role would fail at its first plan, or worse, write rows that the other code reads otherwise."""
    known = {
        f"{app.label}.{module.name}"
        for app in apps.get_app_configs()
        if Path(app.path).parent == settings.BASE_DIR
        for module in iter_modules([str(Path(app.path) / "migrations")])
    }
    labels = {name.partition(".")[0] for name in known}
    rows = MigrationRecorder(connection).applied_migrations()
    applied = {f"{label}.{name}" for label, name in rows if label in labels}
    if missing := sorted(known - applied):
        raise WrongInstance(f"the database lacks {', '.join(missing)}: run manage.py migrate first")
    if newer := sorted(applied - known):
        raise WrongInstance(
            f"the database has {', '.join(newer)}, which this code does not know: start the newer code again"
        )


def _compare_with_redis(stored: Identity, raw: bytes | str | None) -> None:
    if _read(raw) != stored:
        raise WrongInstance(
            f"the keys under {settings.KEY_PREFIX} in Redis belong to another instance than the database; "
            f"correct REDIS_URL or DATABASE_URL, or set KEY_PREFIX to a word of this instance's own; "
            f"if the database was made anew on purpose, delete the key {settings.KEYS.instance}"
        )


def _written(identity: Identity) -> str:
    return json.dumps({"id": identity.uuid, "mode": identity.mode, "account": identity.account})


def _read(raw: bytes | str | None) -> Identity | None:
    """None for anything that is no identity: then it is not ours either."""
    try:
        found = json.loads(raw or b"")
        return Identity(uuid=found["id"], mode=found["mode"], account=found["account"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
