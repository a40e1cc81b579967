"""Is everything that an exit needs alive? For /healthz and the home page."""

from __future__ import annotations

import json

from django.conf import settings
from django.db import DatabaseError, connection
from msgspec import Struct

from quantum import lease, roles
from quantum.log import safe
from quantum.redis import Client, RedisError, command_client

ROLE_SILENT_S = 6.0
AILING_CHARACTERS = 80
STARTS_OF_A_STORM = 5
"""Of one role within an hour: somebody who deploys does that less often."""


class RoleHealth(Struct, frozen=True):
    name: str
    silent_s: float | None
    """Since its last heartbeat; None when it was not seen for an hour."""
    starts: int = 0
    """Within the last hour. More than one: it died, or was deployed."""
    ailing: str = ""
    """It lives, and cannot do its work: what failed."""

    @property
    def alive(self) -> bool:
        return self.silent_s is not None and self.silent_s < ROLE_SILENT_S

    @property
    def restarting(self) -> bool:
        return self.starts >= STARTS_OF_A_STORM

    @property
    def works(self) -> bool:
        return self.alive and not self.ailing

    @property
    def state(self) -> str:
        if not self.alive:
            return "SILENT"
        return "FAILING" if self.ailing else "RESTARTING" if self.restarting else "ok"

    def __str__(self) -> str:
        said = ["not seen" if self.silent_s is None else f"seen {self.silent_s:.1f} s ago"]
        if self.ailing:
            said.append(self.ailing)
        if self.restarting:
            said.append(f"{self.starts} starts in an hour")
        return ", ".join(said)


class Health(Struct, frozen=True):
    database: bool
    redis: bool
    roles: tuple[RoleHealth, ...]
    """Empty when Redis does not answer: then nobody can be seen."""

    @property
    def ok(self) -> bool:
        return self.database and self.redis and all(role.works for role in self.roles)

    def as_data(self) -> dict[str, object]:
        """Nothing but names and ages: no address and no text of an exception, which may carry a password."""
        answers = {True: "ok", False: "no answer"}
        return {
            "ok": self.ok,
            "web": "ok",
            "database": answers[self.database],
            "redis": answers[self.redis],
            "roles": {role.name: f"{role.state}, {role}" for role in self.roles},
        }


def look() -> Health:
    try:
        seen, redis_answers = role_healths(command_client()), True
    except RedisError:
        seen, redis_answers = (), False
    return Health(database=_database_answers(), redis=redis_answers, roles=seen)


def role_healths(client: Client) -> tuple[RoleHealth, ...]:
    """Ages come from the heartbeats' remaining life, by Redis' clock: no two hosts' clocks are compared."""
    names = [role.name for role in roles.registered()]
    holders = client.mget([settings.KEYS.lease(name) for name in names])
    beats = [
        settings.KEYS.heartbeat(name, _host(holder)) for name, holder in zip(names, holders, strict=True)
    ]
    asked = client.pipeline(transaction=False)
    asked.mget(beats)
    for name, beat in zip(names, beats, strict=True):
        asked.pttl(beat)
        asked.hlen(roles.starts_key(name))
    said, *rest = asked.execute()
    answers = iter(rest)
    return tuple(
        RoleHealth(
            name=name,
            silent_s=None if left_ms < 0 else (lease.HEARTBEAT_LIFE_MS - left_ms) / 1000,
            starts=starts,
            ailing=_ailing(beat),
        )
        for name, beat, left_ms, starts in zip(names, said, answers, answers, strict=True)
    )


def _ailing(beat: bytes | None) -> str:
    try:
        return safe(str(json.loads(beat or b"{}").get("ailing", "")))[:AILING_CHARACTERS]
    except (ValueError, AttributeError):
        return ""  # nobody's heartbeat: how old it is was asked apart


def _host(holder: bytes | None) -> str:
    """The host that runs the role now, which may be another than ours."""
    return settings.QUANTUM_HOST if holder is None else lease.who(holder).rpartition("/")[0]


def _database_answers() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return False
    return True
