"""Whatever happens in whatever order: the ledger is what was booked, and drift is one open incident."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any, cast

import pytest
from django.conf import settings

from permits.models import Hold
from positions import difference, incidents, ledger, reconcile
from positions.difference import Origin
from positions.feed import Feed
from positions.ledger import SeenTrade
from positions.models import Balance, Fill, Incident, LedgerEntry
from quantum.exchange.types import PositionsRead, Side, Trade
from quantum.models import AuditEvent
from quantum.redis import Client
from tests.drift_by_hand import STEP, Watched, balance, reading, rules
from tests.properties import given, st
from tests.test_reconcile import seen

pytestmark = pytest.mark.usefixtures("db")

START = Decimal(10)
TRADES = st.tuples(
    st.sampled_from(["entry-1", "web_1", "web_1", "q-0123456789abcdef-75"]),
    st.sampled_from([-2, -1, 1, 2]).map(Decimal),
)
STEPS = st.lists(
    st.one_of(TRADES, st.sampled_from(["read", "read", "read", "again", "restart"])), min_size=4, max_size=20
)


class Exchange:
    """Its own list of trades, and the feed that reads it."""

    def __init__(self) -> None:
        for model in (LedgerEntry, Balance, Fill, Incident, Hold, AuditEvent):
            model.objects.all().delete()
        balance(str(START))
        self.watched = Watched()
        self.trades: list[SeenTrade] = []
        self.restart()

    # ---- what the feed asks

    def trades_since(self, *, symbol: str, since_ms: int) -> list[Trade]:
        return [each.trade for each in self.trades if each.trade.time_ms >= since_ms]

    def order_by_id(self, *, symbol: str, order_id: int) -> Any:
        return cast("Any", _Order(self.trades[order_id].client_order_id))

    # ---- what happens

    @property
    def amount(self) -> Decimal:
        return START + sum((each.trade.signed_quantity for each in self.trades), Decimal(0))

    def trade(self, client_order_id: str, quantity: Decimal) -> None:
        """An exit of ours is settled at once; all others wait until somebody looks (a gap of the stream)."""
        self.watched.asked_ms += 7
        number = len(self.trades)
        made = replace(_trade(quantity), trade_id=number, order_id=number, time_ms=self.watched.asked_ms)
        self.trades.append(SeenTrade(made, client_order_id))
        self.watched.asked_ms += 7
        if self.trades[-1].origin is Origin.OURS:
            self.settle()

    def settle(self) -> None:
        """Also told twice."""
        ours = [each for each in self.trades if each.origin is Origin.OURS]
        ledger.store(ours)
        ledger.book(ours, kind=LedgerEntry.Kind.EXIT, actor="tests")

    def read(self, after_s: float = 1.0) -> None:
        with self.watched._at(after_s):
            now: PositionsRead = reading(asked_ms=self.watched.asked_ms, BTCUSDT=str(self.amount))
            for symbol in {*self.feed._differing(now), *self.feed._sweep.troubled}:
                self.feed._catch_up(symbol)
            self.feed._sweep.look(now, rules("BTCUSDT"))

    def restart(self) -> None:
        self.feed = Feed(reader=cast("Any", self), stopping=lambda: True)


class _Order:
    def __init__(self, client_order_id: str) -> None:
        self.client_order_id = client_order_id


def _trade(quantity: Decimal) -> Trade:
    return Trade(
        trade_id=0, order_id=0, symbol="BTCUSDT", side=Side.BUY if quantity > 0 else Side.SELL,
        quantity=abs(quantity), price=Decimal(100), realized_pnl=Decimal(0), commission=Decimal(0),
        commission_asset="USDT", time_ms=0,
    )  # fmt: skip


@given(STEPS)
def test_any_order_of_fills_duplicates_hand_trades_and_restarts(
    redis: Client, steps: list[tuple[str, Decimal] | str]
) -> None:
    exchange = Exchange()
    for step in steps:
        if isinstance(step, tuple):
            exchange.trade(*step)
        elif step == "read":
            exchange.read()
        elif step == "again":
            exchange.settle()
        else:
            exchange.restart()
    for _ in range(3):
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
        tolerance_pct=settings.P33_QTY_TOLERANCE_PCT,
    )
    bought = sum((fill.quantity if fill.side == "BUY" else -fill.quantity for fill in booked), Decimal(0))
    assert moved == bought, "each fill that is booked moved the ledger once"
    if (
        exchange.amount != row.amount
    ):  # trades that undo each other between two reads are fetched with the next
        assert Fill.objects.count() == len(exchange.trades)
        assert booked.count() == len(theirs), "every entry and exit is booked"
    causes = list(incidents.standing().values_list("cause", flat=True))
    assert causes == ([] if drift is None else ["manual_trade"])
    assert Hold.objects.filter(lifted_at=None).count() == len(causes)
    if drift is not None:
        reconcile.adopt([seen(str(exchange.amount), asked_ms=exchange.watched.asked_ms)], by="n", reason="x")
        exchange.read()
        assert not incidents.standing().exists()
        assert Balance.objects.get().amount == exchange.amount
