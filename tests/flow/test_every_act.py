"""Every act that the router knows, by address: with all rights but one, on rows that are not there, and by somebody who
saw no page. The list of acts is never typed here."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.cache import cache
from django.test import Client as WebClient

from quantum import pages
from quantum.models import AuditEvent
from quantum.redis import Client
from tests.flow.test_admin import lived_in, someone
from tests.flow.test_groups import ACT_NEEDS, ADDRESSES, OWN_BUSINESS, rows

DECLARED = {page.name: page for page in pages.declared()}
ACTS = [(name, address) for name, address in ADDRESSES if name in ACT_NEEDS]
SAID = {
    "reason": "to see what it does", "gate": "both", "verdict": "deny", "answer": "yes", "fate": "filled",
    "symbol": "BTCUSDT", "action": "FULL_CLOSE", "kill_score": "0.5", "confirm": "main", "amount": "1",
    "incident": "1", "request": "1", "sure": "on", "ends": "900",
}  # fmt: skip
"""All that any act's form asks for, but what its page showed: the mark, or what it is told apart by."""


@pytest.fixture(autouse=True)
def given(redis: Client, transactional_db: None) -> None:
    cache.clear()


def needed(name: str) -> tuple[str, ...]:
    page = DECLARED.get(name)
    return page.needs if page is not None and page.act else (ACT_NEEDS[name],)


def everything_but(permission: str, user: User) -> None:
    label, _, codename = permission.partition(".")
    taken = {"content_type__app_label": label, "codename": codename}
    user.user_permissions.set(Permission.objects.exclude(**taken))


def test_every_act_of_the_router_is_known_by_what_it_needs() -> None:
    """Django's own acts on rows that nobody may change are refused for everybody; each other one is in the list."""
    acts = {page.name for page in pages.declared() if page.act}
    assert acts <= {name.split()[0] for name, _ in ACTS} | OWN_BUSINESS
    assert len(ACTS) > 20


def test_f7_whoever_lacks_one_of_the_rights_that_an_act_needs_is_refused_it() -> None:
    lived_in(1)
    web, refused = someone("nina"), 0
    user = User.objects.get(username="nina")
    if not User.objects.filter(pk=1).exists():  # whom the addresses name
        User.objects.create_user("omar", pk=1)
    if not Group.objects.filter(pk=1).exists():
        Group.objects.create(pk=1, name="night")
    wanted = sorted({each for name, _ in ACTS for each in needed(name)})
    for permission in wanted:
        everything_but(permission, user)
        before = rows()
        for name, address in ACTS:
            if permission in needed(name):
                answer = web.post(address, SAID)
                assert answer.status_code == 403, f"{name} without {permission}"
                refused += 1
        assert rows() == before, permission
    assert AuditEvent.objects.filter(kind="act_refused").count() == refused >= len(ACTS)


def test_f8_an_act_on_what_is_not_there_changes_nothing_and_is_no_error() -> None:
    web = someone("root", superuser=True)
    before = rows()
    for name, address in ACTS:
        for answer in (web.get(address), web.post(address, SAID)):
            assert answer.status_code in (200, 302, 403, 404, 405), name
    assert rows() == before


def test_f18_no_act_is_done_by_somebody_who_saw_no_page() -> None:
    lived_in(1)
    web = someone("root", superuser=True)
    before = rows()
    for name, address in ACTS:
        for mark in ({}, {"mark": "made up", "seen": "made up", "once": "", "newest": "made up"}):
            sent: dict[str, Any] = {**SAID, **mark}
            assert web.post(address, sent).status_code < 500, name
    assert rows() == before


def test_a_stranger_is_sent_to_the_login_by_every_address() -> None:
    lived_in(1)
    web, before = WebClient(), rows()
    for name, address in ADDRESSES:
        if name not in ("login", "logout", "jsi18n"):
            for answer in (web.get(address), web.post(address, SAID)):
                assert answer.status_code == 302 and "/login/" in answer["Location"], name
    assert rows() == before
