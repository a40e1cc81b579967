"""Gauges that are read when somebody scrapes: what is true now, from Redis and the database."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from django.db import DatabaseError
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from quantum import backlog, health
from quantum.redis import RedisError, command_client

Source = Callable[[], Iterable[Metric]]
_sources: dict[str, Source] = {}


def register(name: str, source: Source) -> None:
    """From AppConfig.ready()."""
    if name in _sources:
        raise ValueError(f"two sources of gauges are called {name}")
    _sources[name] = source


class Sources(Collector):
    """A source that cannot be read leaves its gauges out and says so: an old value must not look fresh."""

    def collect(self) -> Iterator[Metric]:
        readable = GaugeMetricFamily(
            "quantum_gauges_readable", "1 where the gauges of a source could be read", labels=["source"]
        )
        for name, source in _sources.items():
            try:
                found = list(source())
            except (RedisError, DatabaseError):
                found = []
                readable.add_metric([name], 0)
            else:
                readable.add_metric([name], 1)
            yield from found
        yield readable


def gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def stream() -> Iterator[Metric]:
    """Of the plan stream and its dead letters."""
    client = command_client()
    lag = GaugeMetricFamily("quantum_stream_lag", "Plans not yet delivered to a group", labels=["group"])
    pending = GaugeMetricFamily("quantum_stream_pending", "Plans in the hands of a group", labels=["group"])
    oldest = GaugeMetricFamily(
        "quantum_stream_oldest_pending_seconds", "Age of the oldest plan in its hands", labels=["group"]
    )
    for group in backlog.groups(client):
        if group.lag is not None:
            lag.add_metric([group.group], group.lag)
        pending.add_metric([group.group], group.pending)
        oldest.add_metric([group.group], group.oldest_pending_s)
    yield from (lag, pending, oldest)
    yield gauge("quantum_dead_letters", "Entries that lie parked as poison", backlog.dead_letters(client))


SILENT_AT_MOST_S = 3600.0
"""For so long heartbeats are kept."""


def silent_roles() -> Iterator[Metric]:
    silent = GaugeMetricFamily(
        "quantum_role_silent_seconds", "Since the last heartbeat of a role", labels=["role"]
    )
    for role in health.role_healths(command_client()):
        silent.add_metric([role.name], SILENT_AT_MOST_S if role.silent_s is None else role.silent_s)
    yield silent
