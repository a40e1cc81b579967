"""Dead letters in a browser: from home to one letter and its end, dark and on a phone as well."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.urls import reverse

from quantum.redis import Client
from tests.browser.test_pages import HOSTILE, findings

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def parked(redis: Client) -> None:
    """What a stranger wrote into each field."""
    stream = settings.KEYS.plan_stream
    said = dict.fromkeys(("group", "error", "sample", "deliveries"), HOSTILE * 4)
    redis.xadd(settings.KEYS.dead_letters(stream), {**said, "entry": redis.xadd(stream, {"plan_id": "x"})})


@pytest.mark.parametrize(("theme", "width_px"), [("light", 1280), ("dark", 390)])
def test_somebody_finds_a_letter_and_puts_it_back(
    visit: Any, redis: Client, transactional_db: None, theme: str, width_px: int
) -> None:
    parked(redis)
    visitor = visit(theme=theme, width_px=width_px)
    page = visitor.open(reverse("admin:index"))
    page.click("text=Look at them")
    troubles = [*findings(page), *([page.url] if visitor.scrolls_sideways() else [])]
    page.click("#letters-table a.id")
    troubles += [*findings(page), *([page.url] if visitor.scrolls_sideways() else [])]
    page.fill("#id_end_reason", "the bot is mended")
    page.click("text=Put back")
    page.wait_for_selector("text=Put back as entry")
    assert "No dead letter" in page.inner_text("#content-main")
    assert page.title() != "owned"
    assert troubles + visitor.troubles == []
