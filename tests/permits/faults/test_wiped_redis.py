"""What a server may forget: B6, B7, B17-B19. Losing Redis loses no fact and can never cause an order.

A wiped server never looks free: holds are projected before the state is armed, the state only from
the database, and the intent reads the symbol's lock where no wipe reaches it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings

from apply.acting import intent
from apply.acting.executor import DEDUPED
from apply.acting.sizing import Size
from apply.models import Order, Plan
from apply.plans import publish
from apply.proving import janitor
from permits.gate.gate import Gate
from permits.gate.outcome import SpentPair
from permits.models import TradingState
from permits.state import holds, trading
from positions.models import SymbolLock
from quantum import clock
from quantum.exchange.types import Side
from quantum.plan import ExitPlan
from quantum.redis import blocking_client, command_client
from quantum.signing import Verifier
from tests.house import House, wait_for
from tests.one_house import final
from tests.own_server import OwnServer
from tests.permits.faults.test_redis_faults import lay_small, unspent

GROUPS = ("governor", "p33", "apply")


def told_again(house: House, plan: ExitPlan) -> None:
    """A bot repeats its plan, by a way that knows no publish-once."""
    house.redis.xadd(settings.KEYS.plan_stream, plan.fields())


def armed(house: House) -> bool:
    return bool(house.redis.exists(settings.KEYS.trading_state))


def seen_again() -> float:
    [[sample, *_]] = [metric.samples for metric in DEDUPED.collect()]
    return sample.value


WIPES: dict[str, Callable[[OwnServer], object]] = {
    "flushall": lambda own: own.client.flushall(),
    "restarted_empty": lambda own: own.restart_empty(),
}


@pytest.mark.parametrize("wipe", WIPES)
def test_after_a_loss_of_all_data_a_done_plan_is_a_duplicate(house: House, own: OwnServer, wipe: str) -> None:
    """B6."""
    plan = house.publish()
    assert house.ended(plan).state == "filled"
    before = seen_again()
    WIPES[wipe](own)
    told_again(house, plan)
    wait_for(lambda: seen_again() > before, what="the plan to be known")
    assert len(house.orders(plan)) == 1


def test_spent_permits_that_a_restart_brings_back_are_spent_on_nothing(muted: House, own: OwnServer) -> None:
    """B7: the last second of the append-only file is lost, and with it the spend, the receipt and the slot."""
    plan = muted.make()
    lay_small(muted, plan)
    mark = own.written()
    muted.publish(plan)
    assert muted.ended(plan).state == "filled"
    before = seen_again()
    own.restart(remembering=mark)
    assert unspent(muted, plan), "the fault was not made: the spend is still remembered"
    told_again(muted, plan)
    wait_for(lambda: seen_again() > before, what="the plan to be known")
    assert len(muted.orders(plan)) == 1
    assert unspent(muted, plan)


def test_a_pair_spent_twice_because_the_first_spend_was_forgotten_is_one_intent(
    muted: House, own: OwnServer
) -> None:
    """B7: both attempts hold a spent pair with different tokens; the order's row is the last guard."""
    plan = muted.make()
    lay_small(muted, plan)
    publish.ensure_row(plan, actor="tests", stream_id="1-1")
    mark = own.written()
    first = spent_by_hand(plan)
    own.restart(remembering=mark)
    wait_for(lambda: armed(muted), what="the state to be armed again")
    second = spent_by_hand(plan)
    assert first.token != second.token
    size = Size(side=Side.SELL, quantity=Decimal("0.002"))
    made = [intent.make(pair, size, stream_id="1-1", timestamp_ms=clock.now_ms()) for pair in (second, first)]
    assert isinstance(made[0], Order), made[0]
    assert made[1] == "duplicate"
    wait_for(
        lambda: not SymbolLock.objects.filter(plan_id=plan.plan_id).exists(),
        what="the resolver to prove that nothing was sent",
    )


def spent_by_hand(plan: ExitPlan) -> SpentPair:
    gate = Gate(
        commands=command_client(),
        blocking=blocking_client(block_s=1),
        verifier=Verifier(directory=settings.PERMIT_KEYS_DIR),
        state=lambda *, fresh: trading.current(),
    )
    outcome = gate.wait_and_consume(plan, stopping=lambda: False)
    assert isinstance(outcome, SpentPair), outcome
    return outcome


# ---- a wiped server never looks free


@pytest.fixture
def halted(muted: House) -> Iterator[House]:
    trading.change(state=TradingState.State.HALTED, by="tests", reason="a wipe must not undo this")
    yield muted
    trading.change(state=TradingState.State.ACTIVE, by="tests", reason="the wipe is over")


@pytest.mark.parametrize("wipe", WIPES)
def test_a_wipe_does_not_undo_a_halt(halted: House, own: OwnServer, wipe: str) -> None:
    WIPES[wipe](own)
    plan = halted.publish()
    lay_small(halted, plan)
    row = final(plan, within_s=5)
    assert row is not None
    assert (row.state, row.error) in (("blocked", "halted"), ("blocked", "not_armed"))
    wait_for(lambda: b"HALTED" in (halted.redis.get(settings.KEYS.trading_state) or b""), what="the halt")
    assert unspent(halted, plan)


def test_a_wipe_does_not_undo_a_hold_which_stands_before_anything_is_armed(
    muted: House, own: OwnServer
) -> None:
    """In the server's own order of writes: the hold, then the state."""
    holds.place(muted.redis, symbol="BTCUSDT", by="tests", reason="a wipe must not undo this")
    own.client.config_set("notify-keyspace-events", "K$")
    heard = own.client.pubsub()
    heard.psubscribe("__keyspace@0__:*")
    assert heard.get_message(timeout=5), "nobody listens"
    try:
        own.client.flushall()
        wait_for(lambda: armed(muted), what="the state to be armed again")
        written = [key for key in _heard(heard) if key in (_hold(), settings.KEYS.trading_state)]
        assert written[:2] == [_hold(), settings.KEYS.trading_state]
        plan = muted.publish()
        lay_small(muted, plan)
        assert muted.ended(plan).error == "hold"
        assert unspent(muted, plan)
    finally:
        heard.close()
        holds.lift(muted.redis, symbol="BTCUSDT", by="tests", reason="the wipe is over")


def _hold() -> str:
    return settings.KEYS.hold("BTCUSDT")


def _heard(heard: Any) -> Iterator[str]:
    while (message := heard.get_message(ignore_subscribe_messages=True, timeout=0.2)) is not None:
        yield message["channel"].decode().partition(":")[2]


def test_a_wipe_does_not_free_a_symbol_whose_order_is_in_flight(muted: House, own: OwnServer) -> None:
    """The slot is gone with the server; the lock in the database stands, and the intent reads it."""
    lock = SymbolLock.objects.create(account=settings.ACCOUNT, symbol="BTCUSDT", plan_id="f" * 16)
    try:
        own.client.flushall()
        wait_for(lambda: armed(muted), what="the state to be armed again")
        plan = muted.publish()
        lay_small(muted, plan)
        row = muted.ended(plan)
        assert (row.state, row.error) == ("spent_unsent", "symbol_locked")
        assert muted.orders(plan) == []
    finally:
        lock.delete()


# ---- the stream


@pytest.mark.parametrize("lost", ["stream", *GROUPS])
def test_a_stream_or_group_that_was_deleted_is_made_again_and_no_old_plan_runs(
    house: House, own: OwnServer, lost: str
) -> None:
    """B17: from 0, so that nothing that waits is skipped; what is done is known."""
    old = house.publish()
    house.ended(old)
    stream = settings.KEYS.plan_stream
    own.client.delete(stream) if lost == "stream" else own.client.xgroup_destroy(stream, lost)
    plan = house.publish(house.make("ETHUSDT"))
    assert house.ended(plan).state == "filled"
    assert [len(house.orders(each)) for each in (old, plan)] == [1, 1]


def test_a_plan_trimmed_before_it_was_read_is_not_lost_from_sight(
    muted: House, own: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B18: nobody saw the entry; the row is still there, and the janitor ends it."""
    monkeypatch.setattr(janitor, "GRACE_S", 0)
    muted.stop("apply")
    plan = muted.publish(muted.make(timestamp_text=f"{clock.now_s() - 29:.3f}"))
    own.client.xtrim(settings.KEYS.plan_stream, maxlen=0, approximate=False)
    muted.start("apply")
    row = muted.ended(plan)
    assert (row.state, row.error) == ("expired", "stale_plan")
    assert muted.orders(plan) == []


def test_a_group_that_is_set_back_to_its_beginning_orders_nothing_again(house: House, own: OwnServer) -> None:
    """B19."""
    plans = [house.publish(house.make(symbol)) for symbol in House.POSITIONS]
    assert [house.ended(plan).state for plan in plans] == ["filled"] * 3
    before = seen_again()
    for group in GROUPS:
        own.client.xgroup_setid(settings.KEYS.plan_stream, group, "0")
    wait_for(lambda: seen_again() >= before + 3, what="all of them to be known")
    assert [len(house.orders(plan)) for plan in plans] == [1, 1, 1]
    assert Plan.objects.filter(plan_id__in=[plan.plan_id for plan in plans], state="filled").count() == 3
