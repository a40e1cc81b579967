"""Interleavings that a reviewer found: each was wrong once, and cost a position, a lock or a role."""

from __future__ import annotations

import threading
import time
from decimal import Decimal
from typing import Any, cast

import pytest
from django.conf import settings as django_settings
from django.db import connection

from permits.gate import spending
from positions.feed.feed import Feed
from positions.models import Balance
from quantum import clock
from quantum.exchange.reading import Reader
from quantum.exchange.types import PositionsRead
from quantum.lease import Lease, Watch
from quantum.plan import Action
from quantum.redis import Client
from quantum.stream import Consumer, Entry
from tests.house import House
from tests.permits_by_hand import GOVERNOR, P33, lay, lay_both, permit


def test_e24_two_plans_of_a_half_published_together_never_close_the_whole(house: House) -> None:
    """Both permits were made from the same position; the second is a share of one that is gone."""
    house.start()
    plans = [house.publish(house.make("BTCUSDT", Action.PARTIAL_50)) for _ in range(2)]
    rows = [house.ended(plan) for plan in plans]
    assert Balance.objects.get(symbol="BTCUSDT").amount >= Decimal("0.25"), [row.error for row in rows]


def test_e24_the_cooldown_holds_for_plans_published_together(house: House, settings: Any) -> None:
    settings.P33_COOLDOWN_SEC = Decimal(15)
    house.start()
    plans = [house.publish(house.make("BTCUSDT", Action.PARTIAL_25)) for _ in range(2)]
    assert [house.ended(plan).state for plan in plans].count("filled") == 1


def test_a_process_frozen_between_the_consume_and_its_answer_sends_nothing_late(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.start("apply")
    consume = spending._CONSUME

    def freezes(*args: Any, **more: Any) -> Any:
        answer = consume(*args, **more)
        if answer[0] == 1:
            time.sleep(2.5)
        return answer

    monkeypatch.setattr(spending, "_CONSUME", freezes)
    plan = house.publish()
    lay_both(house.redis, plan)
    assert house.ended(plan, within_s=20).state == "spent_unsent"
    assert house.orders(plan) == []


def test_an_unknown_order_is_resolved_while_our_clock_is_off(house: House) -> None:
    house.paper.set_clock(skew_ms=5000)
    house.start()
    assert house.exit("ETHUSDT").state == "filled"
    house.paper.push_scenario({"next": "order", "do": "accept_then_cut"})
    assert house.ended(house.publish(), within_s=15).state == "filled"


def test_exits_flow_again_after_the_clock_has_jumped(house: House) -> None:
    house.start()
    assert house.exit("ETHUSDT").state == "filled"
    house.paper.set_clock(skew_ms=5000)
    time.sleep(3)
    house.exit("ETHUSDT")  # apply learns it by a -1021
    assert house.exit("ETHUSDT").state == "filled"


def test_a_permit_by_hand_with_times_in_milliseconds_can_be_settled(house: House, settings: Any) -> None:
    settings.PERMIT_SIGNATURES = "optional"
    house.start("apply", "warden")
    plan = house.publish()
    by_hand = f'{{"granted":true,"created_at":{clock.now_ms()}}}'.encode()
    lay(house.redis, plan, governor=by_hand, p33=permit(plan, P33))
    assert house.ended(plan, within_s=15).state == "filled"


def test_the_slot_is_free_after_a_pair_that_was_not_sent(house: House) -> None:
    house.start("apply")
    plan = house.publish()
    lay(house.redis, plan, governor=permit(plan, GOVERNOR), p33=permit(plan, P33, safe="0.0001"))
    assert house.ended(plan).error == "below_min"
    after = house.publish()
    lay_both(house.redis, after)
    assert house.ended(after).state == "filled"


def test_a_full_batch_of_slow_entries_does_not_lose_the_lease(redis: Client) -> None:
    lease = Lease(client=redis, keys=django_settings.KEYS, role="apply", host="here", pid=1, versions={})
    assert lease.take() is None
    done: list[Entry] = []
    watch = Watch(lease=lease, consumer="slow", told_to_stop=lambda: len(done) == 20)

    def handle(entry: Entry) -> bool:
        time.sleep(0.2)
        done.append(entry)
        return True

    for number in range(20):  # 4 s: a lease lives 3
        redis.xadd("quantum:stream:slow", {"number": number})
    consumer = Consumer(terms=watch, stream="quantum:stream:slow", group="slow", handle=handle)
    reader = threading.Thread(target=consumer.run, daemon=True)
    reader.start()
    reader.join(15)
    assert watch.why == "told to stop"


def test_the_age_of_a_snapshot_counts_from_the_question() -> None:
    class Slow:
        def now_ms(self) -> int:
            return clock.now_ms()

        def sweeps_wait_until_ms(self) -> None:
            return None

        def positions(self) -> PositionsRead:
            asked_ms = clock.now_ms()
            time.sleep(0.5)
            return PositionsRead(positions={}, asked_ms=asked_ms)

    feed = Feed(reader=cast("Reader", Slow()), stopping=lambda: False)
    assert feed.observed("BTCUSDT", not_before_ms=0).age_s >= Decimal("0.5")


def test_a_database_that_was_restarted_costs_no_pair_of_permits(house: House) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no server that could restart")
    house.start()
    assert house.exit().state == "filled"
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    time.sleep(3)
    assert [house.exit().state for _ in range(3)] == ["filled"] * 3
