"""On call in a real browser at 390 px, without a script: read in the first screen, acted on with a thumb."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse

from permits.models import TradingState
from permits.state import holds, trading
from quantum.redis import Client
from tests.browser.test_pages import findings

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SCREEN_PX = 900
"""Of the visitor (conftest)."""
THUMB_PX = 44
PRESSED = "main a.button, main a.way, main button, main input:not([type=hidden])"


@pytest.fixture
def frozen(redis: Client, transactional_db: None) -> None:
    trading.change(state=TradingState.State.ACTIVE, by="omar", reason="all is well")
    holds.place(redis, symbol="ETHUSDT", by="p33", reason="drift of an hour")


def lowest(page: Any) -> float:
    return min(float(box["height"]) for each in page.locator(PRESSED).all() if (box := each.bounding_box()))


def test_somebody_halts_on_a_phone_without_a_script(frozen: None, visit: Any) -> None:
    visitor = visit(width_px=390, script=False)
    page = visitor.open(reverse("admin:apply_oncall"))
    verdict = page.locator("#verdict").bounding_box()
    why = page.locator("text=ETHUSDT is frozen").bounding_box()
    assert verdict is not None and why is not None
    assert verdict["y"] + verdict["height"] < SCREEN_PX
    halt = page.locator("text=Halt everything").bounding_box()
    assert halt is not None and halt["y"] + halt["height"] <= SCREEN_PX, "under the thumb"
    assert not visitor.scrolls_sideways()
    assert lowest(page) >= THUMB_PX
    page.click("text=Halt everything")
    assert "PAPER main" in page.inner_text("#before-after")
    assert lowest(page) >= THUMB_PX
    page.fill("#id_halt_reason", "short")
    page.click("main button")
    assert trading.current().active, "the browser itself asks for more"
    page.fill("#id_halt_reason", "strange prices on both books")
    page.click("main button")
    assert "HALTED for everything by walker" in page.inner_text(".messagelist")
    assert not trading.current().active
    first = page.locator(".troubles li").first
    assert "HALTED for everything" in first.inner_text()
    box = first.locator("text=Resume").bounding_box()
    assert box is not None and box["y"] + box["height"] < SCREEN_PX
    assert visitor.troubles == []


def test_it_follows_what_happens_and_an_act_is_accessible(frozen: None, visit: Any) -> None:
    visitor = visit(width_px=390, theme="dark")
    page = visitor.open(reverse("admin:apply_oncall"))
    assert lowest(page) >= THUMB_PX, "the bar of what lives too"
    trading.halt(cause="person", by="omar", reason="looks odd", scope=TradingState.Scope.EVERYTHING)
    page.wait_for_selector("text=looks odd", timeout=6000)
    page.click("text=Resume")
    page.wait_for_selector("#before-after")
    assert findings(page) == []
    assert visitor.troubles == []
