"""What Redis says now: who lives, what waits, whether a pair could be spent."""

from __future__ import annotations

from django.conf import settings
from msgspec import Struct

from permits.state import trading
from positions.reconcile import reconcile
from positions.reconcile.reconcile import Line
from quantum import backlog, health
from quantum.backlog import Backlog
from quantum.health import RoleHealth
from quantum.redis import RedisError, command_client


class Consumer(Struct, frozen=True):
    health: RoleHealth
    backlog: Backlog | None
    """Of the plan stream; None for a role that reads none of it."""


class Running(Struct, frozen=True):
    consumers: tuple[Consumer, ...]
    dead_letters: int
    armed: bool
    lines: dict[str, Line | None]
    """Both sides of each symbol; None where nobody has read the exchange."""


def look(state: trading.Projection, *, symbols: list[str]) -> Running | None:
    """None when Redis does not answer: then nothing of this is known, and no plan can pass."""
    client = command_client()
    try:
        groups = {each.group: each for each in backlog.groups(client)}
        healths = health.role_healths(client)
        return Running(
            consumers=tuple(Consumer(each, groups.get(each.name)) for each in healths),
            dead_letters=backlog.dead_letters(client),
            armed=state.active and client.get(settings.KEYS.trading_state) == state.raw,
            lines=reconcile.stand(client, names=symbols),
        )
    except RedisError:
        return None
