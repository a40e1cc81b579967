"""The predecessor executed exactly one exit and then denied every later plan (lesson 12)."""

from __future__ import annotations

from decimal import Decimal

import pytest

from positions.models import Balance, Incident, LedgerEntry
from quantum import clock
from quantum.exchange import connect
from quantum.plan import Action, ExitPlan
from tests.house import House, wait_for

SYMBOLS = {
    "BTCUSDT": "2.000",
    "ETHUSDT": "-10.000",
    "SOLUSDT": "200.00",
    "BNBUSDT": "-30.00",
    "XRPUSDT": "30000.0",
}
ACTIONS = (Action.PARTIAL_25, Action.PARTIAL_50, Action.PARTIAL_75, Action.FULL_CLOSE)


@pytest.mark.slow
def test_a_hundred_exits_in_a_row_over_five_symbols_without_a_human(house: House) -> None:
    """After every full close the user's own entry bot opens the position again, at the exchange. Every fifth exit is
    filled in part only; what is left goes with the next ones."""
    house.start()
    since_ms = clock.now_ms()
    plans: list[ExitPlan] = []
    for round_number in range(20):
        for symbol, amount in SYMBOLS.items():
            if round_number % len(ACTIONS) == 0:
                reopen(house, symbol, amount)
            action = ACTIONS[round_number % len(ACTIONS)]
            in_part = len(plans) % 5 == 0 and action is not Action.FULL_CLOSE
            if in_part:
                house.paper.push_scenario({"next": "order", "do": "partial", "percent": 50, "pieces": 2})
            plan = house.publish(house.make(symbol, action))
            row = house.ended(plan)
            wanted = "partially_filled" if in_part else "filled"
            assert row.state == wanted, f"exit {len(plans) + 1}, {symbol}: {row.error} {row.gate_reason}"
            plans.append(plan)
    accepted = [order for order in house.orders() if order["verdict"] == "accepted"]
    ours = {
        order["client_id"]
        for order in accepted
        if order["client_id"].split("-")[1] in {p.plan_id for p in plans}
    }
    assert len(ours) == len(plans) == 100
    assert set(Balance.objects.filter(symbol__in=SYMBOLS).values_list("amount", flat=True)) == {Decimal(0)}
    assert not Incident.objects.exists(), "a false incident"
    for symbol in SYMBOLS:
        told = {trade.trade_id for trade in connect.reader().trades_since(symbol=symbol, since_ms=since_ms)}
        booked = LedgerEntry.objects.filter(symbol=symbol, fill__at__gte=clock.from_ms(since_ms))
        assert set(booked.values_list("fill__trade_id", flat=True)) == told, "the exchange's own list"


def reopen(house: House, symbol: str, amount: str) -> None:
    house.paper.set_position(symbol=symbol, amount=amount, client_order_id=house.entry_id())
    wait_for(
        Balance.objects.filter(symbol=symbol, amount=Decimal(amount)).exists, what=f"the entry in {symbol}"
    )
