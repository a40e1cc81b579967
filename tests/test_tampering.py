"""A hand in Redis moves nothing of ours; it is told of, and undone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings

from positions.books import ledger, tampering
from positions.models import Balance
from quantum.models import AuditEvent
from quantum.redis import Client
from tests.drift_by_hand import balance

pytestmark = pytest.mark.usefixtures("db")
Bend = Callable[[Client, str], Any]


@pytest.fixture
def copied(redis: Client) -> Client:
    for symbol in ("BTCUSDT", "ETHUSDT"):
        balance("1.5", symbol=symbol)
        ledger.project(redis, symbol)
    assert tampering.mend(redis) == []
    return redis


@pytest.mark.parametrize(
    "bend",
    [
        lambda redis, key: redis.hset(key, "last_known_amt", "9"),
        lambda redis, key: redis.hset(key, "version", "7"),
        lambda redis, key: redis.hset(key, "version", "x"),
        lambda redis, key: redis.hset(key, "last_known_amt", b"\xff"),
        lambda redis, key: (redis.delete(key), redis.set(key, "1.5")),
    ],
    ids=["amount", "newer version", "no version", "no text", "no hash"],
)
def test_a_copy_that_somebody_changed_is_told_of_once_and_written_anew(copied: Client, bend: Bend) -> None:
    key = settings.KEYS.ledger("BTCUSDT")
    bend(copied, key)
    assert tampering.mend(copied) == ["BTCUSDT"]
    assert copied.hmget(key, "last_known_amt", "version") == [b"1.5", b"1"]
    assert AuditEvent.objects.filter(kind="ledger_copy_tampered", symbol="BTCUSDT").count() == 1
    assert tampering.mend(copied) == []
    assert Balance.objects.get(symbol="BTCUSDT").amount == 1.5


def test_a_copy_that_is_gone_or_was_overtaken_is_nobodys_doing(copied: Client) -> None:
    copied.delete(settings.KEYS.ledger("BTCUSDT"))
    Balance.objects.filter(symbol="ETHUSDT").update(amount="2", version=2)
    assert tampering.mend(copied) == []
    found = [copied.hget(settings.KEYS.ledger(symbol), "last_known_amt") for symbol in ("BTCUSDT", "ETHUSDT")]
    assert found == [b"1.5", b"2"]
    assert not AuditEvent.objects.exists()
