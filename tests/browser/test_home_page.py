"""Home in a real browser: it lives, says when it is old, obeys keys, and says everything without a script."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse

from permits.models import TradingState
from permits.state import trading
from quantum.redis import Client

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def active(redis: Client, transactional_db: None) -> None:
    trading.change(state=TradingState.State.ACTIVE, by="nina", reason="all is well")


def test_it_follows_what_happens_until_it_is_paused(active: None, visit: Any) -> None:
    visitor = visit()
    page = visitor.open(reverse("admin:index"))
    trading.change(state=TradingState.State.HALTED, by="nina", reason="strange prices")
    glass = page.locator(".verdict a[href*=breakglass]")
    glass.focus()
    page.wait_for_selector("text=strange prices", timeout=6000)
    assert glass.evaluate("each => each === document.activeElement"), (
        "a new look does not take the focus away"
    )
    assert page.inner_text(".live-bar .num").startswith("Updated")
    page.click(".live-bar button")
    assert page.inner_text(".live-bar .num").startswith("Paused")
    assert visitor.troubles == []


def test_what_is_old_says_so_and_is_not_green(active: None, visit: Any) -> None:
    visitor = visit()
    visitor.page.clock.install()
    page = visitor.open(reverse("admin:index"))
    chip = page.locator(".big .chip.good")
    fresh = chip.evaluate("each => getComputedStyle(each).color")
    notice = page.locator(".live-bar .notice")
    assert not notice.is_visible()
    page.route("**/home/part/", lambda route: route.abort())
    page.clock.run_for(6500)
    notice.wait_for(timeout=3000)
    assert "Do not decide by it" in notice.inner_text()
    assert chip.evaluate("each => getComputedStyle(each).color") != fresh
    page.unroute("**/home/part/")
    page.clock.run_for(3000)
    notice.wait_for(state="hidden", timeout=5000)
    assert [each for each in visitor.troubles if "home/part" not in each and "ERR_FAILED" not in each] == []


def test_keys_find_go_and_tell(active: None, visit: Any) -> None:
    visitor = visit()
    page = visitor.open(reverse("admin:index"))
    page.keyboard.press("?")
    assert page.locator("dialog#keys").is_visible()
    assert "Reconciliation" in page.inner_text("dialog#keys")
    page.keyboard.press("Escape")
    assert not page.locator("dialog#keys").is_visible()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "q"
    page.keyboard.type("g p?")
    assert page.input_value("[data-find]") == "g p?", "in a field they are letters"
    page.keyboard.press("Escape")
    for key, name in (("p", "apply_plan_changelist"), ("r", "positions_reconcile"), ("h", "index")):
        page.keyboard.press("g")
        with page.expect_navigation():
            page.keyboard.press(key)
        assert page.url == visitor.base + reverse(f"admin:{name}")
    assert visitor.troubles == []


def test_without_a_script_it_says_the_same(active: None, visit: Any) -> None:
    trading.change(state=TradingState.State.HALTED, by="nina", reason="strange prices")
    visitor = visit(width_px=390, script=False)
    page = visitor.open(reverse("admin:index"))
    for told in ("No exit can leave", "HALTED for everything", "strange prices", "Consumers", "Plans"):
        assert page.locator(f"text={told}").first.is_visible(), told
    assert page.locator(".live-bar").count() == 0
    assert page.locator("[data-keys-open]").is_hidden()


def test_the_first_tab_leads_past_the_bar(active: None, visit: Any) -> None:
    page = visit().open(reverse("admin:index"))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip-to-content-link"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content-start"
