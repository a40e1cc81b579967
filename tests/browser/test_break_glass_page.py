"""The break-glass page in a real browser: it fits, is accessible, and closes from a phone without a script of ours."""

from __future__ import annotations

from typing import Any

import pytest

from apply.models import BreakGlass
from permits.models import TradingState
from tests.browser.test_pages import findings
from tests.flow.test_halts_and_holds import halt, leave_to_operators, told
from tests.flow.test_reconcile import incident_of, trade_by_hand
from tests.glass_by_hand import asked, made, url
from tests.house import House

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def halted(house: House) -> House:
    leave_to_operators()
    house.start()
    halt(TradingState.Scope.AUTOMATIC)
    told(house)
    return house


def test_it_is_quiet_fits_and_is_accessible(halted: House, visit: Any) -> None:
    trade_by_hand(halted, "BTCUSDT", "0.750")
    incident_of()
    asked()
    troubles: list[str] = []
    for theme, width_px in (("light", 1200), ("dark", 390), ("light", 390), ("dark", 1200)):
        visitor = visit(theme=theme, width_px=width_px)
        for query in ("?symbol=BTCUSDT&action=PARTIAL_50&gate=governor", "?symbol=none"):
            shown = visitor.open(url() + query)
            if visitor.scrolls_sideways():
                visitor.troubles.append(f"{query}: scrolls sideways at {width_px} px")
            visitor.troubles.extend(findings(shown))
        troubles += visitor.troubles
    assert not troubles, "\n".join(sorted(set(troubles)))


def test_somebody_closes_on_a_phone_and_reads_the_outcome(halted: House, visit: Any) -> None:
    visitor = visit(width_px=390)
    shown = visitor.open(url())
    shown.select_option("#id_symbol", "BTCUSDT")
    shown.select_option("#id_action", "PARTIAL_50")
    shown.select_option("#id_gate", "governor")
    shown.click("text=Show what would happen")
    shown.wait_for_selector("#preview-title")
    assert "would deny, halted" in shown.inner_text("main")
    shown.fill("#id_break_confirm", "BTCUSDT")
    shown.fill("#id_break_reason", "short")
    shown.click("text=Sign, and close 0.5")
    assert not BreakGlass.objects.exists(), "the browser itself asks for more"
    shown.fill("#id_break_reason", "out before the news")
    shown.click("text=Sign, and close 0.5")
    shown.wait_for_selector(".messagelist")
    [plan] = made()
    assert f"Plan {plan.plan_id} of BTCUSDT: filled." in shown.inner_text(".messagelist")
    assert "break-glass" in shown.inner_text(".steps")
    assert visitor.troubles == []
