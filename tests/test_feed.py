"""What one symbol's trouble may do to the feed, and what it must not do to the others."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest
from django.conf import settings
from pytest_django.fixtures import Settings

from positions.drift import incidents
from positions.feed.feed import Feed
from positions.models import Balance, Fill
from positions.reconcile import reconcile
from quantum import clock
from quantum.exchange.reading import ReadFailed
from quantum.exchange.types import Income, OrderState, PositionsRead, Side, SymbolRules, Trade
from quantum.models import AuditEvent
from quantum.redis import Client
from tests.drift_by_hand import balance, reading, rules

pytestmark = pytest.mark.usefixtures("db", "redis")


class Exchange:
    """It holds these amounts, shows these trades, and refuses the trades of some symbols."""

    def __init__(self, **held: str) -> None:
        self.held = held
        self.trades: list[Trade] = []
        self.orders: dict[int, str] = {}
        self.refuses: set[str] = set()
        self.delisted: set[str] = set()
        self.asked: list[str] = []
        self.reads = 0
        self.hedged = False
        self.ahead_ms = 0
        self.wait_until_ms: int | None = None
        self.bookings: list[Income] = []
        self.income_asked: list[int] = []
        self.income_fails: ReadFailed | None = None
        self.weighs = 0
        self.share: int | None = None
        """Of a minute's weight, above which reads that can wait do."""
        self.resting: list[OrderState] | None = []

    def now_ms(self) -> int:
        return clock.now_ms() + self.ahead_ms

    def sync_clock(self) -> int:
        return 0

    def sweeps_wait_until_ms(self) -> int | None:
        if self.share is not None and self.weighs > self.share:
            return self.now_ms()
        return self.wait_until_ms

    def income(self, since_ms: int) -> list[Income]:
        self.weighs += 30
        self.income_asked.append(since_ms)
        if self.income_fails:
            raise self.income_fails
        return [each for each in self.bookings if each.time_ms >= since_ms]

    def hedge_mode(self) -> bool:
        self.weighs += 30
        return self.hedged

    def symbol_rules(self) -> dict[str, SymbolRules]:
        return rules(*self.held.keys() - self.delisted)

    def open_orders(self) -> list[OrderState]:
        self.weighs += 40
        if self.resting is None:
            raise ReadFailed("the answer makes no sense: type")
        return self.resting

    def positions(self) -> PositionsRead:
        self.reads += 1
        self.weighs += 5
        return reading(asked_ms=self.now_ms(), **self.held)

    def trades_since(self, *, symbol: str, since_ms: int) -> list[Trade]:
        self.asked.append(symbol)
        self.weighs += 5
        if symbol in self.refuses:
            raise ReadFailed("-1121 Invalid symbol.")
        return [each for each in self.trades if each.symbol == symbol and each.time_ms >= since_ms]

    def order_by_id(self, *, symbol: str, order_id: int) -> Any:
        self.weighs += 1
        found = self.orders.get(order_id)
        return SimpleNamespace(client_order_id=found) if found else None

    def trade(
        self, quantity: str, *, age_ms: int = 0, symbol: str = "BTCUSDT", trade_id: int = 1, order_id: int = 1
    ) -> None:
        self.trades.append(
            Trade(
                trade_id=trade_id, order_id=order_id, symbol=symbol, side=Side.BUY, quantity=Decimal(quantity),
                price=Decimal(100), realized_pnl=Decimal(0), commission=Decimal(0), commission_asset="USDT",
                time_ms=clock.now_ms() - age_ms,
            )
        )  # fmt: skip


@pytest.fixture
def boot(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> list[float]:
    """The only time that passes between two beats."""
    settings.APPLY_MODE, settings.APPLY_ALLOWLIST = "testnet", ()
    now = [1000.0]
    monkeypatch.setattr(clock, "boot_s", lambda: now[0])
    return now


def beat(feed: Feed, boot: list[float], *, times: int = 1) -> None:
    for _ in range(times):
        boot[0] += 1.5
        clock.sleep_s(0.002)  # a later read has a later moment
        feed._beat()


def troubled() -> list[str]:
    return sorted(incidents.standing().values_list("symbol", flat=True))


def test_trades_of_one_symbol_that_cannot_be_read_do_not_hide_the_drift_of_another(
    redis: Client, boot: list[float]
) -> None:
    exchange = Exchange(AAAUSDT="0", BTCUSDT="2", CCCUSDT="0")
    exchange.refuses = {"AAAUSDT", "CCCUSDT"}
    for symbol in exchange.held:
        balance("1", symbol=symbol)
    feed = Feed(reader=cast("Any", exchange), stopping=lambda: True)
    beat(feed, boot, times=4)
    assert troubled() == ["BTCUSDT"]
    assert len(exchange.asked) <= 2 * 4, "a failure ends the round"
    beat(feed, boot, times=25)
    assert troubled() == ["AAAUSDT", "BTCUSDT", "CCCUSDT"], (
        "after half a minute no fill is on its way any more"
    )


def test_an_entry_whose_order_is_not_shown_yet_is_not_kept_as_a_trade_by_hand(
    redis: Client, boot: list[float], settings: Settings
) -> None:
    settings.LEDGER_SOURCES = ("entry-",)
    exchange = Exchange(BTCUSDT="1.5")
    balance("1")
    exchange.trade("0.5")
    feed = Feed(reader=cast("Any", exchange), stopping=lambda: True)
    beat(feed, boot, times=4)
    assert (Fill.objects.count(), troubled()) == (0, [])
    exchange.orders[1] = "entry-1"
    beat(feed, boot)
    assert (Balance.objects.get().amount, Fill.objects.get().booked) == (Decimal("1.5"), True)


def test_a_trade_whose_order_is_never_shown_was_made_by_hand(redis: Client, boot: list[float]) -> None:
    exchange = Exchange(BTCUSDT="1.5")
    balance("1")
    exchange.trade("0.5", age_ms=60_000)
    beat(Feed(reader=cast("Any", exchange), stopping=lambda: True), boot, times=3)
    assert incidents.standing().get().cause == "manual_trade"


def test_a_symbol_that_was_delisted_is_compared_and_keeps_no_other_from_being_shown(
    redis: Client, boot: list[float]
) -> None:
    """It has a balance for ever, and no rules any more."""
    exchange = Exchange(BTCUSDT="1", OLDUSDT="0")
    exchange.delisted = {"OLDUSDT"}
    for symbol in exchange.held:
        balance("1", symbol=symbol)
    beat(Feed(reader=cast("Any", exchange), stopping=lambda: True), boot, times=3)
    assert troubled() == ["OLDUSDT"]
    found = reconcile._snapshots(redis, ["BTCUSDT", "OLDUSDT"])
    assert [each.amount if each else None for each in found.values()] == [Decimal(1), Decimal(0)]


def test_a_hand_in_the_ledgers_copy_is_found_within_half_a_minute(redis: Client, boot: list[float]) -> None:
    balance("1")
    feed = Feed(reader=cast("Any", Exchange(BTCUSDT="1")), stopping=lambda: True)
    beat(feed, boot)
    redis.hset(settings.KEYS.ledger("BTCUSDT"), "last_known_amt", "9")
    beat(feed, boot, times=21)
    assert redis.hget(settings.KEYS.ledger("BTCUSDT"), "last_known_amt") == b"1"
    assert AuditEvent.objects.filter(kind="ledger_copy_tampered").count() == 1
