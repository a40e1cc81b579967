"""Whatever happens in whatever order: the ledger is what was booked, and drift is one open incident."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, cast

import pytest
from django.conf import settings as djsettings
from msgspec.structs import replace
from pytest_django.fixtures import Settings

from permits.models import Hold
from positions.books import ledger
from positions.books.income import EVERY_S
from positions.books.ledger import SeenTrade
from positions.drift import incidents
from positions.feed.ear import Ear
from positions.feed.feed import Feed
from positions.judging import difference
from positions.judging.difference import Origin
from positions.models import Balance, BookingsRead, Fill, Incident, LedgerEntry
from positions.reconcile import reconcile
from quantum import clock
from quantum.exchange.events import Event, Execution, OrderUpdate
from quantum.exchange.inbox import GAP_MARGIN_MS, Gap, GapReason, Received
from quantum.exchange.types import Income, OrderState, OrderStatus, PositionsRead, Side, SymbolRules, Trade
from quantum.models import AuditEvent
from quantum.redis import Client
from tests.drift_by_hand import STEP, Watched, balance, reading, rules
from tests.properties import example, given, st
from tests.test_picture import update
from tests.test_reconcile import seen
from tests.test_resting import told
from tests.unguarded import unguarded

pytestmark = pytest.mark.usefixtures("db")

START = Decimal(10)
TRADES = st.tuples(
    st.sampled_from(["entry-1", "entry-1", "web_1", "web_1", "q-0123456789abcdef-75"]),
    st.sampled_from([-2, -1, 1, 2]).map(Decimal),
)
EVENTS = ["read", "read", "read", "again", "restart", "late", "turned", "twice", "lost", "cut", "mended"]
STEPS = st.lists(st.one_of(TRADES, st.sampled_from(EVENTS)), min_size=4, max_size=24)

UNSEEN: list[tuple[str, Decimal] | str] = [
    "read",
    "lost",
    ("web_1", Decimal(1)),
    ("web_1", Decimal(-1)),
    "read",
]
"""They cancel each other out, and no gap is told: only their bookings show them."""


class Exchange:
    """Its own list of trades, its user stream with all that can be wrong with one, and the feed that hears it."""

    def __init__(self) -> None:
        with unguarded():
            for model in (LedgerEntry, Balance, Fill, Incident, Hold, AuditEvent, BookingsRead):
                model.objects.all().delete()
        balance(str(START))
        LedgerEntry.objects.create(
            account=djsettings.ACCOUNT, symbol="BTCUSDT", kind=LedgerEntry.Kind.ADOPTED, delta=Decimal(0),
            balance=START, at=clock.from_ms(0),
        )  # fmt: skip
        self.watched = Watched()
        self.watched.asked_ms -= int(EVERY_S * 1000)  # the end is now: nothing comes from the future
        self.trades: list[SeenTrade] = []
        self.said: list[Event] = []
        self.frozen = self.late = False
        self.cut_since_ms: int | None = None
        self.restart()

    # ---- what the feed asks

    def now_ms(self) -> int:
        return self.watched.asked_ms

    def sync_clock(self) -> int:
        return 0

    def sweeps_wait_until_ms(self) -> int | None:
        return None

    def hedge_mode(self) -> bool:
        return False

    def symbol_rules(self) -> dict[str, SymbolRules]:
        return rules("BTCUSDT")

    def open_orders(self) -> list[OrderState]:
        return []

    def positions(self) -> PositionsRead:
        read = reading(asked_ms=self.now_ms(), BTCUSDT=str(self.amount))
        moved_ms = self.trades[-1].trade.time_ms if self.trades else 0
        held = replace(read.positions["BTCUSDT"], updated_ms=moved_ms)
        return replace(read, positions={"BTCUSDT": held} if held.amount else {})

    def trades_since(self, *, symbol: str, since_ms: int) -> list[Trade]:
        return [each.trade for each in self.trades if each.trade.time_ms >= since_ms]

    def income(self, since_ms: int) -> list[Income]:
        booked = [each.trade for each in self.trades if each.trade.time_ms >= since_ms]
        return [
            Income(
                kind="COMMISSION", symbol="BTCUSDT", amount=-each.commission, asset="USDT",
                transaction_id=f"7{each.trade_id}", time_ms=each.time_ms, trade_id=each.trade_id,
            )
            for each in booked
        ]  # fmt: skip

    def order_by_id(self, *, symbol: str, order_id: int) -> Any:
        return cast("Any", _Order(self.trades[order_id - 1].client_order_id))

    # ---- what happens

    @property
    def amount(self) -> Decimal:
        return START + sum((each.trade.signed_quantity for each in self.trades), Decimal(0))

    def trade(self, client_order_id: str, quantity: Decimal) -> None:
        """An exit of ours is settled at once; all others wait until they are told, or somebody looks."""
        self.watched.asked_ms += 7
        number = len(self.trades) + 1
        made = replace(_trade(quantity), trade_id=number, order_id=number, time_ms=self.watched.asked_ms)
        self.trades.append(SeenTrade(made, client_order_id))
        self.watched.asked_ms += 7
        if self.trades[-1].origin is Origin.OURS:
            self.settle()
        if not self.frozen and self.cut_since_ms is None:
            self.said += [update(made.time_ms, str(self.amount)), _told(self.trades[-1])]
            if not self.late:
                self.tell()

    def tell(self, *, turned: bool = False, twice: bool = False) -> None:
        said, self.said, self.late = self.said, [], False
        with self.watched._at(0.0):
            for event in reversed(said) if turned else said * 2 if twice else said:
                self.ear.heed(Received(event, self.now_ms()))

    def settle(self) -> None:
        """Also told twice."""
        ours = [each for each in self.trades if each.origin is Origin.OURS]
        ledger.store(ours)
        ledger.book(ours, kind=LedgerEntry.Kind.EXIT, actor="tests")

    def read(self, after_s: float = 1.0) -> None:
        with self.watched._at(after_s):
            self.feed._beat()

    def cut(self, since_ms: int | None = None) -> None:
        """The line breaks: what waited in it is lost, and that is known."""
        if self.cut_since_ms is None:
            self.cut_since_ms = min(since_ms or self.now_ms(), self.now_ms()) - GAP_MARGIN_MS
            self.said = []
            self.ear.heed(Gap(self.cut_since_ms, GapReason.LOST))

    def mend(self) -> None:
        """A new line: nothing is frozen in it."""
        self.frozen = self.late = False
        if self.cut_since_ms is not None:
            since_ms, self.cut_since_ms = self.cut_since_ms, None
            self.ear.heed(Gap(since_ms, GapReason.LOST, self.now_ms()))

    def doubt(self, since_ms: int) -> None:
        self.cut(since_ms)
        self.mend()

    def restart(self) -> None:
        """p33 begins anew: the stream tells from now on."""
        self.said, self.cut_since_ms = [], None
        self.feed = Feed(reader=cast("Any", self), stopping=lambda: True, doubt=self.doubt)
        self.ear = Ear(stream=cast("Any", None), feed=self.feed, stopping=lambda: True)
        self.cut()
        self.mend()

    def step(self, step: str) -> None:
        match step:
            case "read":
                self.read()
            case "again":
                self.settle()
            case "restart":
                self.restart()
            case "late":
                self.late = True
            case "turned" | "twice":
                self.tell(turned=step == "turned", twice=step == "twice")
            case "lost":
                self.frozen = True
            case "cut":
                self.cut()
            case "mended":
                self.mend()


class _Order:
    def __init__(self, client_order_id: str) -> None:
        self.client_order_id = client_order_id


def _trade(quantity: Decimal) -> Trade:
    return Trade(
        trade_id=0, order_id=0, symbol="BTCUSDT", side=Side.BUY if quantity > 0 else Side.SELL,
        quantity=abs(quantity), price=Decimal(100), realized_pnl=Decimal(0), commission=Decimal(0),
        commission_asset="USDT", time_ms=0,
    )  # fmt: skip


def _told(seen: SeenTrade) -> OrderUpdate:
    trade = seen.trade
    return told(
        trade.time_ms,
        client_order_id=seen.client_order_id,
        order_id=trade.order_id,
        trade_id=trade.trade_id,
        side=trade.side,
        execution=Execution.TRADE,
        status=OrderStatus.FILLED,
        reduce_only=False,
        quantity=trade.quantity,
        last_quantity=trade.quantity,
        cumulative_quantity=trade.quantity,
        last_price=trade.price,
        realized_pnl=trade.realized_pnl,
        commission=trade.commission,
        commission_asset=trade.commission_asset,
    )


@pytest.fixture(autouse=True)
def entered_by_hand(settings: Settings) -> None:
    settings.APPLY_MODE, settings.APPLY_ALLOWLIST, settings.LEDGER_SOURCES = "testnet", (), ("entry-",)


@pytest.mark.slow
@given(STEPS)
@example(UNSEEN)
def test_any_order_of_fills_duplicates_hand_trades_gaps_of_the_stream_and_restarts(
    redis: Client, steps: list[tuple[str, Decimal] | str]
) -> None:
    exchange = Exchange()
    for step in steps:
        if isinstance(step, tuple):
            exchange.trade(*step)
        else:
            exchange.step(step)
    exchange.tell()
    for _ in range(4):
        exchange.read()
    exchange.mend()
    exchange.read(
        after_s=EVERY_S
    )  # trades that cancelled each other out while nothing was heard, and no gap told
    for _ in range(4):
        exchange.read()
    row = Balance.objects.get()
    theirs = [each for each in exchange.trades if each.origin in (Origin.OURS, Origin.DECLARED)]
    booked = Fill.objects.filter(booked=True)
    moved = sum((entry.delta for entry in LedgerEntry.objects.all()), Decimal(0))
    assert row.amount == START + moved
    drift = difference.between(
        exchange=exchange.amount,
        ledger=row.amount,
        lot_step=STEP,
        tolerance_pct=djsettings.P33_QTY_TOLERANCE_PCT,
    )
    bought = sum((fill.quantity if fill.side == "BUY" else -fill.quantity for fill in booked), Decimal(0))
    assert moved == bought, "each fill that is booked moved the ledger once"
    seen_amount = exchange.feed.observed("BTCUSDT", not_before_ms=0).amount
    assert seen_amount == exchange.amount, "whatever the stream said, or kept to itself"
    assert Fill.objects.count() == len(exchange.trades), "also those that cancelled each other out unseen"
    assert booked.count() == len(theirs), "every entry and exit is booked"
    causes = list(incidents.standing().values_list("cause", flat=True))
    assert causes == ([] if drift is None else ["manual_trade"])
    assert Hold.objects.filter(lifted_at=None).count() == len(causes)
    if drift is not None:
        asked_ms = exchange.watched.asked_ms
        reconcile.adopt([seen(str(exchange.amount), asked_ms=asked_ms)], by="n", reason="x")
        exchange.read()
        assert not incidents.standing().exists()
        assert Balance.objects.get().amount == exchange.amount
