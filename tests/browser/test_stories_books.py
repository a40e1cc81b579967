"""Two stories of somebody on call, in a real browser: drift is understood and settled, an unknown order is decided."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.urls import reverse

from apply.models import Plan
from apply.proving import deciding
from permits.models import Hold
from positions.drift import sweep
from positions.models import Incident, LedgerEntry, SymbolLock
from quantum.models import AuditEvent
from quantum.plan import Action
from tests.browser.test_pages import findings
from tests.flow.test_reconcile import balance, incident_of, look_at_once, trade_by_hand
from tests.house import House, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.slow]
WHY = "my own trade in the app"


def test_blocked_by_drift_understood_adopted_and_the_next_exit_executes(
    house: House, visit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "GRACE_S", 60.0)  # it is an incident only after the exit was asked for
    house.start()
    trade_by_hand(house, "BTCUSDT", "3.000")
    plan = house.publish(house.make("BTCUSDT", Action.FULL_CLOSE))
    assert house.ended(plan).state == Plan.State.BLOCKED
    look_at_once(monkeypatch)
    incident = incident_of()

    visitor = visit(width_px=390)
    page = visitor.open(reverse("admin:apply_plan_change", args=[plan.plan_id]))
    told = page.inner_text(".stopped")
    assert "reconcile_required_qty_mismatch" in told
    for name, value in (("exchange amt", "3"), ("ledger amt", "1"), ("diff", "2"), ("tolerance", "0.03")):
        assert f"{name}\n{value}" in told, f"the page says which numbers: {name}"
    assert house.orders(plan) == []

    page = visitor.open(reverse("admin:positions_reconcile"))
    assert "drift" in page.inner_text("#symbols-table tbody tr:first-child")
    page = visitor.go("#symbols-table tbody tr:first-child a")
    assert "probably manual trade" in page.inner_text(f"#incident-{incident.pk}")
    assert "web-" in page.inner_text("#content-main"), "the fill that did it"
    page.fill("#id_adopt_reason", "short")
    page.click("text=Adopt 3")
    assert balance() == 1, "the browser itself asks for more"
    page = visitor.say("Adopt 3", adopt_reason=WHY)
    assert "the ledger says 3 now" in page.inner_text(".messagelist")
    assert "match" in page.inner_text("#sides-title")
    assert balance() == 3
    entry = LedgerEntry.objects.filter(symbol="BTCUSDT").latest("id")
    assert (entry.actor, entry.reason, entry.delta) == ("walker", WHY, Decimal(2))
    incident.refresh_from_db()
    assert incident.state != Incident.State.OPEN
    assert not Hold.objects.filter(symbol="BTCUSDT", lifted_at=None).exists()
    assert AuditEvent.objects.filter(kind="incident_resolved", symbol="BTCUSDT").exists()

    plan = house.publish(house.make("BTCUSDT", Action.FULL_CLOSE))
    assert house.ended(plan).state == Plan.State.FILLED
    [order] = house.orders(plan)
    assert order["verdict"] == "accepted", "in the exchange's own log"
    assert balance() == 0
    page = visitor.open(reverse("admin:positions_ledger") + "?symbol=BTCUSDT")
    assert WHY in page.inner_text("#entries-table")
    assert visitor.troubles == []


def test_an_unknown_order_is_found_understood_and_decided(
    house: House, visit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exchange took it, lost the answer, and cannot be asked; but its trades were told."""
    house.start()
    house.play("d07_cannot_even_be_asked")
    plan = house.publish(house.make("BTCUSDT", Action.PARTIAL_25))
    row = Plan.objects.filter(plan_id=plan.plan_id)
    wait_for(row.filter(state=Plan.State.UNKNOWN).exists, what="the unknown state")

    visitor = visit(theme="dark", width_px=390)
    wait_for(
        lambda: "cannot be asked" in visitor.open(reverse("admin:apply_orders")).inner_text("#flying-table"),
        what="the resolver's first question",
    )
    page = visitor.go("text=Evidence and decision")
    assert "Its end is not known" in page.inner_text("#content-main")
    assert "Decide after 30 s" in page.inner_text("#content-main"), "the resolver first"
    monkeypatch.setattr(deciding, "DOUBT_S_MIN", 0.0)
    page = visitor.go("text=Look again")
    assert "0.25" in page.inner_text("#trades-table"), "the trade that the exchange told of"
    assert "Nobody may say this now" in page.inner_text("section[aria-labelledby=not_at_exchange-title]")
    troubles = findings(page)
    page.set_viewport_size({"width": 1200, "height": 900})
    if visitor.scrolls_sideways():
        troubles.append("scrolls sideways at 1200 px")
    page.fill("#id_filled_reason", "short")
    page.click("button:has-text('It was filled')")
    assert SymbolLock.objects.exists(), "the browser itself asks for more"
    why = "the exchange's app shows it as filled"
    page = visitor.say("It was filled", filled_reason=why)
    assert "→ filled, by walker" in page.inner_text(".messagelist")

    assert row.get().state == Plan.State.FILLED
    assert not SymbolLock.objects.exists()
    assert balance() == Decimal("0.75"), "by the trade that was seen, and by no other"
    decided = AuditEvent.objects.get(kind="order_resolved", plan_id=plan.plan_id)
    assert (decided.actor, decided.reason) == ("walker", why)
    house.paper.clear_scenario()
    assert len(house.orders(plan)) == 1, "nothing was sent again"
    assert house.exit("BTCUSDT").state == Plan.State.FILLED, "the symbol is free"
    assert not visitor.troubles + troubles, "\n".join(visitor.troubles + troubles)
