"""Jobs of the queue: only such as may be lost."""

from __future__ import annotations

from django.conf import settings
from django_q.brokers import Broker
from django_q.tasks import async_task

from quantum import clock
from quantum.redis import command_client

CANARY_LIFE_MS = 600_000
MOST_WAITING = 3
"""While nobody takes jobs, canaries must not pile up."""


def send_canary(*, broker: Broker) -> None:
    """Through pusher, worker and back: proves that the queue carries."""
    if broker.queue_size() < MOST_WAITING:
        async_task("quantum.tasks.canary", clock.now_ms(), broker=broker, task_name="canary")


def canary(sent_ms: int) -> None:
    with command_client() as client:
        client.set(settings.KEYS.canary, sent_ms, px=CANARY_LIFE_MS)
