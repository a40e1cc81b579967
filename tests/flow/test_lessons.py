"""What the system before this one got wrong, each as a story that must not happen again."""

from __future__ import annotations

import time

import pytest
from django.conf import settings

from apply.models import Order, Plan
from permits.models import Permit
from quantum.plan import Action, ExitPlan
from tests.house import House, wait_for
from tests.permits_by_hand import GOVERNOR, P33, lay, lay_both, permit


@pytest.fixture
def apply_alone(house: House) -> House:
    """Only apply runs: the permits of these tests are laid by hand."""
    return house.start("apply")


def blocked_by(house: House, plan: ExitPlan) -> str:
    row = house.ended(plan)
    assert house.orders(plan) == [], "an order left"
    assert row.state != Plan.State.FILLED
    return row.error


# ---- 1: the Governor's answer was never read


def test_lesson_1_a_governor_permit_with_granted_false_sends_no_order(apply_alone: House) -> None:
    plan = apply_alone.publish()
    denial = permit(plan, GOVERNOR, granted=False, reason="not_in_allowlist")
    lay(apply_alone.redis, plan, governor=denial, p33=permit(plan, P33))
    assert blocked_by(apply_alone, plan) == "permit_denied:governor_denied"
    assert Plan.objects.get(plan_id=plan.plan_id).gate_reason == "not_in_allowlist"


def test_lesson_1_a_permit_that_is_no_json_sends_no_order(apply_alone: House) -> None:
    plan = apply_alone.publish()
    lay(apply_alone.redis, plan, governor=b"yes", p33=permit(plan, P33))
    assert blocked_by(apply_alone, plan) == "malformed_governor"


def test_lesson_1_a_permit_of_another_symbol_sends_no_order(apply_alone: House) -> None:
    plan = apply_alone.publish()
    lay(apply_alone.redis, plan, governor=permit(plan, GOVERNOR, symbol="ETHUSDT"), p33=permit(plan, P33))
    assert blocked_by(apply_alone, plan) == "symbol_mismatch"


def test_lesson_1_a_permit_that_says_consumed_sends_no_order(apply_alone: House) -> None:
    plan = apply_alone.publish()
    lay(apply_alone.redis, plan, governor=permit(plan, GOVERNOR, consumed=True), p33=permit(plan, P33))
    assert blocked_by(apply_alone, plan) == "already_consumed"


@pytest.mark.parametrize("granted", ["true", 1, "yes", None, [], {}])
def test_lesson_1_only_json_true_grants(apply_alone: House, granted: object) -> None:
    plan = apply_alone.publish()
    lay(apply_alone.redis, plan, governor=permit(plan, GOVERNOR, granted=granted), p33=permit(plan, P33))
    assert blocked_by(apply_alone, plan) == "malformed_governor"


# ---- 2: permits were deleted before anyone looked


def test_lesson_2_a_denial_leaves_the_other_gates_permit_and_both_as_evidence(apply_alone: House) -> None:
    plan = apply_alone.publish()
    denial, grant = permit(plan, GOVERNOR, granted=False, reason="mode"), permit(plan, P33)
    lay(apply_alone.redis, plan, governor=denial, p33=grant)
    blocked_by(apply_alone, plan)
    assert apply_alone.redis.get(settings.KEYS.p33_permit(plan.plan_id)) == grant
    assert apply_alone.redis.get(settings.KEYS.governor_permit(plan.plan_id)) == denial


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


def test_lesson_3_a_safe_quantity_of_50_times_the_position_is_refused_and_nothing_is_spent(
    apply_alone: House,
) -> None:
    plan = apply_alone.publish(apply_alone.make("BTCUSDT", Action.FULL_CLOSE))
    lay(
        apply_alone.redis,
        plan,
        governor=permit(plan, GOVERNOR),
        p33=permit(plan, P33, safe="50", position="1"),
    )
    assert blocked_by(apply_alone, plan) == "malformed_p33"
    assert apply_alone.redis.exists(settings.KEYS.p33_permit(plan.plan_id))


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


# ---- 8: a permit stored as a hash ended in WRONGTYPE and a spent plan


def test_lesson_8_a_permit_stored_as_a_hash_is_a_named_reason_and_nothing_is_spent(
    apply_alone: House,
) -> None:
    plan = apply_alone.make()
    apply_alone.redis.hset(settings.KEYS.governor_permit(plan.plan_id), "granted", "true")
    apply_alone.redis.expire(settings.KEYS.governor_permit(plan.plan_id), 60)
    apply_alone.publish(plan)
    grant = permit(plan, P33)
    lay(apply_alone.redis, plan, p33=grant)
    assert blocked_by(apply_alone, plan) == "malformed_governor"
    assert apply_alone.redis.get(settings.KEYS.p33_permit(plan.plan_id)) == grant
    after = apply_alone.publish()
    lay_both(apply_alone.redis, after)
    assert apply_alone.ended(after).state == "filled", "the line stood still"


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


def test_after_redis_is_wiped_no_old_plan_runs_and_a_new_one_does(house: House) -> None:
    house.start()
    plan = house.publish()
    house.ended(plan)
    house.redis.flushdb()
    house.redis.xadd(settings.KEYS.plan_stream, plan.fields())
    wait_for(lambda: house.redis.exists(settings.KEYS.trading_state), what="the state to be armed again")
    row = house.exit()
    assert row.state == "filled", row.error
    assert len(house.orders(plan)) == 1
