"""Setting up a second factor on a phone, without a script: read, copied, turned on, and logged in with."""

from __future__ import annotations

import re
from base64 import b32decode
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.urls import reverse

from quantum import clock, second_factor
from quantum.models import SecondFactor
from tests.browser.test_pages import findings

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PASSWORD = "a long enough phrase"


def log_in(page: Any, token: str = "") -> None:
    page.fill("#id_username", "nina")
    page.fill("#id_password", PASSWORD)
    page.fill("#id_token", token)
    page.click("input[type=submit]")


def code_of(secret: bytes) -> str:
    SecondFactor.objects.update(last_step=0)
    return second_factor.code_at(secret, int(clock.now_s()) // second_factor.STEP_S)


@pytest.mark.parametrize(("theme", "script"), [("light", False), ("dark", True)])
def test_somebody_sets_it_up_at_390_px_with_and_without_a_script(
    visit: Any, redis: Any, transactional_db: None, theme: str, script: bool
) -> None:
    get_user_model().objects.create_superuser("nina", password=PASSWORD)
    visitor = visit(width_px=390, theme=theme, logged_in=False, script=script)
    page = visitor.open("/admin/")
    log_in(page)
    page = visitor.open(reverse("admin:quantum_second_factor"))
    page.fill("#id_password", PASSWORD)
    page.click("main button.button")
    assert page.locator(".qr svg").bounding_box()["width"] > 150
    assert not page.locator("main details").count()
    text = page.locator("dd.id").first.inner_text()
    assert re.fullmatch(r"([A-Z2-7]{4} ?){8}", text)
    secret = b32decode(text.replace(" ", ""))
    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not page.evaluate(wide)
    assert not script or findings(page) == []
    page.fill("#id_token", code_of(secret))
    page.click("main button.button")
    assert page.locator(".recovery li").count() == 8
    assert not page.evaluate(wide)
    page.context.clear_cookies()
    page = visitor.open("/admin/")
    log_in(page)
    assert "did not let you in" in page.inner_text("main")
    log_in(page, code_of(secret))
    page.wait_for_url("**/admin/")
    assert page.inner_text(".who") == "nina"
    assert visitor.troubles == []
