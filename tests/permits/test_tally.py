"""What was used: windows to the millisecond, reservations once, and what a plan came to wins over both."""

from __future__ import annotations

from decimal import Decimal

import pytest

from permits.desk.reserved import Reservation
from permits.governor.tally import DAY_MS, FIVE_MIN_MS, HOUR_MS, Charge, Tally
from permits.policy.policy import TOTAL, Use
from tests.properties import given, st

NOW = 1_764_000_000_000


def filled(plan_id: str, *, ago_ms: int = 0, symbol: str = "BTCUSDT", quantity: str = "0.5") -> Charge:
    amount = Decimal(quantity)
    return Charge(plan_id, symbol, NOW - ago_ms, quantity=amount, notional=amount * 1000)


def failure(plan_id: str, *, ago_ms: int = 0, symbol: str = "BTCUSDT") -> Charge:
    return Charge(plan_id, symbol, NOW - ago_ms, failed=True)


def reservation(plan_id: str, *, symbol: str = "BTCUSDT") -> Reservation:
    return Reservation(plan_id, symbol, Decimal(2), Decimal(2000), NOW, NOW + 60_000)


@pytest.mark.parametrize(
    ("ago_ms", "five_min", "hour", "day"),
    [
        (FIVE_MIN_MS - 1, 1, 1, "0.5"),
        (FIVE_MIN_MS, 0, 1, "0.5"),
        (HOUR_MS - 1, 0, 1, "0.5"),
        (HOUR_MS, 0, 0, "0.5"),
        (DAY_MS - 1, 0, 0, "0.5"),
        (DAY_MS, 0, 0, "0"),
    ],
)
def test_a_window_ends_to_the_millisecond(ago_ms: int, five_min: int, hour: int, day: str) -> None:
    tally = Tally()
    tally.charge(filled("a", ago_ms=ago_ms))
    for scope in ("BTCUSDT", TOTAL):
        use = tally.use(scope, now_ms=NOW)
        assert (use.permits_5min, use.permits_hour, use.quantity_day) == (five_min, hour, Decimal(day))
        assert use.notional_day == Decimal(day) * 1000


def test_a_symbol_counts_for_itself_and_for_the_total() -> None:
    tally = Tally()
    tally.charge(filled("a"))
    tally.charge(filled("b", symbol="ETHUSDT"))
    tally.reserve(reservation("c", symbol="ETHUSDT"))
    assert tally.use("BTCUSDT", now_ms=NOW).permits_5min == 1
    assert tally.use("ETHUSDT", now_ms=NOW).permits_5min == 2
    assert tally.use(TOTAL, now_ms=NOW).permits_5min == 3
    assert tally.use("ETHUSDT", now_ms=NOW).in_flight == 1
    assert tally.use("BTCUSDT", now_ms=NOW).in_flight == 0


def test_what_is_told_late_brings_no_moment_back() -> None:
    """Commits come in another order than their rows: a cooldown counts from the newest exit, a pause from the newest
    failure, whichever is read last."""
    tally = Tally()
    for charge in (filled("a", ago_ms=1000), filled("b", ago_ms=6000)):
        tally.charge(charge)
    for charge in (failure("c", ago_ms=2000), failure("d", ago_ms=7000)):
        tally.charge(charge)
    for scope in ("BTCUSDT", TOTAL):
        use = tally.use(scope, now_ms=NOW)
        assert (use.since_exit_s, use.since_failure_s) == (Decimal(1), Decimal(2))


def test_a_moment_before_the_machine_started_is_one_too() -> None:
    tally = Tally()
    tally.charge(Charge("a", "BTCUSDT", -5000))
    assert tally.use("BTCUSDT", now_ms=1000).since_exit_s == 6


def test_a_reservation_counts_until_it_is_released() -> None:
    tally = Tally()
    tally.reserve(reservation("a"))
    tally.reserve(reservation("a"))
    used = tally.use(TOTAL, now_ms=NOW)
    assert (used.permits_5min, used.permits_hour, used.notional_day) == (1, 1, Decimal(2000))
    tally.release("a")
    tally.release("a")
    assert tally.use(TOTAL, now_ms=NOW) == Use()


def test_a_fill_takes_the_place_of_its_reservation_and_counts_once() -> None:
    """Charged with what was traded, not with what was permitted; told twice it is one."""
    tally = Tally()
    tally.reserve(reservation("a"))
    tally.charge(filled("a"))
    once = tally.use("BTCUSDT", now_ms=NOW)
    assert (once.permits_5min, once.quantity_day, once.in_flight) == (1, Decimal("0.5"), 0)
    tally.charge(filled("a"))
    tally.reserve(reservation("a"))  # still in the hash when that was read
    assert tally.use("BTCUSDT", now_ms=NOW) == once


def test_a_plan_does_not_stand_in_its_own_way() -> None:
    tally = Tally()
    tally.reserve(reservation("a"))
    for scope in ("BTCUSDT", TOTAL):
        assert tally.use(scope, now_ms=NOW, without="a") == Use()
    assert tally.use("ETHUSDT", now_ms=NOW, without="a").permits_5min == 0


def test_failures_count_in_a_row_and_charge_nothing() -> None:
    tally = Tally()
    tally.charge(failure("a", ago_ms=3000))
    tally.charge(failure("b", ago_ms=2000))
    tally.charge(failure("c", ago_ms=1000, symbol="ETHUSDT"))
    btc, total = tally.use("BTCUSDT", now_ms=NOW), tally.use(TOTAL, now_ms=NOW)
    assert (btc.failures_in_a_row, btc.since_failure_s) == (2, Decimal(2))
    assert (total.failures_in_a_row, total.since_failure_s) == (3, Decimal(1))
    assert (total.permits_5min, total.since_exit_s) == (0, None)
    tally.charge(filled("d"))
    assert tally.use("BTCUSDT", now_ms=NOW).failures_in_a_row == 0
    assert tally.use("ETHUSDT", now_ms=NOW).failures_in_a_row == 1


def test_a_plan_may_be_told_again_until_the_day_is_over_and_the_memory_is_bounded() -> None:
    tally = Tally()
    for number in range(1000):
        tally.charge(filled(str(number), ago_ms=DAY_MS - number))
    later = NOW + 500
    assert tally.use(TOTAL, now_ms=later).quantity_day == Decimal("0.5") * 499
    assert len(tally._charged) == len(tally._day) == 499


def test_a_reservation_is_read_back_as_it_was_written() -> None:
    made = Reservation("a", "BTCUSDT", Decimal("0.000000000001"), Decimal("123456789.12345678"), NOW, NOW + 1)
    assert Reservation.read("a", made.text()) == made


@pytest.mark.parametrize(
    "text",
    [
        "",
        "BTCUSDT 1 1 1",
        "BTCUSDT 1 1 1 1 1",
        "BTCUSDT NaN 1 1 1",
        "BTCUSDT 1 -1 1 1",
        "B 1 1 x 1",
        "B 1 1 ² 1",
    ],
)
def test_what_nobody_of_us_wrote_is_no_reservation(text: str) -> None:
    assert Reservation.read("a", text) is None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "release", "fill", "fail"]),
        st.integers(0, 5),
        st.integers(1, 40_000_000),
        st.decimals("0.001", "100", places=3),
    ),
    max_size=40,
)


@given(STEPS)
def test_running_sums_are_the_sums_of_what_is_there(steps: list[tuple[str, int, int, Decimal]]) -> None:
    """Any order of reservations, releases, fills and failures, over days: as if all were added up anew."""
    tally, now_ms = Tally(), NOW
    held: dict[str, Reservation] = {}
    charged: dict[str, Charge] = {}
    for act, number, wait_ms, amount in steps:
        plan_id, symbol, now_ms = str(number), ("BTCUSDT", "ETHUSDT")[number % 2], now_ms + wait_ms
        tally.use(TOTAL, now_ms=now_ms)
        charged = {name: one for name, one in charged.items() if one.at_ms > now_ms - DAY_MS}
        if act == "release":
            tally.release(plan_id)
            held.pop(plan_id, None)
        elif act == "reserve":
            made = Reservation(plan_id, symbol, amount, amount * 7, now_ms, now_ms)
            tally.reserve(made)
            if plan_id not in charged:
                held[plan_id] = made
        elif plan_id not in charged:
            failed = act == "fail"
            charged[plan_id] = Charge(
                plan_id,
                symbol,
                now_ms,
                Decimal(0) if failed else amount,
                Decimal(0) if failed else amount * 7,
                failed,
            )
            tally.charge(charged[plan_id])
            held.pop(plan_id, None)
    for scope in ("BTCUSDT", "ETHUSDT", TOTAL):
        found = tally.use(scope, now_ms=now_ms)
        inside = [one for one in held.values() if scope in (TOTAL, one.symbol)]
        done = [one for one in charged.values() if scope in (TOTAL, one.symbol) and not one.failed]
        hour = [one for one in done if one.at_ms > now_ms - HOUR_MS]
        assert found.in_flight == len(inside)
        assert found.permits_hour == len(inside) + len(hour)
        sizes = [(one.quantity, one.notional) for one in inside] + [
            (one.quantity, one.notional) for one in done
        ]
        assert found.quantity_day == sum((quantity for quantity, _ in sizes), Decimal(0))
        assert found.notional_day == sum((notional for _, notional in sizes), Decimal(0))
