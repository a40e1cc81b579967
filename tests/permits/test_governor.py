"""The Governor's copy of usage and reservations: never looser than the truth, and back after any loss."""

from __future__ import annotations

import threading
from collections.abc import Collection
from decimal import Decimal

import pytest
from django.conf import settings as django_settings
from django.db import DatabaseError, connection

from permits.desk.payloads import GOVERNOR
from permits.desk.reserved import Reservation
from permits.governor import reservations, usage
from permits.models import Usage
from quantum import clock
from quantum.plan import ExitPlan
from quantum.redis import Client
from tests.house import House
from tests.permits.governors import AtWork, Start, arm, limit, snapshot

pytestmark = pytest.mark.usefixtures("transactional_db", "keys")
RESERVED = django_settings.KEYS.reserved(GOVERNOR)


def finish(redis: Client, plan: ExitPlan) -> None:
    redis.hdel(RESERVED, plan.plan_id)


def reserved_plans(redis: Client) -> set[str]:
    return {name.decode() for name in redis.hkeys(RESERVED)} - {"version"}


def fill(plan: ExitPlan, *, quantity: str = "0.25", notional: str = "12500") -> None:
    usage.executed(
        plan_id=plan.plan_id, symbol=plan.symbol, quantity=Decimal(quantity), notional=Decimal(notional)
    )


# ---- what a grant holds, and when it lets go


def test_a_grant_reserves_its_size_and_says_it_in_the_permit(start: Start, redis: Client) -> None:
    governor, plan = start(), House.make()
    assert governor.answer(plan).verdict
    found = Reservation.read(plan.plan_id, redis.hget(RESERVED, plan.plan_id).decode())
    assert found is not None
    assert (found.symbol, found.quantity, found.notional) == ("BTCUSDT", Decimal("0.25"), Decimal(12_500))
    assert found.expires_ms - found.issued_ms == django_settings.PERMIT_TTL_SEC * 1000
    raw = redis.get(django_settings.KEYS.governor_permit(plan.plan_id))
    assert b'"computed_qty":0.25,"computed_notional":12500,' in raw


def test_a_denial_reserves_nothing(start: Start, redis: Client) -> None:
    governor = start()
    assert governor.reason(symbol="DOGEUSDT") == "not_in_allowlist"
    assert reserved_plans(redis) == set()


def test_reservations_alone_reach_the_limit_and_a_release_makes_room(start: Start, redis: Client) -> None:
    limit("permits_per_5min=2")
    governor, first = start(), House.make()
    assert [governor.reason(first), governor.reason()] == ["approved", "approved"]
    denied = governor.answer()
    assert denied.reason == "burst_limit"
    assert denied.context is not None
    assert denied.context == {
        "scope": "total",
        "unit": "permits in 5 min",
        "limit": Decimal(2),
        "used": Decimal(2),
    }
    finish(redis, first)
    assert governor.reason() == "approved", "before it denies it reads anew"
    assert governor.reason() == "burst_limit"


def test_limits_are_charged_with_what_was_filled(start: Start, redis: Client) -> None:
    limit("notional_per_day_usd=13000")
    governor, plan = start(), House.make()
    assert governor.reason(plan) == "approved"
    assert governor.reason() == "daily_notional_limit", "the permit holds 12500"
    fill(plan, quantity="0.01", notional="500")
    finish(redis, plan)
    assert governor.reason() == "approved", "500 were traded"


def test_a_failed_order_charges_no_limit(start: Start, redis: Client) -> None:
    limit("permits_per_5min=1")
    governor, plan = start(), House.make()
    governor.answer(plan)
    usage.failed(plan_id=plan.plan_id, symbol=plan.symbol)
    finish(redis, plan)
    assert governor.reason() == "approved"


def test_a_quantity_is_limited_for_a_symbol(start: Start) -> None:
    limit("quantity_per_day=0.3", symbol="BTCUSDT")
    governor = start()
    assert governor.reason() == "approved"
    assert governor.reason() == "daily_quantity_limit"
    assert governor.reason(symbol="ETHUSDT") == "approved"


def test_a_plan_read_twice_reserves_once_and_is_not_denied_by_itself(start: Start, redis: Client) -> None:
    limit("permits_per_5min=1")
    governor, plan = start(), House.make()
    assert governor.reason(plan) == "approved"
    before = redis.hgetall(RESERVED)
    governor.answer(plan)
    assert redis.hgetall(RESERVED) == before
    assert len(governor.findings) == 1, "the permit that stands is kept"


# ---- the circuit


def test_failures_in_a_row_open_the_circuit_and_one_probe_closes_it(
    start: Start, redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit("each.failures_in_a_row=2", "each.circuit_open_s=60")
    for _ in range(2):
        usage.failed(plan_id=House.make().plan_id, symbol="BTCUSDT")
    governor = start()
    assert governor.reason() == "circuit_open"
    assert governor.reason(symbol="ETHUSDT") == "approved", "the failures were of another symbol"
    Usage.objects.update(at=clock.from_ms(clock.now_ms() - 61_000))
    governor = start()
    probe = House.make()
    assert governor.reason(probe) == "approved", "half open"
    assert governor.reason() == "circuit_open", "one probe at a time"
    fill(probe)
    finish(redis, probe)
    assert [governor.reason(), governor.reason()] == ["approved", "approved"]


def test_a_probe_that_fails_opens_the_circuit_again(start: Start, redis: Client) -> None:
    limit("each.failures_in_a_row=1", "each.circuit_open_s=60")
    usage.failed(plan_id=House.make().plan_id, symbol="BTCUSDT")
    Usage.objects.update(at=clock.from_ms(clock.now_ms() - 61_000))
    governor, probe = start(), House.make()
    assert governor.reason(probe) == "approved"
    usage.failed(plan_id=probe.plan_id, symbol="BTCUSDT")
    finish(redis, probe)
    clock.sleep_s(0.01)
    assert governor.reason() == "circuit_open"


# ---- restarts and losses


def test_a_restarted_governor_knows_what_was_used_and_what_is_reserved(start: Start) -> None:
    limit("permits_per_5min=2")
    first = start()
    fill(House.make())
    first.answer()
    first.end()
    assert start().reason() == "burst_limit"


def test_use_of_more_than_a_day_ago_is_over(start: Start) -> None:
    limit("notional_per_day_usd=13000")
    fill(House.make())
    assert start().reason() == "daily_notional_limit"
    Usage.objects.update(at=clock.from_ms(clock.now_ms() - 24 * 3_600_000 - 1))
    assert start().reason() == "approved"


@pytest.fixture
def in_flight(monkeypatch: pytest.MonkeyPatch) -> list[reservations.InFlight]:
    """What apply would tell; the plans of these tests have no rows there."""
    found: list[reservations.InFlight] = []
    plans = reservations.Plans(in_flight=lambda: found, ended=lambda ids: set())
    monkeypatch.setattr(reservations, "_plans", [plans])
    return found


def of_the_intent(redis: Client, plan: ExitPlan) -> reservations.InFlight:
    raw = redis.get(django_settings.KEYS.governor_permit(plan.plan_id)).decode()
    return reservations.InFlight(plan.plan_id, plan.symbol, Decimal("0.25"), raw)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_wiped_redis_still_counts_the_orders_in_flight(
    start: Start, redis: Client, in_flight: list[reservations.InFlight], restarted: bool
) -> None:
    limit("notional_per_day_usd=13000")
    governor, plan = start(), House.make()
    governor.answer(plan)
    in_flight.append(of_the_intent(redis, plan))
    redis.flushall()
    arm(redis)
    snapshot(redis)
    governor = start() if restarted else governor
    denied = governor.answer()
    assert denied.reason == "daily_notional_limit"
    assert denied.context is not None
    assert denied.context["used"] == 12_500
    assert reserved_plans(redis) == {plan.plan_id}


def test_after_a_wipe_an_unused_permit_stands_in_the_way_for_seconds_only(
    start: Start, redis: Client, in_flight: list[reservations.InFlight], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is lost with Redis; only if it was spent a moment before may it still become an order."""
    limit("permits_per_5min=1")
    governor = start()
    governor.answer()
    redis.flushall()
    arm(redis)
    snapshot(redis)
    assert governor.reason() == "burst_limit"
    monkeypatch.setattr(reservations, "SPENDING_MS", 1000)
    clock.sleep_s(1.1)
    assert governor.reason() == "approved"


def test_after_a_wipe_a_permit_that_waited_for_its_turn_may_have_been_spent(
    start: Start, redis: Client, in_flight: list[reservations.InFlight]
) -> None:
    """Behind another exit of its symbol a pair is spent long after it was signed. Its intent is not there yet, its
    receipt is lost; and a second wipe makes it hold no longer."""
    limit("permits_per_5min=1")
    governor, plan, issued_ms = start(), House.make(), clock.now_ms() - 20_000
    waited = Reservation(plan.plan_id, "BTCUSDT", Decimal(1), Decimal(1), issued_ms, issued_ms + 60_000)
    redis.hset(RESERVED, plan.plan_id, waited.text())
    governor.governor.decide_anew(plan)
    until: set[int] = set()
    for _ in range(2):
        redis.flushall()
        arm(redis)
        snapshot(redis)
        assert governor.reason() == "burst_limit"
        held = Reservation.read(plan.plan_id, redis.hget(RESERVED, plan.plan_id).decode())
        assert held is not None
        until.add(held.expires_ms)
        clock.sleep_s(0.01)
    assert len(until) == 1
    assert until.pop() <= clock.now_ms()


def test_what_nobody_freed_is_swept(
    start: Start, redis: Client, in_flight: list[reservations.InFlight]
) -> None:
    """A plan that apply never saw, its permit long over; one in flight stays, whatever its permit says."""
    limit("permits_per_5min=2")
    old = clock.now_ms() - 100_000
    lost, flying = House.make(), House.make()
    governor = start()
    for plan in (lost, flying):
        text = Reservation(plan.plan_id, "BTCUSDT", Decimal(1), Decimal(1), old, old + 60_000).text()
        redis.hset(RESERVED, plan.plan_id, text)
    redis.hset(RESERVED, "stranger", "not ours")
    in_flight.append(reservations.InFlight(flying.plan_id, "BTCUSDT", Decimal(1), ""))
    governor.governor.decide_anew(flying)
    assert flying.plan_id in reserved_plans(redis)
    assert lost.plan_id not in reserved_plans(redis)
    assert [governor.reason(), governor.reason()] == ["approved", "burst_limit"]


def test_a_permit_that_came_after_its_plans_end_is_freed(
    start: Start, redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a Governor that was slow once would stand in the way of the next exit for a whole permit's life."""
    ended: set[str] = set()
    plans = reservations.Plans(in_flight=list, ended=lambda ids: ended & set(ids))
    monkeypatch.setattr(reservations, "_plans", [plans])
    monkeypatch.setattr(reservations, "YOUNG_MS", 0)
    limit("each.cooldown_s=15")
    governor, late = start(), House.make()
    assert governor.reason(late) == "approved"
    clock.sleep_s(0.01)
    assert governor.reason() == "cooldown"
    ended.add(late.plan_id)
    assert governor.reason() == "approved"


def test_a_plan_that_is_settled_while_the_usage_is_read_is_never_missed(
    start: Start, redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settlement commits between the two readings, and frees the reservation: one of them must see it."""
    limit("permits_per_5min=1")
    governor, plan = start(), House.make()
    governor.answer(plan)

    def settled_now(ids: Collection[str]) -> set[str]:
        fill(plan)
        finish(redis, plan)
        return set(ids)

    plans = reservations.Plans(in_flight=list, ended=settled_now)
    monkeypatch.setattr(reservations, "_plans", [plans])
    monkeypatch.setattr(reservations, "YOUNG_MS", -1000)
    assert governor.reason() == "burst_limit"
    assert reserved_plans(redis) == set()


def test_a_settlement_whose_commit_took_long_is_never_missed(start: Start, redis: Client) -> None:
    """Its sender was frozen between its row and its commit: when that is seen, one that was written after it was read
    seconds ago, and only the reservation that has gone tells that there is something to look for."""
    limit("permits_per_5min=2")
    governor, slow, quick = start(), House.make(), House.make("ETHUSDT")
    assert [governor.reason(slow), governor.reason(quick)] == ["approved", "approved"]
    fill(quick)
    number = Usage.objects.get().id
    Usage.objects.update(id=number + 1)
    finish(redis, quick)
    assert governor.reason() == "burst_limit", "one was executed, one is reserved"
    written = clock.from_ms(clock.now_ms() - int(usage.LATE_COMMIT_S * 1000) - 1000)
    Usage.objects.create(
        id=number, plan_id=slow.plan_id, symbol=slow.symbol, kind="executed", quantity=1, notional=1, at=written
    )  # fmt: skip
    finish(redis, slow)
    assert governor.reason() == "burst_limit", "both were executed"


def test_what_could_not_be_read_is_read_the_next_time(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exit that an operator signed reserves nothing: its row is all that tells of it."""
    limit("permits_per_5min=1")
    governor = start()
    fill(House.make())
    with monkeypatch.context() as gone:
        gone.setattr(usage.Reader, "new", _no_database)
        governor.governor._books.look(age_s=0)
    governor.governor._books.look(age_s=0)
    assert governor.reason() == "burst_limit"


def _no_database(*_: object, **__: object) -> None:
    raise DatabaseError("gone")


@pytest.mark.parametrize("restarted", [False, True])
def test_a_redis_that_lost_its_last_second_forgets_no_order_in_flight(
    start: Start, redis: Client, in_flight: list[reservations.InFlight], restarted: bool
) -> None:
    limit("permits_per_5min=1")
    governor, plan = start(), House.make()
    before = redis.hgetall(RESERVED)
    governor.answer(plan)
    in_flight.append(of_the_intent(redis, plan))
    redis.delete(RESERVED)
    redis.hset(RESERVED, mapping=before)
    assert (start() if restarted else governor).reason() == "burst_limit"
    assert reserved_plans(redis) == {plan.plan_id}


@pytest.mark.parametrize("version", [b"", b"x", "²".encode(), b"-1", b"1.5"])
def test_a_version_that_a_stranger_wrote_is_replaced(start: Start, redis: Client, version: bytes) -> None:
    governor = start()
    redis.hset(RESERVED, "version", version)
    assert governor.reason() == "approved"
    assert redis.hget(RESERVED, "version").isdigit()


# ---- two at once


def test_a_second_governor_counts_what_the_first_reserved_since_it_read(start: Start) -> None:
    """A lease that has just moved: both hold copies that are not a second old."""
    limit("permits_per_5min=1")
    first, second = start(), start()
    assert [first.reason(), second.reason(), first.reason()] == ["approved", "burst_limit", "burst_limit"]


def test_two_governors_at_once_never_grant_more_than_the_limit(start: Start, redis: Client) -> None:
    limit("permits_per_5min=10")
    governors = [start(), start()]
    together = threading.Barrier(2)

    def work(governor: AtWork) -> None:
        together.wait()
        for _ in range(15):
            governor.answer()
        connection.close()

    threads = [threading.Thread(target=work, args=(governor,)) for governor in governors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    granted = [finding for governor in governors for finding in governor.findings if finding.verdict]
    assert len(granted) == len(reserved_plans(redis)) == 10
    assert len(governors[0].findings) + len(governors[1].findings) == 30
