"""Bad input: parked or refused with its reason, never executed, and the next plan passes."""

from __future__ import annotations

import json

import pytest
from django.conf import settings

from apply.models import Plan
from quantum import clock
from quantum.models import AuditEvent
from quantum.plan import Action, ExitPlan
from tests.house import House, wait_for

STREAM = "quantum:stream:apply.plan"


def six_fields(plan: ExitPlan) -> dict[str, str]:
    names = ("plan_id", "symbol", "action", "kill_score", "decision", "timestamp")
    return {name: value for name, value in plan.fields().items() if name in names}


def dead_letters(house: House) -> list[dict[str, str]]:
    entries = house.redis.xrange(settings.KEYS.dead_letters(settings.KEYS.plan_stream))
    return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in entries]


POISON = {
    "binary": {b"plan_id": b"\xff\xfe\x00\x80", b"symbol": b"\xc3("},
    "100_kB": {b"plan_id": b"a" * 100_000},
    "deeply_nested": {b"plan_id": b"0123456789abcdef", b"steps": b"[" * 2000, b"action": b"PARTIAL_25"},
    "wrong_type": {b"plan_id": b"0123456789abcdef", b"symbol": b"BTCUSDT", b"action": b"7"},
    "bad_id": {b"plan_id": b"../../etc/passwd", b"symbol": b"BTCUSDT", b"action": b"PARTIAL_25"},
    "not_a_number": {b"kill_score": b"NaN"},
    "infinite": {b"timestamp": b"inf"},
    "line_breaks": {b"symbol": b"BTC\n[PERMIT_WAIT] OK plan=1"},
    "too_many_fields": {f"f{number}".encode(): b"1" for number in range(60)},
}


@pytest.mark.parametrize("kind", POISON)
def test_e18_a_poison_entry_is_parked_once_and_the_next_plan_passes(house: House, kind: str) -> None:
    house.start()
    whole = {name.encode(): value.encode() for name, value in six_fields(house.make()).items()}
    entry = whole | POISON[kind]
    house.redis.xadd(STREAM, entry)
    row = house.exit()
    assert row.state == "filled", row.error
    [letter] = wait_for(lambda: dead_letters(house), what="the dead letter")
    assert letter["error"].startswith("invalid_plan")
    assert letter["sample"].isprintable(), "the sample is not safe to show"
    assert len(letter["sample"]) <= 300
    wait_for(
        lambda: house.redis.xpending(STREAM, "apply")["pending"] == 0, what="the entry to be acknowledged"
    )
    assert len(dead_letters(house)) == 1


def test_a_plan_of_six_public_fields_from_a_stranger_is_executed(house: House) -> None:
    house.start()
    plan = house.make()
    house.redis.xadd(STREAM, six_fields(plan))
    assert house.ended(plan).state == "filled"
    assert len(house.orders(plan)) == 1


def test_e13_the_same_plan_ten_times_is_one_order_and_one_result(house: House) -> None:
    house.start()
    plan = house.make()
    for _ in range(10):
        house.redis.xadd(STREAM, six_fields(plan))
    assert house.ended(plan).state == "filled"
    wait_for(
        lambda: house.redis.xpending(STREAM, "apply")["pending"] == 0, what="all entries to be acknowledged"
    )
    assert house.exit().state == "filled"
    assert len(house.orders(plan)) == 1
    assert len(house.results(plan)) == 1


def test_e13_the_same_id_with_other_content_is_a_conflict_and_never_executed(house: House) -> None:
    house.start()
    plan = house.publish()
    house.ended(plan)
    other = six_fields(plan) | {"action": Action.FULL_CLOSE.value}
    house.redis.xadd(STREAM, other)
    wait_for(
        AuditEvent.objects.filter(plan_id=plan.plan_id, kind="plan_conflict").exists,
        what="the conflict's event",
    )
    assert len(house.orders(plan)) == 1
    assert Plan.objects.get(plan_id=plan.plan_id).action == plan.action.value


@pytest.mark.parametrize("symbol", ["DOGEUSDT", "BTCUSDT ", "btcusdt", "ＢＴＣＵＳＤＴ"])
def test_e20_a_symbol_that_is_not_exactly_on_the_list_is_refused(house: House, symbol: str) -> None:
    house.start()
    plan = house.make(symbol)
    house.redis.xadd(STREAM, six_fields(plan))
    row = house.ended(plan)
    assert (row.state, row.error) == ("blocked", "symbol_not_allowed")
    assert house.orders(plan) == []


def test_e16_a_stale_plan_is_refused_whatever_permits_exist(house: House) -> None:
    house.start()
    plan = house.make(timestamp_text=f"{clock.now_s() - 31:.3f}")
    house.redis.xadd(STREAM, six_fields(plan))
    row = house.ended(plan)
    assert (row.state, row.error) == ("expired", "stale_plan")
    assert house.orders(plan) == []


def test_e16_a_plan_from_the_future_is_refused(house: House) -> None:
    """Beyond the five seconds by which clocks may differ; nonsense in place of a time is poison (E18)."""
    house.start()
    assert house.ended(house.publish(house.make(timestamp_text=f"{clock.now_s() + 4:.3f}"))).state == "filled"
    plan = house.make(timestamp_text=f"{clock.now_s() + 60:.3f}")
    house.redis.xadd(STREAM, six_fields(plan))
    assert house.ended(plan).error == "future_plan"


def test_expires_at_may_shorten_a_life_but_not_lengthen_it(house: House) -> None:
    house.start()
    long_past = house.make(timestamp_text=f"{clock.now_s() - 31:.3f}")
    house.redis.xadd(STREAM, six_fields(long_past) | {"expires_at": f"{clock.now_s() + 600:.0f}"})
    shortened = house.make()
    house.redis.xadd(STREAM, six_fields(shortened) | {"expires_at": f"{clock.now_s() - 1:.3f}"})
    assert house.ended(long_past).error == "stale_plan"
    assert house.ended(shortened).error == "stale_plan"


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (Action.HOLD, "decision_skip"),
        (Action.NONE, "decision_skip"),
        (Action.UPDATE_SL, "action_unsupported"),
    ],
)
def test_an_action_that_closes_nothing_is_skipped_with_its_reason(
    house: House, action: Action, error: str
) -> None:
    house.start()
    row = house.ended(house.publish(house.make("BTCUSDT", action)))
    assert (row.state, row.error) == ("skipped", error)


def test_e21_whatever_is_not_decided_as_execute_is_never_sent(house: House) -> None:
    house.start()
    for decision in ("SKIP", "BLOCKED", "ERROR"):
        plan = house.make()
        house.redis.xadd(STREAM, six_fields(plan) | {"decision": decision})
        row = house.ended(plan)
        assert (row.state, row.error) == ("skipped", "decision_skip")
        assert house.orders(plan) == []
        assert not house.redis.exists(
            settings.KEYS.governor_permit(plan.plan_id), settings.KEYS.p33_permit(plan.plan_id)
        )


def test_the_published_steps_are_json_that_follows_from_the_action(house: House) -> None:
    plan = house.make("BTCUSDT", Action.PARTIAL_75)
    assert json.loads(plan.fields()["steps"]) == [{"percent": 75, "step": "CLOSE_PARTIAL_75"}]
