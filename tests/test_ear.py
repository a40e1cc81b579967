"""What the user stream tells, as it reaches ledger, picture and sweep; and what becomes of what it cannot tell."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, cast

import pytest
from django.db import DatabaseError
from msgspec.structs import replace
from pytest_django.fixtures import Settings

from positions.books import ledger
from positions.feed.ear import Ear
from positions.feed.feed import READ, Feed
from positions.models import Balance, Fill
from quantum import clock
from quantum.exchange.events import Event, Execution, MarginCall, OrderUpdate, PositionSide, UnknownEvent
from quantum.exchange.inbox import Gap, GapReason, Received
from quantum.exchange.types import OrderStatus
from quantum.redis import Client
from tests.drift_by_hand import balance
from tests.test_feed import Exchange, beat, boot, troubled
from tests.test_picture import update
from tests.test_resting import told

__all__ = ["boot"]
pytestmark = pytest.mark.usefixtures("db", "redis")


class Heard:
    """A feed and its ear over an exchange by hand, live from the start and read once."""

    def __init__(self, boot: list[float], **held: str) -> None:
        self.exchange = Exchange(**held)
        self.boot = boot
        self.doubted: list[int] = []
        self.feed = Feed(reader=cast("Any", self.exchange), stopping=lambda: True, doubt=self.doubted.append)
        self.ear = Ear(stream=cast("Any", None), feed=self.feed, stopping=lambda: True)
        for symbol, amount in held.items():
            balance(amount, symbol=symbol)
        self.gap(until_ms=clock.now_ms() - 1)
        self.beat()
        self.exchange.asked.clear()

    def beat(self, *, times: int = 1) -> None:
        beat(self.feed, self.boot, times=times)

    def tells(self, *events: Event) -> None:
        for event in events:
            self.ear.heed(Received(event, clock.now_ms()))

    def gap(self, *, since_ms: int = 0, until_ms: int | None = None) -> None:
        self.ear.heed(Gap(since_ms or clock.now_ms(), GapReason.LOST, until_ms))

    def is_asked_to_read(self) -> bool:
        return self.feed._read_wanted

    def is_hedged(self) -> bool:
        return self.feed.hedged

    def amount(self, symbol: str = "BTCUSDT") -> Decimal | None:
        return self.feed.observed(symbol, not_before_ms=0).amount


@pytest.fixture
def heard(boot: list[float], settings: Settings) -> Heard:
    settings.LEDGER_SOURCES = ("entry-",)
    return Heard(boot, BTCUSDT="1")


def fill(quantity: str, *, client_order_id: str = "entry-1", trade_id: int = 7, **more: Any) -> OrderUpdate:
    said: dict[str, Any] = {
        "client_order_id": client_order_id,
        "trade_id": trade_id,
        "execution": Execution.TRADE,
        "status": OrderStatus.FILLED,
        "reduce_only": False,
        "last_quantity": Decimal(quantity),
        "cumulative_quantity": Decimal(quantity),
        "last_price": Decimal(100),
        "realized_pnl": Decimal(0),
        "commission": Decimal(0),
        "commission_asset": "USDT",
    }
    return told(clock.now_ms(), **said | more)


def ours() -> Decimal:
    found: Decimal = Balance.objects.get(symbol="BTCUSDT").amount
    return found


def test_an_entry_of_a_declared_bot_moves_the_ledger_without_a_question(heard: Heard) -> None:
    heard.tells(update(clock.now_ms(), "0.5"), fill("0.5"))
    assert (ours(), heard.amount(), heard.exchange.asked) == (Decimal("0.5"), Decimal("0.5"), [])
    assert not heard.is_asked_to_read(), "it explains itself"


def test_told_twice_and_shown_by_rest_as_well_it_moves_the_ledger_once(heard: Heard) -> None:
    one = fill("0.5")
    heard.tells(one, one)
    heard.exchange.held["BTCUSDT"] = "0.4"  # something moved it further, so its trades are asked for
    assert one.trade is not None
    heard.exchange.trades.append(one.trade)
    heard.exchange.orders[1] = "entry-1"
    heard.beat()
    assert heard.exchange.asked == ["BTCUSDT"]
    assert (ours(), Fill.objects.count()) == (Decimal("0.5"), 1)


def test_fills_of_ours_are_left_to_apply(heard: Heard) -> None:
    heard.tells(update(clock.now_ms(), "0.75"), fill("0.25", client_order_id="q-0123456789abcdef-25"))
    assert (Fill.objects.count(), ours(), heard.amount()) == (0, Decimal(1), Decimal("0.75"))
    assert not heard.is_asked_to_read()


def test_a_trade_by_hand_is_kept_and_compared_at_once(
    heard: Heard, redis: Client, settings: Settings
) -> None:
    heard.exchange.held["BTCUSDT"] = "0.5"
    redis.delete(settings.KEYS.feed_wake)
    heard.tells(update(clock.now_ms(), "0.5"), fill("0.5", client_order_id="web_1"))
    assert heard.is_asked_to_read()
    assert redis.lrange(settings.KEYS.feed_wake, 0, -1) == [READ]
    heard.beat(times=2)
    assert troubled() == ["BTCUSDT"]
    assert (ours(), Fill.objects.get().booked) == (Decimal(1), False)


def test_an_execution_without_its_numbers_has_its_trades_asked_for(heard: Heard) -> None:
    whole = fill("0.5")
    heard.exchange.held["BTCUSDT"] = "0.5"
    assert whole.trade is not None
    heard.exchange.trades.append(whole.trade)
    heard.exchange.orders[1] = "entry-1"
    heard.tells(replace(whole, commission=None))
    assert (Fill.objects.count(), heard.is_asked_to_read()) == (0, True)
    heard.beat()
    assert ours() == Decimal("0.5")


def test_a_liquidation_that_carries_no_trade_is_looked_up(heard: Heard) -> None:
    heard.tells(fill("0", client_order_id="autoclose-1", trade_id=0, execution=Execution.CALCULATED))
    heard.beat()
    assert heard.exchange.asked == ["BTCUSDT"]


def test_what_the_database_refuses_is_asked_for_again(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is the test's own and must outlive it."""
    monkeypatch.setattr("positions.feed.ear.close_old_connections", lambda: None)
    one = fill("0.5")
    assert one.trade is not None
    with monkeypatch.context() as broken:
        broken.setattr(ledger, "store", lambda trades: (_ for _ in ()).throw(DatabaseError("locked")))
        heard.tells(one)
    heard.exchange.trades.append(one.trade)
    heard.exchange.orders[1] = "entry-1"
    heard.beat()
    assert ours() == Decimal("0.5")


def test_trades_that_cannot_be_read_now_are_read_later(heard: Heard) -> None:
    heard.exchange.refuses = {"BTCUSDT"}
    heard.tells(replace(fill("0.5"), commission=None))
    heard.beat()
    heard.exchange.refuses = set()
    heard.exchange.asked.clear()
    heard.beat(times=2)
    assert heard.exchange.asked == ["BTCUSDT"], "once more, and then no more"


def test_a_trade_in_a_symbol_without_a_ledger_moves_nothing_and_is_looked_at(heard: Heard) -> None:
    heard.tells(replace(fill("0.5"), symbol="NEWUSDT"))
    assert (Fill.objects.count(), heard.is_asked_to_read()) == (0, True)


@pytest.mark.parametrize("event", [MarginCall(1, ("BTCUSDT",)), UnknownEvent(1, "NEW_KIND")])
def test_what_may_mean_anything_is_a_reason_to_read(heard: Heard, event: Event) -> None:
    heard.tells(event)
    assert heard.is_asked_to_read()


def test_after_a_gap_the_trades_of_what_moved_in_it_are_asked_for(heard: Heard) -> None:
    """The position's own time says that it moved; its amount is what it was."""
    since_ms = clock.now_ms()
    heard.gap(since_ms=since_ms)
    heard.beat()
    assert heard.exchange.asked == [], "not before the stream is live again: more may come"
    heard.gap(since_ms=since_ms + 5, until_ms=clock.now_ms() + 1)
    heard.exchange.refuses = {"BTCUSDT"}
    heard.beat(times=2)
    heard.exchange.refuses = set()
    heard.beat(times=2)
    assert heard.exchange.asked == ["BTCUSDT"] * 3, "until they could be read, and then no more"


def test_without_the_stream_a_plan_is_judged_by_a_younger_read(heard: Heard) -> None:
    reads = heard.exchange.reads
    heard.boot[0] += 4.9
    heard.amount()
    clock.sleep_s(0.002)
    assert heard.exchange.reads == reads, "live, and fresh"
    heard.boot[0] += 0.2
    heard.amount()
    assert heard.exchange.reads == reads + 1
    heard.gap()
    heard.boot[0] += 1.1
    clock.sleep_s(0.002)  # two reads of one millisecond are one
    heard.amount()
    assert heard.exchange.reads == reads + 2


def test_a_read_from_before_the_stream_lived_again_is_not_fresh_for_long(heard: Heard) -> None:
    """What happened between that read and the first word of the new line nobody told."""
    reads = heard.exchange.reads
    heard.gap()
    heard.gap(until_ms=clock.now_ms() + 1)
    heard.boot[0] += 1.1
    clock.sleep_s(0.002)
    heard.amount()
    assert heard.exchange.reads == reads + 1


def test_hedge_mode_is_refused_with_the_first_word_of_it_until_a_read_says_that_it_is_over(
    heard: Heard,
) -> None:
    heard.exchange.hedged = True
    heard.tells(update(clock.now_ms(), "0.5", side="LONG"))
    assert heard.is_hedged()
    heard.beat()
    assert heard.is_hedged()
    heard.exchange.hedged = False
    heard.tells(replace(fill("0.5"), position_side=PositionSide.LONG))
    assert heard.is_hedged()
    heard.beat()
    assert not heard.is_hedged()
    assert Fill.objects.count() == 0


def test_a_stream_that_keeps_a_movement_to_itself_is_doubted(heard: Heard) -> None:
    heard.exchange.held["BTCUSDT"] = "0.5"
    heard.beat()
    assert heard.doubted == []
    heard.exchange.ahead_ms = 2100
    heard.beat(times=2)
    assert len(heard.doubted) == 1


def test_resting_orders_of_others_are_read_and_then_heard_of(heard: Heard) -> None:
    seen = heard.feed.observed("BTCUSDT", not_before_ms=0)
    assert seen.resting == 0
    heard.tells(told(clock.now_ms()))
    assert heard.feed.observed("BTCUSDT", not_before_ms=0).resting == Decimal("0.5")
    heard.boot[0] += 31
    heard.beat()
    heard.exchange.ahead_ms = 5000
    heard.boot[0] += 31
    heard.beat()
    assert heard.feed.observed("BTCUSDT", not_before_ms=0).resting == 0, "the book does not show it"


def test_a_word_of_the_very_moment_of_a_read_makes_the_brain_read_again(heard: Heard) -> None:
    """Its entry is booked already, and the read may have been answered before it."""
    read = heard.feed._picture.read
    assert read is not None
    heard.tells(update(read.asked_ms, "0.5"))
    heard.exchange.held["BTCUSDT"] = "0.5"
    assert heard.amount() == Decimal("0.5")
