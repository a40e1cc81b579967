"""A18, E14, E15: apply is stopped while it acts, two of them act at once, and a done plan comes again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.conf import settings

from apply.acting.executor import DEDUPED, Executor
from apply.models import Plan
from quantum.stream import Entry
from tests.faults.ends import ledger_agrees, told_once
from tests.house import House, wait_for
from tests.permits_by_hand import lay_both

STREAM = settings.KEYS.plan_stream


def pending(house: House) -> int:
    return int(house.redis.xpending(STREAM, "apply")["pending"])


@pytest.mark.slow
def test_a18_sigterm_finishes_what_is_sent_leaves_what_waits_and_says_so(
    house: House, capfd: pytest.CaptureFixture[str]
) -> None:
    house.start("warden")
    leaving = house.spawn_role("apply")
    house.paper.push_scenario({"next": "order", "do": "latency", "ms": 2000})
    sent, waits = house.make("BTCUSDT"), house.make("SOLUSDT")
    lay_both(house.redis, sent)
    house.publish(sent)
    wait_for(lambda: house.paper.accepted(prefix=f"q-{sent.plan_id}"), what="the exchange to take it")
    house.publish(waits)
    wait_for(lambda: pending(house) == 2, what="the second to be waited for")
    leaving.terminate()
    assert leaving.wait(10) == 0
    told_once(house, sent, state="filled")
    assert Plan.objects.get(plan_id=waits.plan_id).state == "open"
    assert not house.redis.exists(settings.KEYS.lease("apply"))
    left = [line for line in capfd.readouterr().err.splitlines() if "[ROLE] left role=apply" in line]
    assert ["why=told to stop" in line for line in left] == [True]
    lay_both(house.redis, waits)
    house.spawn_role("apply")
    told_once(house, waits, state="filled")


@pytest.fixture
def second(house: House) -> Iterator[House]:
    """Another host of the same instance, whose apply believes that it is the only one."""
    other = House(redis=house.redis, paper=house.paper)
    yield other
    other.stop()


def test_e14_two_that_act_at_once_make_one_order_of_each_plan(
    house: House, second: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease avoids double work; what holds when it does not is the consume and the intent."""
    handle, acting = Executor.handle, set[int]()

    def seen(executor: Executor, entry: Entry) -> bool:
        acting.add(id(executor))
        return handle(executor, entry)

    monkeypatch.setattr(Executor, "handle", seen)
    house.start()
    second.begin("apply")
    for _ in range(3):
        plans = [house.make(symbol) for symbol in house.POSITIONS]
        for plan in plans:
            house.publish(plan)
            house.redis.xadd(STREAM, plan.fields())  # once for each of them
        for plan in plans:
            told_once(house, plan, state="filled")
    assert len(acting) == 2, "only one of them was at work"
    ledger_agrees(house)


def test_e15_a_done_plan_that_is_delivered_again_is_counted_and_nothing_else(house: House) -> None:
    """Its acknowledgement was lost, and a dead consumer had it."""
    house.start()
    plan = house.publish()
    told_once(house, plan, state="filled")
    wait_for(lambda: pending(house) == 0, what="the entry to be acknowledged")
    [(entry_id, _)] = house.redis.xrange(STREAM)
    before = DEDUPED._value.get()
    house.redis.xclaim(STREAM, "apply", "apply-dead", 0, [entry_id], idle=60_000, force=True, justid=True)
    assert pending(house) == 1
    wait_for(lambda: pending(house) == 0, what="it to be claimed and acknowledged again")
    assert DEDUPED._value.get() == before + 1
    told_once(house, plan, state="filled")
    assert house.exit("SOLUSDT").state == "filled"
