"""What the account's bookings are good for: funding is kept, and trades that no position shows are found."""

from __future__ import annotations

import datetime as dt
import io
import itertools
import json
from decimal import Decimal
from typing import Any, cast

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError
from msgspec.structs import replace

from positions.books import history, income, ledger
from positions.feed.feed import LOOK_ROUND_S, Feed
from positions.models import Balance, BookingsRead, Fill, Funding, LedgerEntry
from quantum import clock
from quantum.exchange.events import AccountUpdate
from quantum.exchange.reading import ReadFailed
from quantum.exchange.types import Income, Position, PositionsRead, Side, Trade
from quantum.log import log
from tests.test_ear import Heard
from tests.test_feed import Exchange, beat, boot, troubled

__all__ = ["boot"]
pytestmark = pytest.mark.usefixtures("db", "redis")

HOUR_MS = 3600 * 1000


def booking(kind: str, **more: Any) -> Income:
    made = Income(
        kind=kind, symbol="BTCUSDT", amount=Decimal("-0.04"), asset="USDT", transaction_id="7",
        time_ms=clock.now_ms() - 1000, trade_id=None,
    )  # fmt: skip
    return replace(made, **more)


def hidden(exchange: Exchange, *, age_ms: int = 500, client_id: str = "web_1") -> None:
    """Bought and sold again: the position is as before."""
    for number, side in ((1, Side.BUY), (2, Side.SELL)):
        at_ms = clock.now_ms() - age_ms + number
        exchange.trades.append(
            Trade(
                number,
                number,
                "BTCUSDT",
                side,
                Decimal(1),
                Decimal(100),
                Decimal(0),
                Decimal("0.04"),
                "USDT",
                at_ms,
            )
        )
        exchange.orders[number] = client_id
        paid = booking("COMMISSION", trade_id=number, transaction_id=str(number), time_ms=at_ms)
        exchange.bookings += [paid, replace(paid, kind="REALIZED_PNL")]


def entered(exchange: Exchange, *, age_ms: int = HOUR_MS) -> None:
    """Adopted a while ago."""
    read = PositionsRead(
        positions={
            name: Position(name, Decimal(amount), Decimal(0), Decimal(0), Decimal(0), 0)
            for name, amount in exchange.held.items()
        },
        asked_ms=clock.now_ms() - age_ms,
    )
    ledger.adopt(read, symbols=exchange.held, seen_ms=read.asked_ms, actor="tests", reason="x")


@pytest.fixture
def exchange(boot: list[float]) -> Exchange:
    made = Exchange(BTCUSDT="1")
    entered(made)
    return made


def new_feed(exchange: Exchange) -> Feed:
    return Feed(reader=cast("Any", exchange), stopping=lambda: True)


def mark_ms() -> int:
    found: int = BookingsRead.objects.get().until_ms
    return found


def set_mark(until_ms: int) -> None:
    BookingsRead.objects.create(account=settings.ACCOUNT, until_ms=until_ms)


# ---- trades that no position shows


def test_an_entry_and_its_close_by_hand_that_nobody_saw_are_stored(
    exchange: Exchange, boot: list[float]
) -> None:
    hidden(exchange)
    feed = new_feed(exchange)
    beat(feed, boot)
    assert not Fill.objects.exists(), "no position shows them"
    beat(feed, boot)
    assert Fill.objects.filter(client_order_id="web_1", booked=False).count() == 2
    beat(feed, boot, times=3)
    assert (troubled(), Balance.objects.get().amount) == ([], Decimal(1))
    assert len(exchange.asked) == 1, "they are known now"


def test_an_entry_of_a_declared_bot_that_was_undone_by_hand_is_booked_and_told_as_drift(
    exchange: Exchange, boot: list[float], settings: Any
) -> None:
    settings.LEDGER_SOURCES = ("entry-",)
    hidden(exchange)
    exchange.orders[1] = "entry-1"
    beat(new_feed(exchange), boot, times=6)
    assert (Balance.objects.get().amount, troubled()) == (Decimal(2), ["BTCUSDT"])


def test_what_was_booked_before_the_symbol_was_entered_is_inside_what_was_adopted(
    exchange: Exchange, boot: list[float]
) -> None:
    hidden(exchange, age_ms=2 * HOUR_MS)
    other = booking("COMMISSION", symbol="NEWUSDT", trade_id=9)
    exchange.bookings.append(other)
    beat(new_feed(exchange), boot, times=3)
    assert (exchange.asked, Fill.objects.count()) == ([], 0)


def test_a_booking_that_is_stamped_with_the_second_alone_still_finds_its_trade(
    exchange: Exchange, boot: list[float]
) -> None:
    """Adopted and traded within one second, with the trade after."""
    LedgerEntry.objects.update(at=clock.from_ms(clock.now_ms() // 1000 * 1000 - 4600))
    second_ms = clock.now_ms() // 1000 * 1000 - 5000
    trade = Trade(
        1, 1, "BTCUSDT", Side.BUY, Decimal(1), Decimal(1), Decimal(0), Decimal(0), "USDT", second_ms + 700
    )
    exchange.trades.append(trade)
    exchange.orders[1] = "web_1"
    exchange.bookings.append(booking("COMMISSION", trade_id=1, time_ms=second_ms))
    beat(new_feed(exchange), boot, times=2)
    assert Fill.objects.count() == 1


def test_a_trade_that_the_exchange_showed_late_is_found_although_later_ones_were_read(
    exchange: Exchange, boot: list[float]
) -> None:
    hidden(exchange, age_ms=10_000)
    Balance.objects.update(trades_from_ms=clock.now_ms())
    beat(new_feed(exchange), boot, times=2)
    assert Fill.objects.count() == 2


# ---- the mark


def test_the_mark_stays_before_a_trade_that_is_still_missing_whoever_dies(
    exchange: Exchange, boot: list[float]
) -> None:
    set_mark(clock.now_ms() - HOUR_MS // 2)
    hidden(exchange, age_ms=10_000)
    exchange.refuses = {"BTCUSDT"}
    first_ms = exchange.trades[0].time_ms
    beat(new_feed(exchange), boot, times=2)
    assert mark_ms() == first_ms
    exchange.refuses = set()
    feed = new_feed(exchange)  # p33 begins anew
    beat(feed, boot, times=2)
    assert Fill.objects.count() == 2
    boot[0] += income.AFTERWARDS_S
    beat(feed, boot)
    assert mark_ms() > first_ms


def test_a_trade_that_is_never_shown_does_not_hold_the_mark_for_ever(
    exchange: Exchange, boot: list[float]
) -> None:
    LedgerEntry.objects.update(at=clock.from_ms(clock.now_ms() - 10 * income.DAY_MS))
    set_mark(clock.now_ms() - 3 * income.DAY_MS)
    never = booking("COMMISSION", trade_id=9, time_ms=clock.now_ms() - 2 * income.DAY_MS)
    exchange.bookings.append(never)
    beat(new_feed(exchange), boot)
    assert mark_ms() == pytest.approx(clock.now_ms() - income.DAY_MS, abs=5000)


@pytest.mark.parametrize(
    ("mark_ago_ms", "asked_ago_ms"),
    [
        (None, income.DAY_MS),
        (HOUR_MS, HOUR_MS + income.OVERLAP_MS),
        (-HOUR_MS, income.OVERLAP_MS),
        (200 * income.DAY_MS, income.KEPT_MS),
    ],
)
def test_from_when_bookings_are_asked_for(
    exchange: Exchange, boot: list[float], mark_ago_ms: int | None, asked_ago_ms: int
) -> None:
    if mark_ago_ms is not None:
        set_mark(clock.now_ms() - mark_ago_ms)
    beat(new_feed(exchange), boot)
    [asked_ms] = exchange.income_asked
    assert clock.now_ms() - asked_ms == pytest.approx(asked_ago_ms, abs=5000)
    assert mark_ms() == pytest.approx(clock.now_ms(), abs=5000)


# ---- when


def test_bookings_are_read_at_the_start_a_minute_later_and_every_ten_minutes(
    exchange: Exchange, boot: list[float]
) -> None:
    feed, at = new_feed(exchange), list[float]()
    for _ in range(900):
        boot[0] += 2
        before = len(exchange.income_asked)
        feed._bookings.look()
        at += [boot[0]] * (len(exchange.income_asked) - before)
    gaps = [round(later - sooner) for sooner, later in itertools.pairwise(at)]
    assert gaps == [60, 600, 600]


def test_after_a_gap_and_at_a_word_of_funding_they_are_read_soon_and_not_again_and_again(
    boot: list[float],
) -> None:
    heard = Heard(boot, BTCUSDT="1")
    asked = heard.exchange.income_asked
    heard.beat(times=10)
    asked.clear()
    heard.gap()
    heard.beat()
    assert asked == [], "the line does not live yet"
    for _ in range(4):
        heard.gap(until_ms=clock.now_ms())
        heard.beat()
    assert len(asked) == 1
    heard.beat(times=10)
    assert len(asked) == 2, "once more for those that came meanwhile"
    paid = AccountUpdate(clock.now_ms(), clock.now_ms(), "FUNDING_FEE", balances=(), positions=())
    heard.tells(replace(paid, reason="ORDER"))
    heard.beat(times=10)
    assert len(asked) == 2
    heard.tells(paid)
    heard.beat()
    assert len(asked) == 3


def test_reads_that_can_wait_do_while_the_weight_is_spent(exchange: Exchange, boot: list[float]) -> None:
    exchange.held["BTCUSDT"] = "2"
    exchange.wait_until_ms = clock.now_ms() + 60_000
    feed = new_feed(exchange)
    beat(feed, boot, times=4)
    assert exchange.income_asked == []
    assert troubled() == ["BTCUSDT"]
    boot[0] += LOOK_ROUND_S
    exchange.held["BTCUSDT"] = "1"
    exchange.asked.clear()
    beat(feed, boot, times=3)
    assert exchange.asked == []
    assert troubled() == ["BTCUSDT"], "its trades tell what undid it: without them it does not end"
    exchange.wait_until_ms = None
    boot[0] += LOOK_ROUND_S
    beat(feed, boot, times=2)
    assert (troubled(), len(exchange.income_asked)) == ([], 1)
    assert exchange.asked


def test_a_read_that_fails_changes_nothing_and_is_told_once(
    exchange: Exchange, boot: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(log, "warning", lambda text, **_: told.append(text))
    set_mark(1)
    exchange.bookings.append(booking(income.FUNDING))
    exchange.income_fails = ReadFailed("HTTP 500")
    feed = new_feed(exchange)
    for _ in range(5):
        boot[0] += income.RETRY_S
        beat(feed, boot)
    assert len(exchange.income_asked) == 5
    assert (mark_ms(), Funding.objects.count(), told.count("bookings cannot be read")) == (1, 0, 1)
    exchange.income_fails = None
    boot[0] += income.RETRY_S
    beat(feed, boot)
    assert (mark_ms() > 1, Funding.objects.count()) == (True, 1)


def test_what_the_database_refuses_leaves_the_mark_and_is_tried_again(
    exchange: Exchange, boot: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_mark(clock.now_ms() - HOUR_MS)
    before_ms = mark_ms()
    exchange.bookings.append(booking(income.FUNDING))

    def refuse(*_: Any, **__: Any) -> None:
        raise DatabaseError

    feed = new_feed(exchange)
    with monkeypatch.context() as patched:
        patched.setattr(BookingsRead.objects, "update_or_create", refuse)
        with pytest.raises(DatabaseError):
            beat(feed, boot)
    assert (Funding.objects.count(), mark_ms()) == (0, before_ms)
    boot[0] += income.RETRY_S
    beat(feed, boot)
    assert (Funding.objects.count(), mark_ms() > before_ms) == (1, True)


# ---- funding


def test_funding_is_kept_once_and_apart_also_as_of_a_moment(exchange: Exchange, boot: list[float]) -> None:
    now_ms = clock.now_ms()
    paid = booking(income.FUNDING, amount=Decimal("-0.50000001"))
    exchange.bookings = [
        replace(paid, transaction_id="1", time_ms=now_ms - 2 * HOUR_MS),
        replace(paid, transaction_id="2", amount=Decimal("0.2")),
        replace(paid, transaction_id="2", asset="BNB"),
        replace(paid, transaction_id="3", symbol="ETHUSDT"),
        replace(paid, transaction_id="4", symbol=""),
        replace(paid, transaction_id="5", kind="TRANSFER"),
    ]
    for _ in range(3):
        beat(new_feed(exchange), boot)
    assert Funding.objects.count() == 5
    LedgerEntry.objects.update(recorded_at=clock.from_ms(now_ms - 3 * HOUR_MS))
    found = history.earned("BTCUSDT")
    assert found.funding == {"USDT": Decimal("-0.30000001"), "BNB": Decimal("-0.50000001")}
    assert (found.realized_pnl, found.commission) == (Decimal(0), {})
    out = io.StringIO()
    earlier = clock.now() - dt.timedelta(hours=1)
    call_command("ledger_show", "BTCUSDT", "--json", at=earlier.isoformat(), stdout=out)
    assert json.loads(out.getvalue())["funding"] == {"USDT": "-0.50000001"}
    out = io.StringIO()
    call_command("ledger_show", "BTCUSDT", stdout=out)
    assert "commission 0, funding -0.50000001 BNB, -0.30000001 USDT" in out.getvalue()
