"""An outage makes no poison: what fails because a server is down is delivered again until it is up."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError

from quantum import stream
from quantum.redis import Client
from quantum.stream import Entry
from tests.contract.consumers import DEAD, Running, add, all_acknowledged, pending
from tests.house import wait_for

OUTAGES: tuple[Exception, ...] = (
    OperationalError("database is locked"),
    RedisConnectionError("refused"),
    ReadOnlyError("You can't write against a read only replica."),
    ResponseError("NOREPLICAS Not enough good replicas to write."),
)


@pytest.mark.parametrize("outage", OUTAGES, ids=lambda error: type(error).__name__)
def test_an_outage_makes_no_poison_however_long_it_lasts(
    redis: Client, consume: Callable[..., Running], monkeypatch: pytest.MonkeyPatch, outage: Exception
) -> None:
    """A database that was down for 75 s parked every plan it met as a dead letter."""
    monkeypatch.setattr(stream, "DELIVERIES_MAX", 2)
    down = True

    def handle(_entry: Entry) -> bool:
        if down:
            raise outage
        return True

    running = consume(handle=handle)
    add(redis, 1)
    wait_for(lambda: len(running.seen) > 6, what="more deliveries than poison gets")
    assert not redis.exists(DEAD)
    down = False
    all_acknowledged(redis)
    assert not redis.exists(DEAD)


def test_what_is_poison_stays_poison_after_an_outage(
    redis: Client, consume: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "DELIVERIES_MAX", 2)
    errors = iter([OperationalError("down")] * 4)

    def handle(_entry: Entry) -> bool:
        raise next(errors, RuntimeError("always"))

    running = consume(handle=handle)
    add(redis, 1)
    [(_, letter)] = wait_for(lambda: redis.xrange(DEAD), what="the dead letter")
    all_acknowledged(redis)
    assert int(letter[b"deliveries"]) == 3
    assert len(running.seen) == 4 + 2


def test_what_was_taken_over_is_never_parked_while_its_taker_cannot_end_it(
    redis: Client, consume: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gate's recorder acknowledges what it has written; while the database is down it writes nothing."""
    monkeypatch.setattr(stream, "DELIVERIES_MAX", 2)
    running = consume(handle=lambda entry: False)
    [entry_id] = add(redis, 1)
    wait_for(lambda: len(running.seen) > 6, what="more deliveries than poison gets")
    assert not redis.exists(DEAD)
    running.consumer.ack(entry_id.decode())
    assert pending(redis) == 0
