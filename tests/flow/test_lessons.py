"""What the system before this one got wrong, each as a story that must not happen again.

Wrong permits (lessons 1, 2, 3, 8) and a wiped Redis have their own files in tests/permits/faults.
"""

from __future__ import annotations

import time

import pytest
from django.conf import settings

from apply.models import Order
from permits.models import Permit
from quantum.plan import Action
from tests.house import House, wait_for
from tests.permits_by_hand import GOVERNOR, P33, lay, permit


@pytest.fixture
def apply_alone(house: House) -> House:
    """Only apply runs: the permits of these tests are laid by hand."""
    return house.start("apply")


# ---- 2: permits were deleted before anyone looked


def test_lesson_2_spent_permits_are_kept_in_full_with_the_order(apply_alone: House) -> None:
    plan = apply_alone.publish()
    governor, p33 = permit(plan, GOVERNOR), permit(plan, P33)
    lay(apply_alone.redis, plan, governor=governor, p33=p33)
    assert apply_alone.ended(plan).state == "filled"
    order = Order.objects.get(plan_id=plan.plan_id)
    assert (order.governor_permit.encode(), order.p33_permit.encode()) == (governor, p33)
    assert not apply_alone.redis.exists(
        settings.KEYS.governor_permit(plan.plan_id), settings.KEYS.p33_permit(plan.plan_id)
    )
    kept = Permit.objects.filter(plan_id=plan.plan_id, fate=Permit.Fate.SPENT).values_list("raw", flat=True)
    assert {raw.encode() for raw in kept} == {governor, p33}


# ---- 3: a safe quantity 50 times the position was sent as it was


def test_lesson_3_never_more_than_the_plans_share_is_sent(apply_alone: House) -> None:
    """The permit allows all of it; the plan asks for a quarter."""
    plan = apply_alone.publish(apply_alone.make("BTCUSDT", Action.PARTIAL_25))
    lay(
        apply_alone.redis,
        plan,
        governor=permit(plan, GOVERNOR),
        p33=permit(plan, P33, safe="1", position="1"),
    )
    assert apply_alone.ended(plan).state == "filled"
    [order] = apply_alone.orders(plan)
    assert "quantity=0.25&" in order["params"] + "&"


# ---- 7: a denial was not written: the waiter sat out 1.2 s and said "missing"


def test_lesson_7_a_denial_is_an_answer_and_ends_the_wait_at_once(house: House) -> None:
    house.start()
    plan = house.publish(house.make("BTCUSDT", mode="live"))
    started = time.monotonic()
    row = house.ended(plan)
    assert (row.error, row.gate_reason) == ("permit_denied:governor_denied", "mode")
    assert row.wait_ms is not None and row.wait_ms < 600, (
        f"waited {row.wait_ms} ms for an answer that was there"
    )
    assert time.monotonic() - started < settings.APPLY_PERMIT_WAIT_MS / 1000
    denials = Permit.objects.filter(plan_id=plan.plan_id, gate=GOVERNOR, verdict=False)
    wait_for(denials.exists, what="the denial's row, written beside the path")


# ---- exactly once, whatever Redis forgets


def test_deleting_the_apply_and_position_keys_orders_nothing_again(house: House) -> None:
    house.start()
    plan = house.publish()
    house.ended(plan)
    doomed = list(house.redis.scan_iter("quantum:apply:*")) + list(
        house.redis.scan_iter("quantum:position:*")
    )
    assert doomed
    house.redis.delete(*doomed)
    house.publish(plan)
    house.redis.xadd(settings.KEYS.plan_stream, plan.fields())  # a bot tells it once more
    # The Governor knows no size until the feed has written its snapshot again.
    wait_for(lambda: house.exit().state == "filled", what="exits to flow again")
    assert len(house.orders(plan)) == 1
    assert len(house.results(plan)) == 1
