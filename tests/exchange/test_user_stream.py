"""The user stream against the paper exchange over a real websocket: events, or a gap, never silence."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest

from quantum.exchange import connect
from quantum.exchange.answers import WHOLE_MAX
from quantum.exchange.binance_stream import BinanceLine
from quantum.exchange.events import AccountUpdate, Execution, OrderUpdate, UnknownEvent
from quantum.exchange.hosts import stream_url_for
from quantum.exchange.inbox import GAP_MARGIN_MS, Gap, GapReason, Inbox, Item, Received
from quantum.exchange.reading import ReadFailed
from quantum.exchange.types import Answered, Side
from quantum.exchange.user_stream import LineBroken, UserStream
from tests.loops import run
from tests.paper.desk import Desk

WAIT_S = 8.0


class Listening:
    """A consumer that writes down what it was told."""

    def __init__(self, desk: Desk, **options: Any):
        url = (
            desk.exchange.stream_url
            if desk.exchange.stream_url.endswith("/")
            else desk.exchange.stream_url + "/"
        )
        self.stream = UserStream(keys=desk.reader, make_line=lambda: BinanceLine(stream_url=url), **options)
        self.told: list[Item] = []

    def is_live(self) -> bool:
        return self.stream.live_since_ms is not None

    def until(self, met: Callable[[], object], *, within_s: float = WAIT_S) -> None:
        deadline = time.monotonic() + within_s
        while not met():
            assert time.monotonic() < deadline, self.told
            item = self.stream.take(timeout_s=0.05)
            if item is not None:
                self.told.append(item)

    def healed(self, reason: GapReason) -> list[Gap]:
        return [g for g in self.gaps(reason) if g.until_ms is not None]

    def gaps(self, reason: GapReason) -> list[Gap]:
        return [item for item in self.told if isinstance(item, Gap) and item.reason is reason]

    def orders(self) -> list[OrderUpdate]:
        return [
            item.event
            for item in self.told
            if isinstance(item, Received) and isinstance(item.event, OrderUpdate)
        ]

    def trade_ids(self) -> set[int]:
        return {one.trade_id for one in self.orders() if one.is_execution}


@contextmanager
def listening(desk: Desk, **options: Any) -> Iterator[Listening]:
    one = Listening(desk, **options)
    one.stream.start()
    try:
        one.until(lambda: one.healed(GapReason.STARTED))
        yield one
    finally:
        assert one.stream.stop()


def sell(desk: Desk) -> int:
    outcome = desk.send("BTCUSDT", Side.SELL, "0.001")
    assert isinstance(outcome, Answered)
    [trade] = desk.reader.trades_of_order(symbol="BTCUSDT", order_id=outcome.order.order_id)
    return trade.trade_id


def test_an_exit_is_told_in_order_after_the_gap_of_the_start(desk: Desk) -> None:
    with listening(desk) as one:
        trade_id = sell(desk)
        one.until(lambda: trade_id in one.trade_ids())
        events, [gap] = one.told[2:], one.healed(GapReason.STARTED)
        assert one.told[:2] == [Gap(gap.since_ms, GapReason.STARTED), gap]
        assert all(isinstance(item, Received) for item in events)
        assert [order.execution for order in one.orders()] == [Execution.NEW, Execution.TRADE]
        kinds = {type(item.event) for item in events if isinstance(item, Received)}
        assert kinds == {OrderUpdate, AccountUpdate}
        [trade] = desk.reader.trades_of_order(symbol="BTCUSDT", order_id=one.orders()[-1].order_id)
        assert one.orders()[-1].trade == trade, "the stream and REST tell the same execution"
        [account] = [
            i.event for i in events if isinstance(i, Received) and isinstance(i.event, AccountUpdate)
        ]
        assert account.positions[0].amount == Decimal("0.999")


def test_a_cut_line_is_a_gap_around_everything_that_was_missed_and_heals(desk: Desk) -> None:
    with listening(desk) as one:
        desk.exchange.pull_stream("refuse", times=2)
        desk.exchange.pull_stream("cut")
        one.until(lambda: one.gaps(GapReason.LOST))
        assert not one.is_live()
        missed = sell(desk)
        one.until(lambda: one.healed(GapReason.LOST))
        assert one.is_live()
        later = sell(desk)
        one.until(lambda: later in one.trade_ids())
        assert missed not in one.trade_ids()
        [gap] = one.healed(GapReason.LOST)
        trades = desk.reader.trades_since(symbol="BTCUSDT", since_ms=gap.since_ms)
        assert missed in {trade.trade_id for trade in trades}
        assert one.gaps(GapReason.LOST)[0] == Gap(gap.since_ms, GapReason.LOST), "told at once, open"


def test_an_expired_key_is_replaced_and_the_line_with_it(desk: Desk) -> None:
    with listening(desk) as one:
        old = desk.reader.listen_key()
        desk.exchange.pull_stream("expire")
        one.until(lambda: one.healed(GapReason.KEY_EXPIRED))
        assert desk.reader.listen_key() != old
        later = sell(desk)
        one.until(lambda: later in one.trade_ids())


def test_a_key_that_ended_without_a_word_is_found_out_and_the_gap_begins_at_its_last_yes(desk: Desk) -> None:
    with listening(desk, keep_s=0.5) as one:
        before_ms = desk.reader.now_ms()
        desk.raw("DELETE", "/fapi/v1/listenKey", key=desk.exchange.keys.read_key)
        sell(desk)
        one.until(lambda: one.healed(GapReason.KEY_EXPIRED))
        assert one.healed(GapReason.KEY_EXPIRED)[0].since_ms <= before_ms


def test_an_exchange_that_answers_no_ping_is_a_gap_and_a_stop_does_not_wait_for_it(desk: Desk) -> None:
    with listening(desk, ping_s=0.2, silence_s=0.5, keep_s=0.3) as one:
        os.kill(desk.exchange.pid, signal.SIGSTOP)
        try:
            one.until(lambda: one.gaps(GapReason.SILENT))
            began = time.monotonic()
            assert one.stream.stop()
            assert time.monotonic() - began < 2
        finally:
            os.kill(desk.exchange.pid, signal.SIGCONT)


def test_an_exchange_that_was_frozen_is_listened_to_again(desk: Desk) -> None:
    with listening(desk, ping_s=0.2, silence_s=0.5) as one:
        os.kill(desk.exchange.pid, signal.SIGSTOP)
        one.until(lambda: one.gaps(GapReason.SILENT))
        os.kill(desk.exchange.pid, signal.SIGCONT)
        one.until(lambda: one.healed(GapReason.SILENT), within_s=15)
        later = sell(desk)
        one.until(lambda: later in one.trade_ids())


def test_a_stream_that_keeps_events_to_itself_is_doubted_by_its_consumer_and_built_anew(desk: Desk) -> None:
    with listening(desk) as one:
        desk.exchange.pull_stream("freeze")
        since_ms = desk.reader.now_ms() - 60_000
        sell(desk)
        time.sleep(0.3)
        assert one.stream.take(timeout_s=0.2) is None, "the line stands and says nothing"
        desk.exchange.pull_stream("clear")
        one.stream.doubt(since_ms=since_ms)
        one.until(lambda: one.healed(GapReason.DOUBTED))
        assert one.healed(GapReason.DOUBTED)[0].since_ms == since_ms


def test_doubts_of_a_time_without_a_line_make_its_gap_longer_and_break_no_new_line(desk: Desk) -> None:
    with listening(desk) as one:
        desk.exchange.pull_stream("refuse", times=2)
        desk.exchange.pull_stream("cut")
        one.until(lambda: one.gaps(GapReason.LOST))
        for since_ms in (7, 5, 6):
            one.stream.doubt(since_ms=since_ms)
        one.until(lambda: one.healed(GapReason.LOST))
        later = sell(desk)
        one.until(lambda: later in one.trade_ids())
        assert one.healed(GapReason.LOST)[0].since_ms == 5
        assert not one.gaps(GapReason.DOUBTED)


def test_the_stream_of_an_instance_listens_where_its_mode_says(desk: Desk, settings: Any) -> None:
    settings.PAPER_URL = desk.exchange.base_url.removesuffix("/fapi")
    stream = connect.user_stream(desk.reader)
    assert not stream.is_alive()
    stream.start()
    try:
        assert isinstance(stream.take(timeout_s=WAIT_S), Gap)
        live = stream.take(timeout_s=WAIT_S)
        assert isinstance(live, Gap)
        assert live.until_ms is not None
    finally:
        assert stream.stop()


@pytest.mark.parametrize(
    "body",
    [
        "<html>",
        "[]",
        "",
        {"e": "ORDER_TRADE_UPDATE"},
        {"e": 5},
        {"e": "MARGIN_CALL", "E": WHOLE_MAX + 1},
        [1, 2],
    ],
    ids=str,
)
def test_a_message_that_makes_no_sense_is_a_gap_of_its_own_and_the_line_goes_on(
    desk: Desk, body: object
) -> None:
    with listening(desk) as one:
        live_since_ms = one.stream.live_since_ms
        desk.exchange.pull_stream("send", body=body)
        if body != "":
            one.until(lambda: one.healed(GapReason.UNREADABLE))
        later = sell(desk)
        one.until(lambda: later in one.trade_ids())
        assert one.stream.live_since_ms == live_since_ms


def test_a_kind_nobody_knows_is_handed_on_by_its_name(desk: Desk) -> None:
    with listening(desk) as one:
        desk.exchange.pull_stream("send", body={"e": "MOON_UPDATE", "E": 1})
        one.until(lambda: len(one.told) > 2)
        [*_, last] = one.told
        assert isinstance(last, Received)
        assert last.event == UnknownEvent(1, "MOON_UPDATE")


def test_events_that_nobody_takes_become_a_gap_and_never_silence(desk: Desk) -> None:
    with listening(desk, items_max=4) as one:
        first_ms = desk.reader.now_ms()
        sold = [sell(desk) for _ in range(6)]
        time.sleep(0.3)
        one.until(lambda: one.gaps(GapReason.OVERFLOW))
        [gap] = one.gaps(GapReason.OVERFLOW)
        assert one.trade_ids() < set(sold)
        assert gap.since_ms <= first_ms
        later = sell(desk)
        one.until(lambda: later in one.trade_ids())


def test_whatever_breaks_each_trade_is_told_or_lies_in_a_gap(desk: Desk) -> None:
    pulls: list[dict[str, Any]] = [
        {"do": "cut"}, {"do": "expire"}, {"do": "double"}, {"do": "cut"}, {"do": "disorder", "times": 4},
        {"do": "refuse", "times": 1}, {"do": "cut"}, {"do": "clear"}, {"do": "flood", "times": 3000},
        {"do": "send", "body": "{"}, {"do": "expire"}, {"do": "delay", "ms": 50}, {"do": "cut"}, {"do": "clear"},
    ]  # fmt: skip
    began_ms = desk.reader.now_ms()
    with listening(desk, items_max=200) as one:
        for pull in pulls:
            sell(desk)
            desk.exchange.pull_stream(**pull)
            sell(desk)
        one.until(lambda: one.stream.live_since_ms is not None, within_s=20)
        last = sell(desk)
        one.until(lambda: last in one.trade_ids(), within_s=20)
        told, gaps = one.trade_ids(), [item for item in one.told if isinstance(item, Gap)]
        trades = desk.reader.trades_since(symbol="BTCUSDT", since_ms=began_ms)
        assert len(trades) >= 2 * len(pulls)
        for trade in trades:
            covered = any(gap.since_ms <= trade.time_ms <= (gap.until_ms or WHOLE_MAX) for gap in gaps)
            assert trade.trade_id in told or covered
        healed = [gap for gap in gaps if gap.until_ms]
        assert len(healed) >= len(gaps) / 2, "every open gap was closed"


def test_a_stream_that_starts_before_its_exchange_comes_up_with_it(desk: Desk) -> None:
    desk.exchange.pull_stream("refuse", times=2)
    with listening(desk) as one:
        assert one.gaps(GapReason.STARTED)[0].until_ms is None
        assert len(one.told) == 2


def test_a_stream_that_was_never_started_or_has_ended_stops_at_once(desk: Desk) -> None:
    idle = Listening(desk)
    assert idle.stream.stop()
    idle.stream.start()
    idle.stream.join(2)
    assert not idle.stream.is_alive()
    idle.stream.doubt(since_ms=1)


def test_a_proxy_in_the_environment_does_not_catch_a_line_to_loopback(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with listening(desk):
        pass


def test_no_log_line_of_anybody_shows_the_key(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with listening(desk) as one:
        key = desk.reader.listen_key()
        desk.exchange.pull_stream("refuse", times=1)
        desk.exchange.pull_stream("cut")
        one.until(lambda: one.healed(GapReason.LOST))
    assert caplog.records
    shown = "".join(
        record.getMessage() for record in caplog.records if record.name != "urllib3.connectionpool"
    )
    assert key not in shown


def test_what_came_before_the_end_of_a_line_comes_out_before_the_gap(desk: Desk) -> None:
    async def drained() -> tuple[int, GapReason]:
        line = BinanceLine(stream_url=desk.exchange.stream_url.rstrip("/") + "/")
        await line.open(await asyncio.to_thread(desk.reader.listen_key))
        await asyncio.to_thread(desk.exchange.pull_stream, "flood", times=200)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(desk.exchange.pull_stream, "cut")
        await asyncio.sleep(0.1)
        count = 0
        try:
            while True:
                await line.next_message()
                count += 1
        except LineBroken as broken:
            return count, broken.reason
        finally:
            await line.close()

    assert run(drained()) == (200, GapReason.LOST)


# ---- without a line


class NoKeys:
    """An exchange that refuses every key, and counts how often it was asked."""

    asked = 0

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def listen_key(self) -> str:
        self.asked += 1
        raise ReadFailed("HTTP 429", retry_at_ms=self.now_ms() + 5000)

    def keep_listen_key(self, key: str) -> bool:
        raise AssertionError("there is no key to keep")


def test_a_silence_the_exchange_asked_for_is_kept() -> None:
    keys = NoKeys()
    stream = UserStream(keys=keys, make_line=lambda: BinanceLine(stream_url="ws://127.0.0.1:1/"))
    stream.start()
    time.sleep(1)
    assert stream.stop()
    assert keys.asked == 1
    assert stream.live_since_ms is None


def test_a_full_inbox_takes_gaps_together_and_forgets_no_time() -> None:
    inbox = Inbox(items_max=1)
    event = UnknownEvent(0, "X")
    assert inbox.put(Received(event, 100_000)) is None
    assert inbox.put(Received(event, 100_001)) == Gap(100_001 - GAP_MARGIN_MS, GapReason.OVERFLOW, 100_001)
    inbox.put(Received(event, 100_002))
    inbox.put(Gap(1, GapReason.LOST))
    inbox.put(Gap(100_000, GapReason.LOST, 200_000))
    assert len(inbox) == 2
    inbox.take(timeout_s=0)
    assert inbox.take(timeout_s=0) == Gap(1, GapReason.LOST, 200_000)
    assert inbox.take(timeout_s=0) is None


def test_each_mode_has_its_own_stream() -> None:
    paper = "http://127.0.0.1:8087/fapi"
    assert stream_url_for(mode="paper", paper_url=paper) == "ws://127.0.0.1:8087/"
    assert stream_url_for(mode="testnet", paper_url=paper) == "wss://fstream.binancefuture.com/"
    assert stream_url_for(mode="live", paper_url=paper) == "wss://fstream.binance.com/"
    for mode, url in (("paper", None), ("paper", "http://10.0.0.1:80/fapi"), ("dry_run", paper), ("", paper)):
        with pytest.raises(ValueError, match="mode"):
            stream_url_for(mode=mode, paper_url=url)
