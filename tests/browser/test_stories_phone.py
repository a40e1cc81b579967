"""A night on call with a phone and no script: taken, released, halted, and out through the glass."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse

from apply.models import Plan
from permits.models import Hold
from permits.policy import policies
from permits.state import trading
from quantum.models import AuditEvent
from quantum.plan import Action
from tests.flow.test_reconcile import incident_of, look_at_once, trade_by_hand
from tests.glass_by_hand import made
from tests.house import House, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.slow]
OPERATORS = {"operator": {"gates": ["governor"], "max_quantity": {"ETHUSDT": "8"}}}


def test_on_call_at_390_px_without_a_script(
    house: House, visit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_at_once(monkeypatch)
    version, rules = policies.newest()
    policies.change(rules=rules | OPERATORS, by="nina", reason="break-glass", expected_version=version)
    house.start()
    trade_by_hand(house, "BTCUSDT", "3.000")
    incident = incident_of()
    hold = wait_for(Hold.objects.filter(symbol="BTCUSDT").first, what="its hold")
    phone = visit(width_px=390, script=False, theme="dark")
    night = reverse("admin:apply_oncall")

    phone.open(night)
    assert not phone.scrolls_sideways()
    phone.go("text=Take the incident")
    page = phone.say("Take incident", ack_reason="I look at it, nina sleeps")
    assert f"Incident {incident.pk} is taken by walker" in page.inner_text(".messagelist")
    incident.refresh_from_db()
    assert (incident.acked_by, incident.acked_reason) == ("walker", "I look at it, nina sleeps")

    phone.go("text=Lift the hold")
    page = phone.say("Lift hold", lift_reason="the trade was mine, by hand")
    assert f"Hold {hold.pk} of BTCUSDT is lifted" in page.inner_text(".messagelist")
    hold.refresh_from_db()
    assert (hold.lifted_by, hold.lifted_reason) == ("walker", "the trade was mine, by hand")
    blocked = house.exit("BTCUSDT")
    assert (blocked.state, blocked.gate_reason) == (Plan.State.BLOCKED, "reconcile_required_qty_mismatch")

    phone.go("text=Halt automatic plans")
    page = phone.say("Halt automatic plans", halt_reason="nothing more before it is clear")
    assert "HALTED for automatic plans by walker" in page.inner_text(".messagelist")
    assert not trading.current().active
    assert house.exit("SOLUSDT").state == Plan.State.BLOCKED

    page = phone.go(".acts >> text=Break glass")
    page.select_option("#id_symbol", "ETHUSDT")
    page.select_option("#id_action", Action.FULL_CLOSE.value)
    page.select_option("#id_gate", "governor")
    phone.go("text=Show what would happen")
    phone.say("Sign, and close", break_confirm="ETHUSDT", break_reason="out before the news")
    [row] = made()
    assert row.state == Plan.State.FILLED
    [order] = [each for each in house.orders() if each["client_id"].startswith(f"q-{row.plan_id}")]
    assert order["verdict"] == "accepted", "in the exchange's own log"
    for kind in ("incident_acked", "hold_lifted", "trading_halted", "break_glass_acted"):
        assert AuditEvent.objects.filter(kind=kind, actor="walker").count() == 1, kind
    assert phone.troubles == []
