"""What the Governor must not be misled by: clocks that are set, outcomes that stay unknown, answers it cannot get."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import DatabaseError, models

from permits.desk.payloads import GOVERNOR
from permits.desk.reserved import Reservation
from permits.governor import reservations, usage
from permits.models import Approval, Usage
from permits.policy.policy import Facts
from quantum import clock
from quantum.redis import Client
from tests.house import House
from tests.permits.governors import Start, limit

pytestmark = pytest.mark.usefixtures("transactional_db", "keys")
RESERVED = django_settings.KEYS.reserved(GOVERNOR)


def fill() -> None:
    usage.executed(
        plan_id=House.make().plan_id, symbol="BTCUSDT", quantity=Decimal("0.25"), notional=Decimal(12_500)
    )


def test_an_exit_of_a_clock_that_ran_ahead_does_not_stop_exits_until_that_time_comes(start: Start) -> None:
    limit("each.cooldown_s=15", "permits_per_5min=2")
    fill()
    Usage.objects.update(at=clock.from_ms(clock.now_ms() + 7 * 24 * 3_600_000))
    governor = start()
    denied = governor.answer()
    assert denied.reason == "cooldown", "it was one a moment ago"
    assert denied.context is not None
    assert 0 <= Decimal(denied.context["used"]) < 15


@pytest.mark.parametrize("jump_ms", [2 * 24 * 3_600_000, -3_600_000])
def test_a_clock_that_jumps_neither_frees_nor_adds_to_what_was_used(
    start: Start, monkeypatch: pytest.MonkeyPatch, jump_ms: int
) -> None:
    limit("notional_per_day_usd=13000")
    fill()
    governor = start()
    told_ms = clock.now_ms
    with monkeypatch.context() as jumped:
        jumped.setattr(clock, "now_ms", lambda: told_ms() + jump_ms)
        facts = Facts(now_s=Decimal(clock.now_ms()) / 1000, trading_active=True)
        governor.governor._books.facts(House.make(), facts)
    assert governor.reason() == "daily_notional_limit"


def test_a_probe_of_unknown_outcome_does_not_keep_the_circuit_of_all_symbols_open(
    start: Start, redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its symbol is locked until there is proof; the others get their own probe. Its size stays held."""
    limit("failures_in_a_row=1", "circuit_open_s=60", "cooldown_s=15")
    usage.failed(plan_id=House.make().plan_id, symbol="ETHUSDT")
    Usage.objects.update(at=clock.from_ms(clock.now_ms() - 61_000))
    governor, probe = start(), House.make()
    assert governor.reason(probe) == "approved"
    flying = reservations.InFlight(probe.plan_id, "BTCUSDT", Decimal("0.25"), "")
    plans = reservations.Plans(in_flight=lambda: [flying], ended=lambda ids: set())
    monkeypatch.setattr(reservations, "_plans", [plans])
    assert governor.reason(symbol="ETHUSDT") == "cooldown"
    old = clock.now_ms() - 100_000
    text = Reservation(probe.plan_id, "BTCUSDT", Decimal("0.25"), Decimal(12_500), old, old + 60_000).text()
    redis.hset(RESERVED, probe.plan_id, text)
    assert governor.reason(symbol="ETHUSDT") == "approved"
    limit("notional_per_day_usd=13000")
    assert start().reason(symbol="ETHUSDT") == "daily_notional_limit"


def test_a_look_for_one_plan_skips_no_row_before_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, late = usage.Reader(), House.make().plan_id
    fill()
    assert len(reader.new()) == 1
    read = usage._read

    def two_more_come_after_it(which: models.Q) -> list[Any]:
        found = read(which)
        monkeypatch.setattr(usage, "_read", read)
        fill()
        usage.failed(plan_id=late, symbol="BTCUSDT")
        return found

    monkeypatch.setattr(usage, "_read", two_more_come_after_it)
    assert [charge.plan_id for charge in reader.new(left=[late])][-1] == late
    before_it = Usage.objects.exclude(plan_id=late).latest("id").plan_id
    assert before_it in [charge.plan_id for charge in reader.new()]


def test_half_a_reading_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look for those that have gone fails: what was read before it is read again."""
    reader, gone = usage.Reader(), House.make().plan_id
    fill()
    reader.new()
    fill()
    newest = Usage.objects.latest("id").plan_id
    read, answers = usage._read, iter([True, False])

    def fails_the_second_time(which: models.Q) -> list[Any]:
        if next(answers):
            return read(which)
        raise DatabaseError

    monkeypatch.setattr(usage, "_read", fails_the_second_time)
    with pytest.raises(DatabaseError):
        reader.new(left=[gone])
    monkeypatch.setattr(usage, "_read", read)
    assert newest in [charge.plan_id for charge in reader.new()]


def test_a_version_that_cannot_be_counted_on_is_made_anew(start: Start, redis: Client) -> None:
    governor = start()
    redis.hset(RESERVED, "version", "9" * 25)
    assert governor.reason() == "approved"


def test_a_yes_that_cannot_be_looked_up_is_not_asked_for_again(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit("approval_above_usd=100")

    def fails(**_: object) -> bool:
        raise DatabaseError

    monkeypatch.setattr("permits.desk.approvals.is_approved", fails)
    governor = start()
    assert governor.reason() == "inputs_unavailable"
    governor.end()
    assert not Approval.objects.exists()
