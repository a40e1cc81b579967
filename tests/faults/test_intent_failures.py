"""C1, C5, C6: the database fails between a spent pair and its order. No record, no order, and no second one."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import OperationalError

from apply.acting import intent
from apply.models import Order, Plan
from tests.house import House, wait_for


def failing(monkeypatch: pytest.MonkeyPatch, *, times: int, committed: bool = False) -> list[str]:
    """The intent's transaction breaks so many times; committed: only its answer is lost, once."""
    whole, calls = intent.make, list[str]()

    def make(*args: Any, **more: Any) -> Order | str:
        calls.append("asked")
        if len(calls) > times:
            return whole(*args, **more)
        if committed:
            whole(*args, **more)
            return "audit_unavailable"
        with monkeypatch.context() as broken:
            broken.setattr(intent, "_make", _breaks)
            return whole(*args, **more)

    monkeypatch.setattr(intent, "make", make)
    return calls


def _breaks(*_: object) -> Order:
    raise OperationalError("deadlock detected")


def test_c5_a_deadlock_costs_the_intent_a_second_try_and_the_plan_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.start()
    calls = failing(monkeypatch, times=1)
    plan = house.publish()
    assert house.ended(plan, within_s=4).state == "filled", "before any redelivery"
    assert len(calls) == 2
    assert len(house.orders(plan)) == 1


def test_c6_an_intent_that_committed_and_could_not_say_so_is_proved_unsent_and_never_sent(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.start()
    failing(monkeypatch, times=1, committed=True)
    plan = house.publish()
    row = house.ended(plan, within_s=12)
    assert row.state == "not_at_exchange"
    assert house.orders(plan) == []


def test_c1_a_database_that_stays_down_sends_nothing_and_keeps_the_entry(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.start()
    calls = failing(monkeypatch, times=1000)
    plan = house.publish()
    wait_for(lambda: len(calls) == 3, what="three tries")
    wait_for(
        lambda: house.redis.xpending("quantum:stream:apply.plan", "apply")["pending"] == 1, what="the entry"
    )
    assert Plan.objects.get(plan_id=plan.plan_id).state == "open"
    assert house.orders(plan) == []
    monkeypatch.undo()
    assert house.exit("SOLUSDT").state == "filled"
