"""The mode dry_run: both gates answer, apply verifies, and nothing is spent or sent."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, cast

import pytest
from django.conf import settings

from apply.acting import orders
from apply.models import Order
from permits.desk import straight
from permits.models import Permit
from permits.state import trading
from positions.books import ledger
from positions.models import Balance
from quantum.exchange import connect
from quantum.plan import Action
from tests.house import House, wait_for
from tests.orders_by_hand import intended, pair_for, recorded
from tests.permits_by_hand import GOVERNOR, P33, lay, lay_both, permit


@pytest.fixture
def dry_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "APPLY_MODE", "dry_run")


def adopt() -> None:
    """What a person does with `reconcile --adopt`: only paper mode takes the exchange's word by itself."""
    read = connect.reader().positions()
    symbols = settings.APPLY_ALLOWLIST
    ledger.adopt(
        read, symbols=symbols, seen_ms=read.asked_ms, actor="tests", reason="a dry run of a new account"
    )


def test_a_whole_house_in_dry_run_says_what_it_would_do_and_sends_nothing(
    dry_run: None, house: House
) -> None:
    adopt()
    house.start()
    sent = len(house.paper.log())
    plans = [house.publish(house.make(symbol, Action.PARTIAL_50)) for symbol in house.POSITIONS]
    for plan in plans:
        row = house.ended(plan)
        assert (row.state, row.error) == ("skipped", "dry_run")
        [result] = house.results(plan)
        assert (result["executed"], result["would_execute"]) == ("False", "True")
        assert Decimal(result["safe_qty"]) == abs(Decimal(house.POSITIONS[plan.symbol])) / 2
        keys = settings.KEYS.governor_permit(plan.plan_id), settings.KEYS.p33_permit(plan.plan_id)
        assert house.redis.exists(*keys) == 2, "a permit was spent"
        for gate, key in zip(("governor", "p33"), keys, strict=True):
            assert straight.texts_of(house.redis.get(key), gate), (
                f"what {gate} writes is not read in one step"
            )
        assert not house.redis.exists(settings.KEYS.receipt(plan.plan_id))
        held = house.redis.hexists(settings.KEYS.reserved("governor"), plan.plan_id)
        assert not held, "a plan that ended holds no limit"
        told = Permit.objects.filter(plan_id=plan.plan_id)
        wait_for(told.filter(gate="governor").exists, what="the Governor's row")
        wait_for(told.filter(gate="p33").exists, what="the Brain's row")
    assert {permit.fate for permit in Permit.objects.all()} == {"live"}
    assert len(house.paper.log()) == sent
    assert not Order.objects.exists()
    assert Balance.objects.get(symbol="BTCUSDT").amount == 1


def test_a_gate_that_says_no_says_it_in_dry_run_too(dry_run: None, house: House) -> None:
    adopt()
    house.start()
    house.paper.set_position(symbol="SOLUSDT", amount="0", client_order_id=House.entry_id())
    wait_for(Balance.objects.filter(symbol="SOLUSDT", amount=0).exists, what="SOL to be flat")
    plan = house.publish(house.make("SOLUSDT"))
    row = house.ended(plan)
    assert (row.state, row.error, row.gate_reason) == ("blocked", "permit_denied:p33_denied", "no_position")
    [result] = house.results(plan)
    assert (result["would_execute"], result["safe_qty"]) == ("False", "")


def test_apply_verifies_in_dry_run_as_the_consume_would(dry_run: None, house: House) -> None:
    house.start("apply")
    wrongs: dict[str, dict[str, Any]] = {
        "expired_permit": {"age_s": 20, "life_s": 19},
        "mode_mismatch": {"mode": "paper"},
        "bad_signature": {"signer": GOVERNOR},
        "digest_mismatch": {"digest": "0" * 64},
    }
    for reason, bent in wrongs.items():
        plan = house.publish()
        lay(house.redis, plan, governor=permit(plan, GOVERNOR), p33=permit(plan, P33, **bent))
        row = house.ended(plan)
        assert (row.state, row.error, row.would_quantity) == ("blocked", reason, None)
    trading.halt(cause="person", by="nina", reason="pulled the cord")
    trading.arm(house.redis, actor="nina")
    plan = house.publish()
    lay_both(house.redis, plan)
    assert house.ended(plan).error == "halted"


@pytest.mark.usefixtures("db", "keys")
def test_no_order_and_no_cancel_leaves_in_dry_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last wall, whatever else was got past."""
    plan = recorded()
    order, pair = intended(plan), pair_for(plan)
    monkeypatch.setattr(settings, "APPLY_MODE", "dry_run")
    with pytest.raises(orders.OutOfBounds):
        orders.send(cast("Any", None), pair, order)
    with pytest.raises(orders.OutOfBounds):
        orders.cancel(cast("Any", None), order)
