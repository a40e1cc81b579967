"""A result is told at once and noted in its rows beside the path, together with others."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError
from msgspec.structs import replace

from apply.acting import settle
from apply.acting.marks import Marks
from apply.acting.settle import End
from apply.models import Order, Plan
from apply.plans import results
from permits.gate.outcome import SpentPair
from positions.books import ledger
from positions.models import Balance
from quantum import together
from quantum.beside import Ended
from quantum.redis import Client, RedisError
from tests.house import House
from tests.orders_by_hand import activate, intend, pair_for, recorded
from tests.test_executor import executor
from tests.test_settling import proof_of

__all__ = ["executor"]
pytestmark = pytest.mark.usefixtures("transactional_db", "keys")


def settled() -> tuple[SpentPair, Order, End]:
    """As apply has it in hand: nothing is read back."""
    Balance.objects.create(account="main", symbol="BTCUSDT", amount=1, moved_ms=1, trades_from_ms=1)
    activate()
    plan = recorded(House.make())
    order = intend(plan)
    assert isinstance(order, Order)
    end = settle.settle(order, proof_of(order), actor="apply")
    assert end is not None
    return pair_for(plan), order, end


def told(redis: Client) -> list[dict[str, str]]:
    return [
        {name.decode(): value.decode() for name, value in fields.items()}
        for _, fields in redis.xrange(settings.KEYS.result_stream)
    ]


def test_what_is_told_without_a_look_is_what_the_rows_say(redis: Client) -> None:
    marks, (pair, order, end) = Marks(client=redis), settled()
    marks.tell(pair, order, end)
    [said] = told(redis)
    rows = results.result_fields(Plan.objects.get(), Order.objects.get())
    assert said == {**rows, "timestamp": said["timestamp"]}
    assert (said["executed"], said["executed_qty"], said["safe_qty"]) == ("True", "0.25", "0.25")


def test_an_end_that_is_not_ours_is_told_by_its_rows(redis: Client) -> None:
    marks, (pair, order, _) = Marks(client=redis), settled()
    assert settle.settle(order, proof_of(order), actor="apply") is None
    marks.tell(pair, order, None)
    assert told(redis)[0]["executed"] == "True"
    assert Plan.objects.get().result_id


def test_noted_are_its_id_its_copy_for_readers_and_nothing_twice(redis: Client) -> None:
    marks, (pair, order, end) = Marks(client=redis), settled()
    counted = results.PLANS.labels(symbol="BTCUSDT", decision="EXECUTE")
    before = counted._value.get()
    for _ in range(2):
        marks.tell(pair, order, end)
    [[stream_id, _]] = redis.xrange(settings.KEYS.result_stream)
    batch = [marks._waiting.get() for _ in range(2)]
    marks.write([result for result in batch if result is not None])
    assert Plan.objects.get().result_id == stream_id.decode()
    assert counted._value.get() == before + 1
    copy = redis.hgetall(settings.KEYS.ledger("BTCUSDT"))
    assert Decimal(copy[b"last_known_amt"].decode()) == Decimal("0.75")
    assert (copy[b"last_executed_qty"], copy[b"last_order_id"]) == (b"0.25", b"77")


def test_what_could_not_be_noted_the_janitor_notes_with_the_same_id(
    redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks, (pair, order, end) = Marks(client=redis), settled()
    marks.tell(pair, order, end)
    [[stream_id, _]] = redis.xrange(settings.KEYS.result_stream)
    result = marks._waiting.get()
    assert result is not None

    def gone(*_: Any) -> None:
        raise OperationalError("the database is gone")

    with monkeypatch.context() as patched:
        patched.setattr(together, "run", gone)
        marks.write([result])
    assert Plan.objects.get().result_id == ""
    assert results.finish(redis, order.plan_id) == stream_id.decode()
    assert Plan.objects.get().result_id == stream_id.decode()
    assert len(told(redis)) == 1


def test_a_copy_for_readers_that_cannot_be_written_ends_nothing(
    redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks, (pair, order, end) = Marks(client=redis), settled()
    marks.tell(pair, order, end)
    result = marks._waiting.get()
    assert result is not None

    def gone(*_: Any) -> None:
        raise RedisError("gone")

    monkeypatch.setattr(ledger, "project_exits", gone)
    marks.write([result])
    assert Plan.objects.get().result_id


def test_a_role_whose_marks_have_ended_ends_too(executor: Any) -> None:
    executor.idle()
    executor.drain()
    with pytest.raises(Ended):
        executor.idle()


def test_a_role_that_is_told_to_stop_notes_what_it_has_told(executor: Any, redis: Client) -> None:
    pair, order, end = settled()
    executor._marks.tell(replace(pair, token=""), order, end)
    executor.drain()
    assert Plan.objects.get().result_id
