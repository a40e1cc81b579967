"""Times are UTC; a tap shows those of whoever looks, on every page from then on."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Browser
from pytest_django.live_server_helper import LiveServer

from permits.models import TradingState
from permits.state import trading
from quantum.models import AuditEvent
from quantum.redis import Client
from tests.browser.conftest import Visitor, _session
from tests.unguarded import unguarded

pytestmark = [pytest.mark.browser, pytest.mark.slow]

AT = dt.datetime(2026, 7, 1, 20, 15, 30, 123000, tzinfo=dt.UTC)
UTC = "2026-07-01 20:15:30.123 UTC"
THERE = "2026-07-02 01:45:30.123 UTC+05:30"
BUTTON = "[data-times]"


@pytest.fixture
def in_kolkata(
    chromium: Browser, live_server: LiveServer, redis: Client, transactional_db: None
) -> Iterator[Any]:
    trading.change(state=TradingState.State.ACTIVE, by="omar", reason="all is well")
    with unguarded():
        AuditEvent.objects.all().delete()
    AuditEvent.objects.create(kind="tested", actor="tests", at=AT)
    contexts = []

    def made(*, script: bool = True) -> Visitor:
        context = chromium.new_context(
            timezone_id="Asia/Kolkata", java_script_enabled=script, viewport={"width": 390, "height": 900}
        )
        context.add_cookies([{"name": "sessionid", "value": _session("viktor"), "url": live_server.url}])
        contexts.append(context)
        return Visitor(context, live_server.url)

    yield made
    for context in contexts:
        context.close()


def time_on(page: Any) -> str:
    return str(page.locator("#content time").first.inner_text())


def test_a_tap_shows_local_times_everywhere_until_the_next(in_kolkata: Any) -> None:
    visitor = in_kolkata()
    audit = reverse("admin:quantum_auditevent_changelist")
    page = visitor.open(audit)
    assert (time_on(page), page.inner_text(BUTTON)) == (UTC, "UTC")
    page.click(BUTTON)
    assert (time_on(page), page.inner_text(BUTTON)) == (THERE, "Local")
    assert page.locator("#content time").first.get_attribute("title") == UTC
    assert not visitor.scrolls_sideways()
    oncall = visitor.open(reverse("admin:apply_oncall"))
    assert oncall.inner_text(BUTTON) == "Local"
    oncall.evaluate(
        'part => part.innerHTML = \'<p id="new"><time datetime="2026-07-01T20:15:30.123+00:00">x</time></p>\'',
        oncall.query_selector("[data-live]"),
    )  # what a new look at a part that lives brings
    oncall.wait_for_function(f"document.querySelector('#new').innerText === '{THERE}'")
    oncall.click(BUTTON)
    assert time_on(visitor.open(audit)) == UTC
    assert visitor.troubles == []


def test_without_a_script_it_is_utc_and_says_so(in_kolkata: Any) -> None:
    page = in_kolkata(script=False).open(reverse("admin:quantum_auditevent_changelist"))
    assert time_on(page) == UTC
    assert not page.locator(BUTTON).is_visible()
