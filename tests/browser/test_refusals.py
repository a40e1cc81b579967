"""Pages that nobody asks for: the login, a wrong password, a lock, and each refusal. They are seen in a browser too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.urls import reverse

from tests.browser.test_pages import findings

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def refusals(visit: Any, theme: str, width_px: int) -> Iterator[tuple[str, int, Any]]:
    """(what it is, what it should answer, the visitor who stands before it)"""
    stranger = visit(theme=theme, width_px=width_px, logged_in=False)
    yield "login", 200, at(stranger, reverse("admin:login"))
    for _ in range(settings.AXES_FAILURE_LIMIT - 1):
        wrong_password(stranger)
    yield "wrong password", 200, (stranger, 200)
    yield "locked", 429, (stranger, wrong_password(stranger))
    vera = visit(theme=theme, width_px=width_px, who="vera")
    yield "not allowed", 403, at(vera, reverse("admin:apply_break_glass"))
    yield "no such page", 404, at(vera, "/admin/no/such/page/")
    yield "no such plan", 404, at(vera, "/nothing/here")
    yield "no text", 400, at(vera, "/admin/apply/plan/?q=%00")


def at(visitor: Any, path: str) -> tuple[Any, int]:
    answer = visitor.page.goto(visitor.base + path, wait_until="load")
    return visitor, answer.status


def wrong_password(visitor: Any) -> int:
    page = visitor.page
    page.fill("#id_username", "nina")
    page.fill("#id_password", "a wrong one")
    with page.expect_navigation() as answered:
        page.click("input[type=submit]")
    return int(answered.value.status)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width_px", [1280, 390])
def test_login_and_refusals_are_accessible_and_fit(
    visit: Any, redis: Any, transactional_db: None, theme: str, width_px: int
) -> None:
    cache.clear()
    get_user_model().objects.create_user("nina", password="a long enough phrase", is_staff=True)
    get_user_model().objects.create_user("vera", is_staff=True)
    troubles = []
    for name, wanted, (visitor, status) in refusals(visit, theme, width_px):
        assert status == wanted, name
        assert "PAPER" in visitor.page.title(), f"{name}: a page of ours"
        troubles += [f"{name}: {each}" for each in findings(visitor.page)]
        if visitor.scrolls_sideways():
            troubles.append(f"{name}: scrolls sideways at {width_px} px")
    assert not troubles, "\n".join(troubles)
