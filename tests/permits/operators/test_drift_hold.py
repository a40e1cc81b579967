"""A hold for drift is there because the ledger is wrong: the operator's way past it must not end at the ledger."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.conf import settings
from msgspec.structs import replace

from apply.acting import intent
from apply.acting.sizing import Size
from apply.models import Order
from permits.desk import payloads
from permits.models import Hold
from positions.models import Balance
from quantum import clock
from quantum.exchange.types import Side
from quantum.plan import Action
from tests.house import House
from tests.orders_by_hand import activate, pair_for, recorded
from tests.permits.operators.conftest import signed
from tests.permits_by_hand import GOVERNOR, P33, permit

pytestmark = pytest.mark.usefixtures("db", "keys")


def intended(*, ledger: str, exited_s_ago: int | None = None, hold: bool = True, brain: bool = False) -> str:
    """Of an operator's pair for 0.25 of a position that the exchange says is 1; "" when an order was made."""
    activate()
    exit_ms = None if exited_s_ago is None else clock.now_ms() - exited_s_ago * 1000
    Balance.objects.create(
        account=settings.ACCOUNT,
        symbol="BTCUSDT",
        amount=Decimal(ledger),
        moved_ms=0,
        trades_from_ms=0,
        exit_ms=exit_ms,
    )
    named = {"hold_id": Hold.objects.create(symbol="BTCUSDT", reason="drift", by="p33").pk} if hold else {}
    plan = recorded(House.make("BTCUSDT", Action.FULL_CLOSE))
    governor = payloads.read(signed(plan, GOVERNOR, **named), gate=GOVERNOR, all_fields=True)
    raw = permit(plan, P33) if brain else signed(plan, P33, **named)
    p33 = payloads.read(raw, gate=P33, all_fields=True)
    pair = replace(
        pair_for(plan), governor=replace(governor, by_operator=True), p33=replace(p33, by_operator=not brain)
    )
    size = Size(side=Side.SELL, quantity=Decimal("0.25"))
    made = intent.make(pair, size, stream_id="1-1", timestamp_ms=clock.now_ms())
    return "" if isinstance(made, Order) else made


@pytest.mark.parametrize("ledger", ["0.1", "0", "-1", "2"])
def test_an_operator_who_signed_past_the_hold_closes_what_the_exchange_says(ledger: str) -> None:
    assert intended(ledger=ledger) == ""


@pytest.mark.parametrize("seconds", [0, 8])
def test_an_exit_that_his_snapshot_may_not_have_seen_refuses_him(seconds: int) -> None:
    assert intended(ledger="0.1", exited_s_ago=seconds) == "position_changed"


def test_an_exit_of_before_his_snapshot_does_not() -> None:
    assert intended(ledger="0.1", exited_s_ago=60) == ""


def test_without_a_hold_the_ledger_counts_for_him_too() -> None:
    assert intended(ledger="0.1", hold=False) == "position_changed"


def test_the_brains_size_is_held_against_the_ledger_whoever_signed_for_the_governor() -> None:
    assert intended(ledger="0.1", brain=True) == "position_changed"
