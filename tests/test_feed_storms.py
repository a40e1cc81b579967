"""Bad minutes: storms of trades and of plans, books that make no sense, slow ears, clocks that disagree."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest
from django.conf import settings
from msgspec.structs import replace
from pytest_django.fixtures import Settings

from positions.feed.ear import Ear
from positions.feed.feed import Feed
from positions.feed.picture import Picture
from positions.models import Balance
from quantum import clock
from quantum.exchange.inbox import Received
from quantum.exchange.reading import ReadFailed
from quantum.exchange.types import OrderState, OrderStatus, Side, Trade
from quantum.redis import Client
from tests.drift_by_hand import balance, reading
from tests.test_ear import Heard, fill, heard
from tests.test_feed import Exchange, beat, boot, troubled
from tests.test_picture import T0, amount, update

__all__ = ["boot", "heard"]
pytestmark = pytest.mark.usefixtures("db", "redis")
LIMIT, SHARE = 2400, 800


def feed_of(exchange: Exchange, **more: Any) -> Feed:
    return Feed(reader=cast("Any", exchange), stopping=lambda: True, **more)


def resting(quantity: str) -> OrderState:
    return OrderState(
        "BTCUSDT", 5, "web_5", OrderStatus.NEW, Side.SELL, Decimal(quantity), Decimal(0), Decimal(0), True, 1
    )


# ---- weight


def test_a_minute_of_trades_by_hand_leaves_weight_for_every_other_symbol(
    boot: list[float], settings: Settings
) -> None:
    """Five symbols are traded by a stranger, ten times a second in all, and differ with every read."""
    settings.LEDGER_SOURCES = ("entry-",)
    names = [f"{letter}USDT" for letter in "ABCDE"]
    exchange = Exchange(**dict.fromkeys(names, "1"))
    exchange.share = SHARE
    for name in names:
        balance("2", symbol=name)
    feed = feed_of(exchange)
    ear = Ear(stream=cast("Any", None), feed=feed, stopping=lambda: True)
    for number in range(600):
        boot[0] += 0.1
        made = fill("0.1", client_order_id="web_1", trade_id=number + 1)
        ear.heed(Received(replace(made, symbol=names[number % 5]), clock.now_ms()))
        if feed._beat_is_due():
            beat_once(feed)
    assert troubled() == sorted(names)
    assert exchange.weighs < LIMIT * 3 // 5
    assert exchange.reads > 50, "and it goes on looking"


def beat_once(feed: Feed) -> None:
    clock.sleep_s(0.002)  # a later read has a later moment
    feed._beat()


def test_plans_that_are_tried_again_and_again_do_not_keep_the_feed_from_comparing_and_telling(
    boot: list[float], redis: Client
) -> None:
    """One symbol differs, and its bot asks ten times a second: each denial reads the exchange once more, so what is
    known never grows old. The incident waits for the beat, and so do all other symbols' snapshots."""
    exchange = Exchange(AUSDT="1", BUSDT="5")
    exchange.share = SHARE
    balance("2", symbol="AUSDT")
    balance("5", symbol="BUSDT")
    feed = feed_of(exchange)
    beat(feed, boot)
    told = []
    for _ in range(600):
        boot[0] += 0.1
        clock.sleep_s(0.002)
        feed.look_again("AUSDT")
        if feed._beat_is_due():
            beat_once(feed)
            told.append(redis.hget(settings.KEYS.snapshot("BUSDT"), "seen_epoch"))
    assert troubled() == ["AUSDT"]
    assert len(set(told)) > 5, "and the other one's snapshot is as fresh as without that bot"
    assert exchange.weighs < LIMIT * 3 // 5


def test_plans_for_flat_symbols_do_not_spend_the_weight_of_the_minute(boot: list[float]) -> None:
    """Ten symbols are proposed once a second each although they are flat; each denial takes a second look."""
    names = [f"{letter}USDT" for letter in "ABCDEFGHIJ"]
    exchange = Exchange(**dict.fromkeys(names, "0"))
    exchange.share = SHARE
    for name in names:
        balance("0", symbol=name)
    feed = feed_of(exchange)
    beat(feed, boot)
    for number in range(600):
        boot[0] += 0.1
        clock.sleep_s(0.002)  # reads of one millisecond are one
        feed.look_again(names[number % 10])
    assert exchange.weighs < LIMIT * 3 // 5


def test_entries_in_many_symbols_without_the_stream_leave_weight_for_the_positions(
    boot: list[float], settings: Settings
) -> None:
    """Twenty symbols are traded by a declared bot all the time while the line is down: each second each of them has a
    fill that only a question finds. Those that wait for it are healthy, and none of them is frozen."""
    settings.LEDGER_SOURCES = ("*",)
    names = [f"{letter}USDT" for letter in "ABCDEFGHIJKLMNOPQRST"]
    exchange = Exchange(**dict.fromkeys(names, "1"))
    exchange.share = SHARE
    for name in names:
        balance("1", symbol=name)
    feed, asked = feed_of(exchange), set()
    for second in range(50):
        boot[0] += 1
        for number, name in enumerate(names):
            order_id = second // 10 * 100 + number + 1
            exchange.trade("1", symbol=name, trade_id=second * 100 + number + 1, order_id=order_id)
            exchange.orders[order_id] = "entry-1"
            exchange.held[name] = str(second + 2)
        if second == 25:
            exchange.asked.clear()
        beat_once(feed)
        asked = set(exchange.asked)
    assert exchange.weighs < LIMIT * 4 // 5
    assert exchange.reads == 50
    assert troubled() == []
    assert len(asked) == 20, "each in its turn"


def test_who_waits_for_weight_is_not_compared_however_long(boot: list[float]) -> None:
    strangers = feed_of(Exchange(AUSDT="1", BUSDT="1"))._strangers
    both = {"AUSDT", "BUSDT"}
    assert strangers.catch_up_all(both, most=1) == {"BUSDT"}
    boot[0] += 31
    assert strangers.catch_up_all(both, most=1) == {"AUSDT"}


def test_an_incident_whose_trades_have_to_wait_for_weight_is_not_ended_without_them(
    boot: list[float],
) -> None:
    exchange = Exchange(BTCUSDT="1")
    exchange.share = SHARE
    balance("2")
    feed = feed_of(exchange)
    beat(feed, boot, times=4)
    exchange.held["BTCUSDT"], exchange.weighs = "2", SHARE + 1
    exchange.asked.clear()
    beat(feed, boot, times=3)
    assert (troubled(), exchange.asked) == (["BTCUSDT"], []), "its trades are not known yet"
    exchange.weighs = 0
    beat(feed, boot, times=2)
    assert (troubled(), exchange.asked[:1]) == ([], ["BTCUSDT"])


def test_trades_that_the_stream_told_are_asked_for_in_turn_so_that_no_question_grows_endless(
    heard: Heard,
) -> None:
    """Each entry is told and booked at once, for weeks; only a question moves the watermark."""
    made = fill("0.5")
    heard.tells(update(clock.now_ms(), "1.5"), made)
    assert made.trade is not None
    heard.exchange.trades.append(made.trade)
    heard.exchange.held["BTCUSDT"] = "0.5"
    heard.exchange.asked.clear()
    heard.boot[0] += 31
    heard.tells(update(clock.now_ms(), "0.5"))
    heard.beat(times=3)
    assert heard.exchange.asked == ["BTCUSDT"]
    assert Balance.objects.get().trades_from_ms == made.trade.time_ms
    heard.boot[0] += 31
    heard.beat()
    assert heard.exchange.asked == ["BTCUSDT"], "nothing lags any more"


# ---- the book


def test_a_book_that_cannot_be_read_keeps_nobody_from_the_positions(boot: list[float]) -> None:
    exchange = Exchange(BTCUSDT="1")
    balance("2")
    feed = feed_of(exchange)
    beat(feed, boot)
    boot[0] += 31
    exchange.resting, exchange.weighs, reads = None, 0, exchange.reads
    for _ in range(20):
        with suppress(ReadFailed):
            beat(feed, boot)
    assert exchange.reads - reads >= 16
    assert exchange.weighs < LIMIT // 4, "of half a minute"
    assert troubled() == ["BTCUSDT"]


def test_as_long_as_mode_and_book_were_never_read_nothing_is_judged(boot: list[float]) -> None:
    exchange = Exchange(BTCUSDT="1")
    exchange.resting = None
    feed = feed_of(exchange)
    for _ in range(3):
        with suppress(ReadFailed):
            beat(feed, boot)
    assert feed.rules("BTCUSDT") is None, "it could be in hedge mode, with all of it spoken for"
    exchange.resting = []
    beat(feed, boot, times=8)
    assert feed.rules("BTCUSDT") is not None


def test_rules_that_cannot_be_read_again_are_kept_and_keep_nobody_from_the_positions(
    boot: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = Exchange(BTCUSDT="1")
    feed = feed_of(exchange)
    beat(feed, boot)

    def down() -> None:
        raise ReadFailed("HTTP 502")

    monkeypatch.setattr(exchange, "symbol_rules", down)
    boot[0] += 3601
    reads = exchange.reads
    for _ in range(5):
        with suppress(ReadFailed):
            beat(feed, boot)
    assert exchange.reads - reads == 4
    assert feed.rules("BTCUSDT") is not None


def test_an_order_that_came_to_rest_while_nobody_told_is_read_when_the_stream_is_back(heard: Heard) -> None:
    heard.gap()
    heard.exchange.resting = [resting("0.4")]
    heard.gap(until_ms=clock.now_ms())
    heard.beat()
    assert heard.feed.observed("BTCUSDT", not_before_ms=0).resting == Decimal("0.4")


def test_hedge_mode_that_is_seen_while_the_mode_is_read_is_not_forgotten(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answered_before() -> bool:
        heard.tells(update(clock.now_ms(), "0.5", side="LONG"))
        return False

    heard.boot[0] += 31
    with monkeypatch.context() as slow:
        slow.setattr(heard.exchange, "hedge_mode", answered_before)
        heard.beat()
    assert heard.is_hedged()
    heard.beat(times=2)
    assert not heard.is_hedged()


# ---- clocks, slow ears, lost copies


def test_what_was_heard_before_a_read_is_inside_it_though_our_clock_is_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Our clock is 3 s behind, the line broke, and the position was closed by hand since."""
    boot = [1000.0]
    monkeypatch.setattr(clock, "boot_s", lambda: boot[0])
    picture = Picture()
    picture.take(reading(asked_ms=T0, BTCUSDT="1"), asked_boot_s=boot[0])
    boot[0] += 1
    picture.hear(update(T0 + 4000, "2"))
    boot[0] += 1
    picture.take(reading(asked_ms=T0 + 2000), asked_boot_s=boot[0])
    assert amount(picture) == 0


def test_a_line_is_not_given_up_for_what_waits_for_a_slow_ear(boot: list[float]) -> None:
    doubted: list[int] = []
    behind = [True]
    exchange = Exchange(BTCUSDT="1")
    feed = feed_of(exchange, doubt=doubted.append, is_behind=lambda: behind[0])
    beat(feed, boot, times=2)
    exchange.held["BTCUSDT"] = "2"
    beat(feed, boot)
    exchange.ahead_ms = 2500
    beat(feed, boot, times=2)
    assert doubted == []
    behind[0] = False
    beat(feed, boot)
    assert len(doubted) == 1, "with nothing left to hear it is held against it"


def test_a_plan_is_judged_by_a_younger_read_while_the_ear_is_behind(heard: Heard) -> None:
    """Even that the line broke may wait among what nobody has heard yet."""
    behind = [False]
    heard.feed._is_behind = lambda: behind[0]
    heard.boot[0] += 1.1
    reads = heard.exchange.reads
    clock.sleep_s(0.002)
    heard.amount()
    assert heard.exchange.reads == reads
    behind[0] = True
    heard.amount()
    assert heard.exchange.reads == reads + 1


def test_client_ids_that_another_thread_forgets_meanwhile_are_no_error(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Brain's look and the beat share them: one clears what grew too large, the other has just asked."""

    class Forgetful(dict[tuple[str, int], str]):
        def __setitem__(self, key: tuple[str, int], value: str) -> None:
            """Gone at once."""

    monkeypatch.setattr(heard.feed._strangers, "_client_ids", Forgetful())
    made = fill("0.5")
    assert made.trade is not None
    heard.exchange.trades.append(made.trade)
    heard.exchange.orders[1] = "entry-1"
    heard.exchange.held["BTCUSDT"] = "0.5"
    heard.beat()
    assert Balance.objects.get().amount == Decimal("0.5")


@pytest.mark.parametrize("waiting", [0, 3])
def test_an_ear_is_behind_while_something_waits_for_it(
    heard: Heard, monkeypatch: pytest.MonkeyPatch, waiting: int
) -> None:
    rounds = iter([False, False, True])
    word = Received(fill("0.1"), 0)
    ear = Ear(
        stream=cast("Any", SimpleNamespace(take=lambda timeout_s: word, waiting=waiting)),
        feed=heard.feed,
        stopping=lambda: next(rounds),
    )
    monkeypatch.setattr("positions.feed.ear.connection.close", lambda: None)
    heard.boot[0] += 1.5
    assert ear.is_behind
    ear.run()
    assert ear.is_behind == bool(waiting)


def test_what_the_ear_misses_while_its_symbol_is_asked_for_is_asked_for_again(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = fill("0.5")
    honest = heard.exchange.trades_since

    def answered_before(*, symbol: str, since_ms: int) -> list[Trade]:
        monkeypatch.setattr(heard.exchange, "trades_since", honest)
        heard.tells(replace(late, commission=None))
        return honest(symbol=symbol, since_ms=since_ms)

    monkeypatch.setattr(heard.exchange, "trades_since", answered_before)
    heard.tells(replace(fill("0.5", trade_id=6), commission=None))
    heard.beat()
    heard.beat()
    assert heard.exchange.asked == ["BTCUSDT"] * 2


def test_a_wiped_redis_gets_every_ledger_copy_anew(heard: Heard, redis: Client) -> None:
    heard.beat()
    assert redis.exists(settings.KEYS.ledger("BTCUSDT"))
    redis.flushdb()
    heard.beat()
    assert redis.hget(settings.KEYS.ledger("BTCUSDT"), "last_known_amt") == b"1"
