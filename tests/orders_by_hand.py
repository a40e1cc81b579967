"""A spent pair, its plan row and its order, made without Redis and without an exchange."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from apply.acting import intent
from apply.acting.sizing import Size
from apply.models import Order, Plan
from apply.plans import publish
from permits.desk import payloads
from permits.gate.outcome import SpentPair
from permits.models import TradingState
from quantum import clock
from quantum.exchange.types import OrderState, OrderStatus, Side, Trade
from quantum.plan import ExitPlan
from tests.house import House
from tests.permits_by_hand import GOVERNOR, P33, permit

SIZE = Size(side=Side.SELL, quantity=Decimal("0.25"))


def activate() -> None:
    TradingState.objects.create(version=1, state=TradingState.State.ACTIVE, by="tests", reason="tests")


def recorded(plan: ExitPlan | None = None) -> ExitPlan:
    """A plan with its row, open."""
    plan = plan or House.make()
    publish.ensure_row(plan, actor="tests", stream_id="1-1")
    return plan


def pair_for(plan: ExitPlan, *, consumed_s_ago: float = 0) -> SpentPair:
    governor, p33 = permit(plan, GOVERNOR), permit(plan, P33)
    return SpentPair(
        plan=plan,
        token="t" * 32,
        governor=payloads.read(governor, gate=GOVERNOR, all_fields=True),
        p33=payloads.read(p33, gate=P33, all_fields=True),
        consumed_ms=clock.now_ms(),
        consumed_boot_s=clock.boot_s() - consumed_s_ago,
        wait_ms=7,
        found_ms={},
    )


def intend(plan: ExitPlan, **pair: Any) -> Order | str:
    return intent.make(pair_for(plan, **pair), SIZE, stream_id="1-1", timestamp_ms=clock.now_ms())


def intended(plan: ExitPlan | None = None) -> Order:
    """A committed intent."""
    activate()
    order = intend(recorded(plan))
    assert isinstance(order, Order), order
    return Order.objects.get(plan_id=order.plan_id)


def answer_of(
    order: Order, *, status: OrderStatus = OrderStatus.FILLED, executed: str = "0.25"
) -> OrderState:
    """As the exchange answers the order itself."""
    return OrderState(
        symbol=order.symbol,
        order_id=77,
        client_order_id=order.client_order_id,
        status=status,
        side=Side.SELL,
        quantity=Decimal("0.25"),
        executed_quantity=Decimal(executed),
        average_price=Decimal(50_000),
        reduce_only=True,
        updated_ms=clock.now_ms(),
    )


def reborn(plan_id: str, **fields: Any) -> Plan:
    """The same row with other fields. Born so: the database lets nobody lead a plan past the table of its steps."""
    row = Plan.objects.get(plan_id=plan_id)
    number, _ = row.pk, row.delete()
    for name, value in {**fields, "pk": number}.items():
        setattr(row, name, value)
    row.save(force_insert=True)
    return row


def state_of(plan: ExitPlan) -> str:
    return Plan.objects.get(plan_id=plan.plan_id).state


def trade(number: int = 1, *, quantity: str = "0.25", side: Side = Side.SELL, order_id: int = 77) -> Trade:
    return Trade(
        trade_id=number,
        order_id=order_id,
        symbol="BTCUSDT",
        side=side,
        quantity=Decimal(quantity),
        price=Decimal(50_000),
        realized_pnl=Decimal("1.5"),
        commission=Decimal("0.02"),
        commission_asset="USDT",
        time_ms=clock.now_ms(),
    )
