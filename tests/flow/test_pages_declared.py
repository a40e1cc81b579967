"""What a page declares of itself is enforced before its view runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.urls import reverse

from quantum import pages
from quantum.pages import Page
from quantum.redis import Client
from tests.flow.test_admin import someone, text_of


@pytest.fixture
def seen() -> Iterator[list[str]]:
    """Names of the pages whose view ran, of two that are declared for this test only."""
    ran: list[str] = []

    def view(request: HttpRequest, *, context: dict[str, Any]) -> HttpResponse:
        ran.append(request.path)
        return HttpResponse("done" if "title" not in context else "no title")

    needs = ("permits.halt", "permits.view_hold")
    mine = [
        Page(name="tried_look", path="tried/", view=view, needs=needs),
        Page(name="tried_act", path="tried/act/", view=view, needs=needs, act=True),
    ]
    pages.register(lambda: mine)
    yield ran
    pages._sources.pop()
    pages.declared.cache_clear()


def ask(name: str, method: str, *permissions: str) -> int:
    request = RequestFactory().generic(method, f"/{name}/")
    held = set(permissions)
    request.user = cast(
        "Any",
        SimpleNamespace(
            is_active=True, is_staff=True, is_authenticated=True, has_perms=lambda needs: held >= set(needs),
            has_module_perms=lambda _: False,
        ),
    )  # fmt: skip
    setattr(request, "_dont_enforce_csrf_checks", True)  # noqa: B010  what Django's own test client sets
    [view] = [each.callback for each in pages.patterns(admin.site) if each.name == name]
    try:
        return int(view(request).status_code)
    except PermissionDenied:
        return 403


def test_what_a_page_says_of_itself_holds_before_its_view(redis: Client, db: None, seen: list[str]) -> None:
    both = ("permits.halt", "permits.view_hold")
    assert ask("tried_look", "GET", *both) == ask("tried_act", "POST", *both) == 200
    del seen[:]
    assert ask("tried_look", "POST", *both) == ask("tried_act", "GET", *both) == 405
    assert ask("tried_act", "HEAD", *both) == 405
    for name, method in (("tried_look", "GET"), ("tried_act", "POST")):
        assert ask(name, method, "permits.halt") == ask(name, method) == 403
    assert seen == []


def test_two_pages_cannot_have_one_name_or_one_key(seen: list[str]) -> None:
    for more in (Page(name="tried_look"), Page(name="other", key="p")):
        pages.register(lambda more=more: [more])  # type: ignore[misc]
        with pytest.raises(ValueError, match="two pages have the same"):
            pages.declared()
        pages._sources.pop()


def test_the_bar_marks_the_page_one_is_in_and_home_only_at_home(
    redis: Client, transactional_db: None
) -> None:
    web = someone("root", superuser=True)
    for address, marked in (
        (reverse("admin:index"), ["Home"]),
        (reverse("admin:positions_reconcile"), ["Reconciliation"]),
        (reverse("admin:auth_user_changelist"), []),
    ):
        assert re.findall(r'aria-current="page">([^<]+)</a>', text_of(web.get(address))) == marked
    assert get_user_model().objects.count() == 1
