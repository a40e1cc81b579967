"""What pages say is used, added up by the database, against the tally that the Governor keeps row by row."""

from __future__ import annotations

import datetime as dt
import random
from decimal import Decimal

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from permits.desk.payloads import GOVERNOR
from permits.desk.reserved import Reservation
from permits.governor import spent, standing_use, usage
from permits.governor.reservations import Book
from permits.governor.tally import DAY_MS, FIVE_MIN_MS, HOUR_MS, Tally
from permits.models import Usage
from permits.policy.policy import TOTAL, Use
from quantum import clock
from quantum.redis import Client

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
EXECUTED, FAILED = Usage.Kind.EXECUTED, Usage.Kind.FAILED


@pytest.fixture(autouse=True)
def stopped(monkeypatch: pytest.MonkeyPatch, db: None) -> dt.datetime:
    """Both read the same moment."""
    now = clock.now().replace(microsecond=500_000)
    monkeypatch.setattr(clock, "now", lambda: now)
    monkeypatch.setattr(clock, "boot_s", lambda: 10_000_000.0)
    return now


def row(
    number: int, kind: str = EXECUTED, *, symbol: str = "BTCUSDT", ago_ms: int = 0, amount: str = "1"
) -> Usage:
    at = clock.now() - dt.timedelta(milliseconds=ago_ms)
    return Usage(plan_id=f"{number:016x}", symbol=symbol, kind=kind, quantity=amount, notional=amount, at=at)


def tallied(held: dict[str, Reservation] | None = None) -> dict[str, Use]:
    tally = Tally()
    for charge in usage.Reader().new():
        tally.charge(charge)
    tally.replace_reserved((held or {}).values())
    return {scope: tally.use(scope, now_ms=int(clock.boot_s() * 1000)) for scope in (TOTAL, *SYMBOLS)}


def said() -> dict[str, Use]:
    return {scope: Use() for scope in (TOTAL, *SYMBOLS)} | spent.used()


@pytest.mark.parametrize("seed", range(12))
def test_of_any_day_both_say_the_same(seed: int) -> None:
    chance = random.Random(seed)
    ages = sorted(
        (250 * chance.choice((1, 10, 100, 1000)) * chance.randrange(400) for _ in range(60)), reverse=True
    )
    rows = []
    for number, ago_ms in enumerate(ages):
        failed = chance.random() < chance.choice((0.1, 0.9))
        amount = "0" if failed else f"{chance.randrange(1, 10**5)}.{chance.randrange(10**12):012d}"
        kind = FAILED if failed else EXECUTED
        rows.append(row(number, kind, symbol=chance.choice(SYMBOLS), ago_ms=ago_ms, amount=amount))
    Usage.objects.bulk_create(rows)
    assert said() == tallied()


@pytest.mark.parametrize("length_ms", [FIVE_MIN_MS, HOUR_MS, DAY_MS])
def test_what_lies_exactly_so_far_back_is_outside(length_ms: int) -> None:
    Usage.objects.bulk_create(
        [row(1, ago_ms=length_ms + 1), row(2, ago_ms=length_ms), row(3, ago_ms=length_ms - 1)]
    )
    assert said() == tallied()


@pytest.mark.parametrize(
    ("kinds", "in_a_row"),
    [
        ("", (0, 0)),
        ("ff", (2, 2)),
        ("fef", (1, 1)),
        ("ffe", (0, 0)),
        ("ffE", (2, 0)),
        ("fEf", (2, 1)),
        ("fF", (1, 2)),
    ],
)
def test_failures_in_a_row_of_a_symbol_and_of_all(kinds: str, in_a_row: tuple[int, int]) -> None:
    """Capitals are another symbol's."""
    Usage.objects.bulk_create(
        row(
            number, FAILED if kind in "fF" else EXECUTED, symbol=SYMBOLS[kind.isupper()], ago_ms=1000 - number
        )
        for number, kind in enumerate(kinds)
    )
    found = said()
    assert (found["BTCUSDT"].failures_in_a_row, found[TOTAL].failures_in_a_row) == in_a_row
    assert found == tallied()


def test_an_exit_of_a_clock_that_was_ahead_was_now() -> None:
    Usage.objects.bulk_create([row(1, ago_ms=-HOUR_MS)])
    assert said()["BTCUSDT"].since_exit_s == 0
    assert said() == tallied()


def test_a_reservation_whose_plan_was_charged_is_counted_once(redis: Client) -> None:
    now_ms = clock.now_ms()
    Usage.objects.bulk_create([row(1, amount="3"), row(2, symbol="ETHUSDT")])
    held = {
        f"{number:016x}": Reservation(
            f"{number:016x}", "BTCUSDT", Decimal(2), Decimal(7), now_ms, now_ms + 60_000
        )
        for number in (1, 9)
    }
    texts = {plan_id: one.text() for plan_id, one in held.items()}
    redis.hset(settings.KEYS.reserved(GOVERNOR), mapping={**texts, "version": "1"})
    found = standing_use.read(redis, SYMBOLS)
    assert {TOTAL: found.in_total, **found.by_symbol} == tallied(
        Book(client=redis, gate=GOVERNOR).read().reservations
    )
    assert (found.in_total.permits_5min, found.by_symbol["BTCUSDT"].quantity_day) == (3, Decimal(5))


def test_it_asks_as_often_whatever_was_executed(redis: Client) -> None:
    def asked() -> int:
        with CaptureQueriesContext(connection) as questions:
            standing_use.read(redis, SYMBOLS)
        return len(questions.captured_queries)

    few = asked()
    Usage.objects.bulk_create(
        row(number, (EXECUTED, FAILED)[number % 2], symbol=f"S{number % 40}", ago_ms=number)
        for number in range(200)
    )
    assert few <= asked() <= 4
