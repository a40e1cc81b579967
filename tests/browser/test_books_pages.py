"""Two stories of somebody on call, in a real browser: drift is understood and settled, an unknown order is decided."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from django.urls import reverse

from apply.models import Inquiry, Order, Plan
from positions.models import Balance, SymbolLock
from quantum import clock
from quantum.plan import Action
from quantum.redis import Client
from tests import test_order_resolve
from tests.browser.test_pages import findings
from tests.flow.test_reconcile import balance, incident_of, look_at_once, trade_by_hand
from tests.house import House
from tests.orders_by_hand import intended

pytestmark = [pytest.mark.browser, pytest.mark.slow]
WHY = "my own trade in the app"


def test_blocked_by_drift_understood_adopted_and_the_next_exit_executes(
    house: House, visit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_at_once(monkeypatch)
    house.start()
    trade_by_hand(house, "BTCUSDT", "3.000")
    blocked = house.exit("BTCUSDT", Action.FULL_CLOSE)
    assert blocked.state == Plan.State.BLOCKED
    incident = incident_of()

    visitor = visit(width_px=390)
    page = visitor.open(reverse("admin:apply_plan_change", args=[blocked.plan_id]))
    assert "p33_denied" in page.inner_text("#content-main")
    page = visitor.open(reverse("admin:positions_reconcile"))
    assert "drift" in page.inner_text("#symbols-table tbody tr:first-child")
    page.click("#symbols-table tbody tr:first-child a")
    page.wait_for_url("**/BTCUSDT/")
    assert "probably manual trade" in page.inner_text(f"#incident-{incident.pk}")
    assert "web-" in page.inner_text("#content-main"), "the fill that did it"
    page.fill("#id_adopt_reason", WHY)
    page.click("text=Adopt 3")
    page.wait_for_selector(".messagelist")
    assert "the ledger says 3 now" in page.inner_text(".messagelist")
    assert "match" in page.inner_text("#sides-title")

    assert house.exit("BTCUSDT", Action.FULL_CLOSE).state == Plan.State.FILLED
    assert balance() == 0
    page = visitor.open(reverse("admin:positions_ledger") + "?symbol=BTCUSDT")
    assert WHY in page.inner_text("#entries-table")
    assert visitor.troubles == []


@pytest.fixture
def unknown(redis: Client, keys: None, transactional_db: None, settings: Any) -> Order:
    """An order that the resolver has asked for in vain for longer than half a minute."""
    Balance.objects.create(account="main", symbol="BTCUSDT", amount=Decimal(1), moved_ms=1, trades_from_ms=1)
    order = intended()
    Order.objects.update(intended_at=clock.now() - dt.timedelta(seconds=60))
    test_order_resolve.asked(order, Inquiry.Finding.FAILING)
    return order


def test_an_unknown_order_is_found_understood_and_decided(unknown: Order, visit: Any) -> None:
    visitor = visit(theme="dark", width_px=390)
    page = visitor.open(reverse("admin:apply_orders"))
    assert "cannot be asked" in page.inner_text("#flying-table")
    page.click("text=Evidence and decision")
    page.wait_for_url("**/orders/*/")
    troubles = visitor.troubles + findings(page)
    for width_px in (390, 1200):
        page.set_viewport_size({"width": width_px, "height": 900})
        if visitor.scrolls_sideways():
            troubles.append(f"scrolls sideways at {width_px} px")
    assert "Its end is not known" in page.inner_text("#content-main")
    page.fill("#id_not_at_exchange_reason", "short")
    page.click("button:has-text('It was never at the exchange')")
    assert SymbolLock.objects.exists(), "the browser itself asks for more"
    page.fill("#id_not_at_exchange_reason", "the exchange's app shows no such order")
    page.click("button:has-text('It was never at the exchange')")
    page.wait_for_selector(".messagelist")
    assert "→ not at exchange" in page.inner_text(".messagelist")
    assert Plan.objects.get().state == Plan.State.NOT_AT_EXCHANGE
    assert not troubles, "\n".join(troubles)
