"""Roles: the long-lived consumers, registered by the apps, each run by one process under a lease."""

from __future__ import annotations

import gc
import os
import platform
from collections.abc import Callable, Mapping
from functools import cache
from importlib import metadata

import django
from django.conf import settings
from msgspec import Struct
from prometheus_client import start_http_server

from quantum import clock
from quantum.lease import Lease, Watch
from quantum.log import log, masked
from quantum.redis import Client, RedisError, command_client, log_in_as

__all__ = ["Role", "Watch", "find", "lease_for", "register", "registered", "run", "starts_key"]


class Role(Struct, frozen=True):
    name: str
    metrics_index: int
    """Its /metrics port is METRICS_PORT plus this, where METRICS_PORT is set."""
    run: Callable[[Watch], None]
    """Blocks; calls watch.keep() each turn and returns soon after it said False."""


STARTS_KEPT_MS = 3_600_000

_roles: dict[str, Role] = {}


def register(role: Role) -> None:
    """From AppConfig.ready()."""
    if role.name in _roles:
        raise ValueError(f"two roles are called {role.name}")
    _roles[role.name] = role


def registered() -> tuple[Role, ...]:
    return tuple(_roles.values())


def find(name: str) -> Role:
    return _roles[name]


def lease_for(role: Role, *, client: Client) -> Lease:
    return Lease(
        client=client,
        keys=settings.KEYS,
        role=role.name,
        host=settings.QUANTUM_HOST,
        pid=os.getpid(),
        versions=_versions(client),
    )


def run(role: Role, *, lease: Lease, told_to_stop: Callable[[], bool]) -> bool:
    """For a lease that was taken: run the role to its end and give the lease back. False if it failed."""
    watch = Watch(lease=lease, consumer=f"{role.name}-{settings.QUANTUM_HOST}", told_to_stop=told_to_stop)
    log_in_as(role.name)
    try:
        _calm_collector()
        _announce(role, lease)
        _note_start(role)
        _serve_metrics(role)
        role.run(watch)
    # The outermost frame of a role: say what it was, free the lease, let a fresh process try again.
    except Exception as failure:  # noqa: BLE001
        log.failure("[ROLE] failed", failure, role=role.name)
        return False
    finally:
        _release(lease)
    log.info("[ROLE] left", role=role.name, why=watch.why or "it returned by itself")
    return True


def starts_key(name: str) -> str:
    """A hash: when the role was started. Beside its heartbeats, where it may write; no host is called so."""
    return settings.KEYS.heartbeat(name, "/starts")


def _note_start(role: Role) -> None:
    """For whoever looks whether a role keeps dying; nothing rests on it."""
    key, now_ms = starts_key(role.name), clock.now_ms()
    try:
        with command_client() as client:
            old = [at for at in client.hkeys(key) if now_ms - int(at) > STARTS_KEPT_MS]
            if old:
                client.hdel(key, *old)
            client.hset(key, str(now_ms), os.getpid())
            client.pexpire(key, STARTS_KEPT_MS)
    except (RedisError, ValueError) as failure:
        log.warning("[ROLE] start not noted", role=role.name, error=failure)


def _calm_collector() -> None:
    """What is loaded by now stays loaded: collecting it again and again only costs time between two plans."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _release(lease: Lease) -> None:
    try:
        lease.release()
    except RedisError as failure:
        log.warning("[ROLE] lease not released, it ends by itself", role=lease.role, error=failure)


def _announce(role: Role, lease: Lease) -> None:
    log.info(
        "[ROLE] started",
        role=role.name,
        mode=settings.APPLY_MODE,
        host=settings.QUANTUM_HOST,
        account=settings.ACCOUNT,
        pid=os.getpid(),
        **lease.versions,
        settings=_settings_text(),
    )


def _serve_metrics(role: Role) -> None:
    if not settings.METRICS_PORT:
        return
    port = settings.METRICS_PORT + role.metrics_index
    try:
        start_http_server(port, addr="127.0.0.1")
    except OSError as failure:
        log.warning("[ROLE] no metrics: the port is not free", role=role.name, port=port, error=failure)


def _settings_text() -> str:
    """Every setting with its value; masked() hides secrets and passwords in URLs."""
    names = (name for name in settings.ENVIRONMENT.names() if hasattr(settings, name))
    return masked(" ".join(f"{name}={getattr(settings, name)}" for name in names))


def _versions(client: Client) -> Mapping[str, str]:
    return {**_own_versions(), "server": _server_version(client)}


@cache
def _own_versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "django": django.get_version(),
        "redis-py": metadata.version("redis"),
    }


def _server_version(client: Client) -> str:
    info = client.info("server")
    for name in ("valkey", "redis"):
        if f"{name}_version" in info:
            return f"{name} {info[f'{name}_version']}"
    return "unknown"
