"""The Governor's copy of policy, usage and reservations: never looser than the truth, and back after any loss."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import DatabaseError, connection

from permits import policies, reservations, usage
from permits.models import Approval, Permit, PolicyVersion, Usage
from permits.payloads import GOVERNOR
from permits.reserved import Reservation
from quantum import clock
from quantum.models import AuditEvent
from quantum.plan import ExitPlan
from quantum.redis import Client
from tests.house import House, wait_for
from tests.permits.governors import AtWork, arm, limit, snapshot

pytestmark = pytest.mark.usefixtures("transactional_db", "keys")
RESERVED = django_settings.KEYS.reserved(GOVERNOR)
Start = Callable[[], AtWork]


@pytest.fixture
def start(redis: Client) -> Iterator[Start]:
    arm(redis)
    for symbol in django_settings.APPLY_ALLOWLIST:
        snapshot(redis, symbol=symbol)
    started: list[AtWork] = []

    def one() -> AtWork:
        started.append(AtWork(redis))
        return started[-1]

    yield one
    for governor in started:
        governor.end()


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
    governor.governor.decide_anew()
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


# ---- the policy changes


def test_a_change_is_obeyed_within_a_second(start: Start) -> None:
    governor = start()
    assert governor.reason() == "approved"
    limit("permits_per_5min=1")
    wait_for(lambda: governor.reason() == "burst_limit", what="the new limit", within_s=1.2)


def test_a_governor_that_denies_without_a_pause_still_learns_of_a_change(start: Start) -> None:
    """Each denial reads the usage anew; that must not pass for a look at the policy."""
    limit("permits_per_5min=1")
    governor = start()
    governor.answer()
    assert governor.reason() == "burst_limit"
    limit("permits_per_5min=2")
    wait_for(lambda: governor.reason() == "approved", what="the new limit", within_s=1.2)


def test_an_idle_governor_has_read_a_change_before_the_next_plan(start: Start) -> None:
    governor = start()
    limit("allowlist=ETHUSDT")
    clock.sleep_s(0.6)
    governor.governor.look()
    assert governor.reason() == "not_in_allowlist"


@pytest.mark.parametrize(
    "broken", [{"allowlist": []}, "rules", {"allowlist": ["BTCUSDT"], "total": {"x": 1}}]
)
def test_rules_that_cannot_be_read_are_not_guessed_at(
    start: Start, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("permits.governor.BOOKS_STALE_S", 0.1)
    governor = start()
    PolicyVersion.objects.create(version=99, rules=broken, by="somebody", reason="past the door")
    clock.sleep_s(1.1)
    assert governor.reason() == "inputs_unavailable"


def test_a_database_that_is_gone_denies_when_the_copy_is_old(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    governor = start()

    def fails(**_: object) -> None:
        raise DatabaseError

    monkeypatch.setattr(policies, "copy", fails)
    clock.sleep_s(1.1)
    assert governor.reason() == "approved", "a short failure stops no exit"
    monkeypatch.setattr("permits.governor.BOOKS_STALE_S", 0.5)
    denied = governor.answer()
    assert denied.reason == "inputs_unavailable"
    assert denied.context == {"missing": "policy and usage"}


# ---- inputs


BAD_SNAPSHOTS: dict[str, dict[str, Any]] = {
    "old": {"age_s": 10.5},
    "from the future": {"age_s": -10.5},
    "no time": {"seen_epoch": "never"},
    "unreadable position": {"position_amt": "NaN"},
    "no mark price": {"mark_price": ""},
    "mark price of zero": {"mark_price": "0"},
}


@pytest.mark.parametrize("bad", BAD_SNAPSHOTS)
def test_a_size_that_cannot_be_known_denies(start: Start, redis: Client, bad: str) -> None:
    governor = start()
    snapshot(redis, **BAD_SNAPSHOTS[bad])
    denied = governor.answer()
    assert denied.reason == "inputs_unavailable"
    assert denied.context is not None
    assert "BTCUSDT" in str(denied.context["missing"])


def test_a_limit_that_is_not_set_needs_no_snapshot(start: Start, redis: Client) -> None:
    limit("notional_per_day_usd=none")
    governor = start()
    redis.delete(django_settings.KEYS.snapshot("BTCUSDT"))
    assert governor.reason() == "approved"


def test_a_short_position_has_a_size_too_and_a_flat_one_is_zero(start: Start, redis: Client) -> None:
    governor = start()
    snapshot(redis, position_amt="-8")
    assert governor.answer().quantity == 2
    snapshot(redis, position_amt="0", mark_price="")
    flat = governor.answer()
    assert flat.verdict
    assert flat.notional == 0


# ---- approvals and shadow rules


def test_an_exit_that_people_must_see_is_kept_with_its_plan(start: Start) -> None:
    limit("approval_above_usd=10000")
    governor, plan = start(), House.make()
    assert governor.reason(plan) == "awaiting_approval"
    governor.end()
    parked = Approval.objects.get()
    assert (parked.asked_plan_id, parked.symbol, parked.state) == (plan.plan_id, "BTCUSDT", "waiting")
    assert parked.fields == plan.fields()
    assert parked.compared["asked"] == "12500"


def test_a_yes_lets_exactly_that_plan_pass(start: Start) -> None:
    limit("approval_symbols=BTCUSDT")
    said_yes, other = House.make(), House.make()
    for plan, digest in ((said_yes, said_yes.digest), (other, "f" * 64)):
        Approval.objects.create(
            asked_plan_id=House.make().plan_id,
            symbol="BTCUSDT",
            fields={},
            rule="tests",
            state=Approval.State.APPROVED,
            expires_at=clock.now(),
            plan_id=plan.plan_id,
            plan_digest=digest,
        )
    governor = start()
    assert governor.reason(said_yes) == "approved"
    assert governor.reason(other) == "awaiting_approval", "another content under that id"
    assert governor.reason() == "awaiting_approval"
    assert governor.reason(symbol="ETHUSDT") == "approved"


def test_a_shadow_rule_is_recorded_and_blocks_nothing(start: Start) -> None:
    limit("permits_per_5min=1", shadow=True)
    governor, second = start(), House.make()
    assert [governor.reason(), governor.reason(second)] == ["approved", "approved"]
    governor.end()
    event = AuditEvent.objects.get(kind="governor_shadow")
    assert (event.plan_id, event.reason) == (second.plan_id, "burst_limit")
    assert (event.data["limit"], event.data["used"]) == ("1", "1")
    assert Permit.objects.filter(verdict=True).count() == 2
