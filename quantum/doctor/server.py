"""What Redis or Valkey is like: there, durable, never evicting, able, and on the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.conf import settings
from django.db import connection
from redis.exceptions import ResponseError

from quantum import clock, instance
from quantum.doctor import Finding, fail, ok, warn
from quantum.log import masked
from quantum.models import Instance
from quantum.redis import Client, RedisError, command_client

SKEW_WARN_MS, SKEW_FAIL_MS = 1000, 5000
"""A plan more than 5 s ahead is refused, so a host that far off passes nothing."""


def redis() -> Iterator[Finding]:
    try:
        with command_client() as client:
            client.ping()
    except RedisError as failure:
        yield fail(
            f"{masked(settings.REDIS_URL)} does not answer: {type(failure).__name__}",
            remedy="start it (manage.py up brings its own), or correct REDIS_URL",
            dependency=True,
        )
        return
    yield ok(f"{masked(settings.REDIS_URL)} answers")


def durability() -> Iterator[Finding]:
    """By INFO, not CONFIG: a role's user may not be allowed to read the configuration."""
    found = _info("persistence")
    if not int(found.get("aof_enabled", 0)):
        yield fail("the append-only file is off", remedy="set appendonly yes in the server's configuration")
    elif found.get("aof_last_write_status", "ok") != "ok":
        yield fail(
            "the append-only file could not be written", remedy="free space on the server's disk; see its log"
        )
    else:
        yield ok("append-only file on")


def eviction() -> Iterator[Finding]:
    policy = str(_info("memory").get("maxmemory_policy", "unknown"))
    if policy == "noeviction":
        yield ok("maxmemory-policy noeviction")
    else:
        yield fail(
            f"maxmemory-policy is {policy}: permits and plans may vanish",
            remedy="set maxmemory-policy noeviction in the server's configuration",
        )


def features() -> Iterator[Finding]:
    """Asked of a key that does not exist, so that nothing is written. Features, never versions."""
    nowhere = settings.KEYS.wake("doctor")
    probes: dict[str, Callable[[Client], object]] = {
        "XAUTOCLAIM": lambda client: client.xautoclaim(nowhere, "doctor", "doctor", min_idle_time=60_000),
        "XTRIM MINID": lambda client: client.xtrim(nowhere, minid="0"),
        "GETEX": lambda client: client.getex(nowhere, px=1000),
        "EVAL": lambda client: client.eval("return redis.call('TIME')[1]", 0),
    }
    with command_client() as client:
        missing = [name for name, probe in probes.items() if not _has(client, probe)]
    if missing:
        yield fail(f"the server lacks {', '.join(missing)}", remedy="use Redis 6.2 or newer, or Valkey")
    else:
        yield ok(f"it has {', '.join(probes)}")


def _has(client: Client, probe: Callable[[Client], object]) -> bool:
    """NOGROUP or `no such key` means that the command was understood."""
    try:
        probe(client)
    except ResponseError as answer:
        text = str(answer).lower()
        return not any(word in text for word in ("unknown command", "syntax error", "wrong number"))
    return True


def skew() -> Iterator[Finding]:
    with command_client() as client:
        before_ms = clock.now_ms()
        seconds, micros = client.time()
        after_ms = clock.now_ms()
    yield _skew("the server", int(seconds) * 1000 + int(micros) // 1000, before_ms, after_ms)


def database_skew() -> Iterator[Finding]:
    """Nothing goes by the database's clock: rows carry ours, and the audit's order is its seals' (FAULTS C10)."""
    if connection.vendor == "sqlite":
        yield ok("SQLite has no clock of its own")
        return
    with connection.cursor() as cursor:
        before_ms = clock.now_ms()
        cursor.execute("SELECT clock_timestamp()")
        (at,) = cursor.fetchone()
        after_ms = clock.now_ms()
    yield _skew("the database", int(at.timestamp() * 1000), before_ms, after_ms, worst=warn)


def _skew(
    whose: str, theirs_ms: int, before_ms: int, after_ms: int, *, worst: Callable[..., Finding] = fail
) -> Finding:
    ahead_ms = theirs_ms - (before_ms + after_ms) // 2
    text = f"{whose}'s clock is {ahead_ms:+d} ms off ours (answer took {after_ms - before_ms} ms)"
    if abs(ahead_ms) < SKEW_WARN_MS:
        return ok(text)
    say = worst if abs(ahead_ms) >= SKEW_FAIL_MS else warn
    return say(text, remedy="run a time service (chrony, systemd-timesyncd) on both machines")


def identity() -> Iterator[Finding]:
    if not Instance.objects.exists():
        yield warn("never started: mode and account are not stored yet", remedy="the first start stores them")
        return
    with command_client() as client:
        try:
            found = instance.check(client)
        except instance.WrongInstance as wrong:
            what, _, remedy = str(wrong).partition("; ")
            yield fail(what, remedy=remedy)
            return
    if found is not None:
        yield ok(f"{found.uuid}, mode {found.mode}, account {found.account}")


def _info(section: str) -> dict[str, Any]:
    with command_client() as client:
        found: dict[str, Any] = client.info(section)
        return found
