"""The kernel's own checks, in the order in which a person would ask. They come before all registered ones."""

from __future__ import annotations

from quantum.doctor import Check, Needs, chain, place, server, work

_REDIS, _DATABASE = Needs.REDIS, Needs.DATABASE

CHECKS: dict[str, tuple[Check, frozenset[Needs]]] = {
    "versions": (place.versions, frozenset()),
    "settings": (place.sources, frozenset()),
    "checks": (place.system_checks, frozenset()),
    "folder": (place.folder, frozenset()),
    "keys": (place.signing_keys, frozenset()),
    "database": (place.database, frozenset()),
    "migrations": (place.migrations, frozenset({_DATABASE})),
    "redis": (server.redis, frozenset()),
    "durability": (server.durability, frozenset({_REDIS})),
    "eviction": (server.eviction, frozenset({_REDIS})),
    "features": (server.features, frozenset({_REDIS})),
    "clock": (server.skew, frozenset({_REDIS})),
    "database clock": (server.database_skew, frozenset({_DATABASE})),
    "instance": (server.identity, frozenset({_REDIS, _DATABASE})),
    "roles": (work.at_work, frozenset({_REDIS})),
    "queue": (work.queue, frozenset({_REDIS})),
    "groups": (work.groups, frozenset({_REDIS})),
    "dead letters": (work.dead_letters, frozenset({_REDIS})),
    "audit": (chain.sealed, frozenset({_DATABASE})),
    "trading": (work.trading, frozenset({_REDIS})),
    "exchange": (work.exchange, frozenset({_REDIS})),
}
