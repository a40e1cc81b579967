"""Somebody on call finds the plan that closed nothing, understands why, and tries it again: on a phone, by its id."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse

from apply.models import Plan
from quantum import clock
from quantum.redis import Client
from tests.browser.test_pages import findings
from tests.flow.test_home import plans
from tests.flow.test_plan_page import waited

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_a_blocked_plan_is_found_understood_and_tried_again(
    redis: Client, transactional_db: None, visit: Any
) -> None:
    plans(60, state="blocked", error="hold")
    plan = waited(0xABC0_1234, stream_id=f"{clock.now_ms() - 1203}-0")
    visitor = visit(width_px=390)
    shown = visitor.open(reverse("admin:apply_plan_changelist") + "?reason=missing_p33")
    assert shown.locator("#plans-table tbody tr").count() == 1
    shown.keyboard.press("/")
    shown.keyboard.type(plan.plan_id[-6:])
    shown.keyboard.press("Enter")
    shown.wait_for_selector("#stopped-title")
    told = shown.inner_text(".stopped")
    for words in ("missing_p33", "1201 ms of 1200 ms", "not there", "Only the Governor answered in time"):
        assert words in told, words
    assert shown.locator(".axis .limit, .steps .limit").count() > 0, "the line of the wait"
    shown.click("[data-copy]")
    shown.wait_for_selector("[data-copy]:text-matches('Copied|Marked')")
    shown.click("text=Try this plan again >> nth=0")
    shown.fill("#id_retry_reason", "p33 runs again since noon")
    for px in (1200, 390):
        shown.set_viewport_size({"width": px, "height": 900})
        assert not visitor.scrolls_sideways()
    assert findings(shown) == []
    shown.click("#retry button")
    shown.wait_for_selector(".messagelist")
    child = Plan.objects.get(parent=plan.plan_id)
    assert child.plan_id in shown.inner_text("main")
    assert "Attempt 2" in shown.inner_text("main")
    assert visitor.troubles == []
