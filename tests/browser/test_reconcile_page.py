"""The reconciliation pages in a real browser: they fit and are accessible. The story: test_stories_books."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse

from tests.browser.test_pages import findings
from tests.flow.test_reconcile import incident_of, trade_by_hand
from tests.house import House

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def drifting(house: House) -> House:
    house.start("p33")
    trade_by_hand(house, "BTCUSDT", "3.000")
    incident_of()
    return house


def page(symbol: str = "BTCUSDT") -> str:
    return reverse("admin:positions_reconcile_symbol", args=[symbol])


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width_px", [1200, 390])
def test_they_are_quiet_fit_and_are_accessible(
    drifting: House, visit: Any, theme: str, width_px: int
) -> None:
    visitor = visit(theme=theme, width_px=width_px)
    troubles = visitor.troubles
    for path in (reverse("admin:positions_reconcile"), page() + "?read=again", page("ETHUSDT")):
        shown = visitor.open(path)
        if visitor.scrolls_sideways():
            troubles.append(f"{path}: scrolls sideways at {width_px} px")
        troubles += findings(shown)
    shown = visitor.open(page() + "?read=again")
    shown.fill("#id_write_amount", "2.5")
    shown.fill("#id_write_reason", "looked at it twice")
    shown.click("text=Preview")
    shown.wait_for_selector("#preview-title")
    if visitor.scrolls_sideways():
        troubles.append(f"the preview scrolls sideways at {width_px} px")
    troubles += findings(shown)
    assert not troubles, "\n".join(sorted(set(troubles)))
