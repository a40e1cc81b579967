"""D16 to its end: an order that the exchange leaves open is cancelled by rule, and what it executed stays."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from apply.acting import cancels
from apply.models import Inquiry, Order, Plan
from apply.proving import inquiries
from positions.models import SymbolLock
from quantum.models import AuditEvent
from quantum.plan import ExitPlan
from tests.faults.ends import balance, ledger_agrees, told_once
from tests.house import House, wait_for


@pytest.fixture
def stuck(row: House, monkeypatch: pytest.MonkeyPatch, settings: Any) -> House:
    """Orders rest for good; the rule has little patience."""
    settings.ORDER_CANCEL_AFTER_SEC = Decimal("1.5")
    monkeypatch.setattr(cancels, "EVERY_S", 0.2)
    monkeypatch.setattr(inquiries, "CANCEL_AGAIN_S", 1)
    row.start()
    row.paper.push_scenario({"next": "order", "do": "rest", "after_ms": 0})
    return row


def kinds(plan: ExitPlan) -> list[str]:
    wanted = AuditEvent.objects.filter(plan_id=plan.plan_id, kind__startswith="cancel")
    return list(wanted.order_by("id").values_list("kind", flat=True))


def is_seen_open(plan: ExitPlan) -> None:
    found = Inquiry.objects.filter(plan_id=plan.plan_id, finding="open")
    wait_for(found.exists, what="the order to be found open")


def test_an_order_left_open_is_cancelled_by_rule_and_frees_its_symbol(stuck: House) -> None:
    plan = stuck.publish()
    is_seen_open(plan)
    assert SymbolLock.objects.filter(plan_id=plan.plan_id).exists()
    told_once(stuck, plan, state="rejected", error="cancelled")
    assert kinds(plan) == ["cancel_asked", "cancel_sent"]
    assert Order.objects.get(plan_id=plan.plan_id).status == "CANCELED"
    assert stuck.exit().state == "filled"
    ledger_agrees(stuck)


def test_what_was_executed_before_the_cancel_is_a_partial_fill(stuck: House) -> None:
    plan = stuck.publish()
    is_seen_open(plan)
    stuck.paper.fill(symbol="BTCUSDT", client_order_id=f"q-{plan.plan_id}-25", quantity="0.1")
    told_once(stuck, plan, state="partially_filled")
    assert balance("BTCUSDT") == Decimal("0.9")
    [result] = stuck.results(plan)
    assert (result["executed_qty"], result["safe_qty"]) == ("0.1", "0.25")
    assert "USDT" in result["commission"]
    ledger_agrees(stuck)


def test_a_cancel_whose_answer_is_lost_is_asked_for_again_and_does_no_harm(stuck: House) -> None:
    """Once it never arrived, once it was carried out and nobody heard so."""
    stuck.paper.push_scenario(
        {"next": "cancelOrder", "do": "cut_before_accept"}, {"next": "cancelOrder", "do": "accept_then_cut"}
    )
    plan = stuck.publish()
    told_once(stuck, plan, state="rejected", error="cancelled")
    assert kinds(plan) == ["cancel_asked", "cancel_sent"] * 2
    assert Inquiry.objects.get(plan_id=plan.plan_id).cancel_text.startswith("unknown")


def test_an_order_that_fills_while_it_is_being_cancelled_is_filled(stuck: House) -> None:
    """The cancel is refused (-2011): it comes too late, and the resolver books what happened."""
    stuck.paper.push_scenario({"next": "cancelOrder", "do": "refuse", "code": -2011, "times": 1000})
    plan = stuck.publish()
    wait_for(lambda: "cancel_sent" in kinds(plan), what="the cancel")
    assert Plan.objects.get(plan_id=plan.plan_id).state == "intended"
    stuck.paper.fill(symbol="BTCUSDT", client_order_id=f"q-{plan.plan_id}-25", quantity="0.25")
    told_once(stuck, plan, state="filled")
    ledger_agrees(stuck)
