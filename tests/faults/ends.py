"""What must hold at the end of every row, whatever the exchange did in between."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from apply.models import Order, Plan
from positions.models import Balance, Fill, LedgerEntry, SymbolLock
from quantum.exchange import connect
from quantum.models import AuditEvent
from quantum.plan import ExitPlan
from tests.house import House, wait_for


def told_once(
    house: House, plan: ExitPlan, *, state: str, error: str = "", orders: int = 1, within_s: float = 12
) -> Plan:
    """The plan ended so, told by one result; the exchange received so many orders of it, and no lock is left."""
    row = house.ended(plan, within_s=within_s)
    assert (row.state, row.error) == (state, error), row.gate_reason
    assert len(house.orders(plan)) == orders, [order["verdict"] for order in house.orders(plan)]
    assert len(house.paper.accepted(prefix=f"q-{plan.plan_id}")) <= 1
    [result] = house.results(plan)
    executed = Order.objects.filter(plan_id=plan.plan_id, executed_quantity__gt=0).exists()
    assert (result["executed"], result["error"]) == (str(executed), error)
    assert not SymbolLock.objects.filter(plan_id=plan.plan_id).exists()
    return row


def becomes_unknown(plan: ExitPlan) -> None:
    """Its fate was open for a while: written down, its symbol locked."""
    wait_for(
        AuditEvent.objects.filter(plan_id=plan.plan_id, kind="plan_unknown").exists, what="an unknown fate"
    )


def exchange_holds(house: House, symbol: str) -> Decimal:
    return Decimal(house.paper.control("GET", f"/paper/position?symbol={symbol}")["amount"])


def balance(symbol: str) -> Decimal:
    found: Decimal = Balance.objects.get(symbol=symbol).amount
    return found


def is_booked(symbol: str, amount: str) -> None:
    """The ledger comes to this amount."""
    wait_for(
        Balance.objects.filter(symbol=symbol, amount=Decimal(amount)).exists, what=f"{amount} {symbol} booked"
    )


def ledger_agrees(house: House) -> None:
    """Ledger = exchange, and the ledger is its own entries: no trade is missing and none is booked twice."""
    for symbol in house.POSITIONS:
        is_booked(symbol, str(exchange_holds(house, symbol)))
        deltas = LedgerEntry.objects.filter(symbol=symbol).values_list("delta", flat=True)
        assert sum(deltas, Decimal(0)) == balance(symbol)


def fills_are_the_exchanges_own(house: House, plans: list[ExitPlan]) -> None:
    """Trade by trade, as the exchange lists them for our orders."""
    reader, ours = connect.reader(), {f"q-{plan.plan_id}" for plan in plans}
    rows: list[dict[str, Any]] = [
        order for order in house.paper.accepted() if order["client_id"].rpartition("-")[0] in ours
    ]
    wanted = {
        trade.trade_id: (trade.quantity, trade.price)
        for order in rows
        for trade in reader.trades_of_order(symbol=order["symbol"], order_id=order["order_id"])
    }
    found = {
        fill.trade_id: (fill.quantity, fill.price)
        for fill in Fill.objects.filter(client_order_id__in=[order["client_id"] for order in rows])
    }
    assert found == wanted
