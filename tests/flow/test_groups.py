"""Who may do what: every group against every address that the router knows, and what stands before every view."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.core.cache import cache
from django.db import connection
from django.test import Client as WebClient
from django.test import override_settings
from django.urls import URLResolver, get_resolver, reverse

from positions.pages.acts import ACTS
from quantum import groups, pages
from quantum.models import AuditEvent
from quantum.redis import Client
from tests.flow.test_admin import lived_in

PASSWORD = "a long enough phrase"
NAMED = {  # what stands in for the parts of an address
    "plan_id": "0000000000000001", "symbol": "BTCUSDT", "number": 1, "object_id": "1", "id": "1", "scope": "everything",
    "stream": "plan", "letter_id": "1-0", "app_label": "apply", "content_type_id": 1, "url": "x", "path": "x",
}  # fmt: skip
ACT_NEEDS = {  # acts that are older than pages.Page
    "permits_permit_revoke": "permits.revoke_permit",
    "permits_permit_grant": "permits.issue_permit",
    "apply_proposal_propose": "apply.propose",
    "apply_break_glass_act": "apply.break_glass",
    "apply_break_glass_approve": "apply.break_glass",
    "apply_break_glass_refuse": "apply.break_glass",
    "auth_user_add": "auth.add_user",
    "auth_user_change": "auth.change_user",
    "auth_user_delete": "auth.delete_user",
    "auth_user_password_change": "auth.change_user",
    "auth_group_add": "auth.add_group",
    "auth_group_change": "auth.change_group",
    "auth_group_delete": "auth.delete_group",
    **{f"positions_reconcile_act {act}": found.permission for act, found in ACTS.items()},
    **{page.name: page.needs[0] for page in pages.declared() if page.act and page.needs},
}
SENT = {"reason": "to see who may", "action": "delete_selected"}
OWN_BUSINESS = {
    "login", "logout", "password_change", "password_change_done",
    *(page.name for page in pages.declared() if page.act and not page.needs),
}  # fmt: skip
"""What everybody does about his own login."""
ONLY_LOOKS = {
    "index", "app_list", "jsi18n", "autocomplete", "view_on_site", "positions_reconcile",
    "positions_reconcile_symbol", "apply_break_glass", "auth_user_changelist",
    "auth_group_changelist",
}  # fmt: skip
"""Answer a POST like a GET, with 200 or a redirect: there is nothing in them that changes anything."""


def admin_addresses() -> Iterator[tuple[str, str]]:
    """(name, address) of everything below /admin/, from the router; an address that ends in an act once per act."""
    for found in get_resolver().url_patterns:
        if isinstance(found, URLResolver) and found.namespace == "admin":
            yield from _inside(found)


def _inside(resolver: URLResolver) -> Iterator[tuple[str, str]]:
    for found in resolver.url_patterns:
        if isinstance(found, URLResolver):
            yield from _inside(found)
        elif found.name:
            wanted = found.pattern.converters or dict.fromkeys(found.pattern.regex.groupindex)
            for act in ACTS if "act" in wanted else [""]:
                values = {name: act if name == "act" else NAMED[name] for name in wanted}
                yield f"{found.name} {act}".strip(), reverse(f"admin:{found.name}", kwargs=values)


def _only_looks(name: str) -> bool:
    return name in ONLY_LOOKS or name.endswith("_history")


ADDRESSES = sorted(set(admin_addresses()))


@pytest.fixture
def given(redis: Client, transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the migrations give; a flushed database has lost it."""
    for name in (
        "apply.{}.0005_groups",
        "apply.{}.0006_orders_room",
        "apply.{}.0007_alerts",
        "quantum.{}.0006_export",
    ):
        migration = importlib.import_module(name.format("migrations"))
        migration.forwards(apps, SimpleNamespace(connection=connection))
    cache.clear()


def name_in(group: str) -> str:
    return f"a-{group.replace(' ', '-')}"


def someone_of(group: str, *, strict: bool = False) -> WebClient:
    user = get_user_model().objects.create_user(name_in(group), password=PASSWORD, is_staff=True)
    user.groups.add(Group.objects.get(name=group))
    web = WebClient(enforce_csrf_checks=strict)
    web.force_login(user)
    return web


def rows() -> list[Any]:
    """Of everything that acts of people change; who was refused is recorded, and that is no change."""
    ours = [
        model
        for model in apps.get_models()
        if model._meta.app_label in ("permits", "positions", "apply", "auth", "quantum")
    ]
    return [list(model._default_manager.values()) for model in ours if model is not AuditEvent]


# ---- what a group may do


@pytest.mark.parametrize("group", groups.NAMES)
def test_a_group_can_post_to_what_it_was_given_and_to_nothing_else(given: None, group: str) -> None:
    lived_in(1)
    get_user_model().objects.create_user("first", password=PASSWORD)
    web = someone_of(group)
    user = get_user_model().objects.get(username=name_in(group))
    before = rows()
    for name, address in ADDRESSES:
        needed = ACT_NEEDS.get(name)
        if name in OWN_BUSINESS or (needed and user.has_perm(needed)):
            continue
        answer = web.post(address, SENT)
        refused = answer.status_code in (403, 404, 405) or answer.headers.get("Location") == "/admin/"
        looked = _only_looks(name) and answer.status_code in (200, 302)
        assert refused or looked, (
            f"{group} can post to {name}: name what it needs in ACT_NEEDS or in its Page"
        )
    assert rows() == before
    for name, address in ADDRESSES:
        if name in ACT_NEEDS and user.has_perm(ACT_NEEDS[name]):
            assert web.post(address, SENT).status_code in (200, 302, 404), f"{group} may not {name}"


@pytest.mark.parametrize(
    ("group", "may", "may_not"),
    [
        ("viewer", "apply.view_plan", "permits.halt"),
        ("operator", "permits.halt", "permits.resume"),
        ("risk officer", "permits.resume", "permits.issue_permit"),
        ("admin", "auth.change_user", "auth.change_group"),
    ],
)
def test_halting_is_easier_than_resuming(given: None, group: str, may: str, may_not: str) -> None:
    someone_of(group)
    user = get_user_model().objects.get()
    assert user.has_perm(may)
    assert not user.has_perm(may_not)


def test_every_permission_of_ours_is_in_some_groups_hands(given: None) -> None:
    """A new one is given by a migration (quantum.groups.give), or nobody but a superuser has it."""
    ours = Permission.objects.filter(content_type__app_label__in=["quantum", "permits", "positions", "apply"])
    facts = ("add_", "change_", "delete_")  # facts have no such act, whatever Django made
    homeless = [each.codename for each in ours if not each.group_set.exists()]
    assert [name for name in homeless if not name.startswith(facts)] == []


def test_what_a_person_took_from_a_group_is_not_given_back(given: None) -> None:
    viewer = Group.objects.get(name="viewer")
    viewer.permissions.clear()
    groups.give(apps, {"viewer": ["apply.view_plan"]}, using=connection.alias)
    assert [each.codename for each in viewer.permissions.all()] == ["view_plan"]


def test_the_bar_shows_each_group_the_pages_it_may_open(given: None) -> None:
    for group, glass in (("viewer", False), ("operator", True)):
        shown = someone_of(group).get(reverse("admin:index")).content.decode()
        assert ">Plans</a>" in shown
        assert (">Break glass</a>" in shown) is glass


def test_an_admin_makes_nobody_a_superuser_and_touches_none(given: None) -> None:
    root = get_user_model().objects.create_superuser("root", password=PASSWORD)
    web = someone_of("admin")
    me = get_user_model().objects.get(username="a-admin")
    web.post(reverse("admin:auth_user_change", args=[me.pk]), _form_of(me, is_superuser="on"))
    me.refresh_from_db()
    assert (me.first_name, me.is_superuser) == ("Renamed", False)
    answer = web.post(reverse("admin:auth_user_change", args=[root.pk]), _form_of(root))
    password = web.post(reverse("admin:auth_user_password_change", args=[root.pk]), {})
    assert (answer.status_code, password.status_code) == (403, 403)


def _form_of(user: Any, **more: str) -> dict[str, Any]:
    joined = user.date_joined
    return {
        "username": user.username, "first_name": "Renamed", "is_active": "on", "is_staff": "on",
        "date_joined_0": f"{joined:%Y-%m-%d}", "date_joined_1": f"{joined:%H:%M:%S}",
        "groups": [group.pk for group in user.groups.all()], "reason": "he has another name", **more,
    }  # fmt: skip


# ---- F5, F7: who is refused, and that it is known


def test_f5_no_act_is_done_without_the_forms_token(given: None) -> None:
    """By somebody whom nothing else would stop, so that it is the token that does."""
    lived_in(1)
    root = get_user_model().objects.create_superuser("root", password=PASSWORD)
    web = WebClient(enforce_csrf_checks=True)
    web.force_login(root)
    acts = [(name, address) for name, address in ADDRESSES if name in {*ACT_NEEDS, *OWN_BUSINESS}]
    assert {"login", "logout", "password_change", "quantum_second_factor_off"} <= {name for name, _ in acts}
    assert len(acts) > 35
    before = rows()
    for name, address in acts:
        answer = web.post(address, {"reason": "a form of another site"})
        assert (answer.status_code, "CSRF" in answer.content.decode()) == (403, True), name
    assert rows() == before
    assert web.get(reverse("admin:index")).status_code == 200, "still logged in"


def test_f7_a_viewers_post_is_403_and_an_event_names_who_and_where(given: None) -> None:
    address = reverse("admin:permits_permit_revoke", args=["0000000000000001"])
    answer = someone_of("viewer").post(address, {"gate": "both", "reason": "to see who may"})
    assert answer.status_code == 403
    assert "Your groups do not allow this" in answer.content.decode()
    event = AuditEvent.objects.get(kind="act_refused")
    assert (event.actor, event.data) == ("a-viewer", {"path": address})


def test_a_stranger_cannot_fill_the_audit_with_refusals(given: None) -> None:
    WebClient().post(reverse("admin:apply_break_glass_act"), {})
    WebClient(enforce_csrf_checks=True).post(reverse("admin:login"), {})
    assert not AuditEvent.objects.filter(kind="act_refused").exists()


# ---- read-only


@override_settings(WEB_READ_ONLY="on")
def test_read_only_refuses_every_act_of_everybody_and_shows_everything(given: None) -> None:
    lived_in(1)
    root = get_user_model().objects.create_superuser("root", password=PASSWORD)
    web = WebClient()
    web.post(reverse("admin:login"), {"username": "root", "password": PASSWORD})
    assert "READ-ONLY" in web.get(reverse("admin:index")).content.decode()
    before = rows()
    for name, address in ADDRESSES:
        if name not in ("login", "logout"):
            answer = web.post(address, {"reason": "to see whether it holds"})
            assert answer.status_code == 403, name
            assert "WEB_READ_ONLY" in answer.content.decode()
    assert web.post(reverse("api_propose"), "{}", content_type="application/json").status_code == 403
    assert rows() == before
    assert root.is_superuser


# ---- F11, F12, F16: sessions, passwords, headers


def test_f11_the_session_is_another_after_login_and_ends_with_the_password(given: None) -> None:
    user = get_user_model().objects.create_user("nina", password=PASSWORD, is_staff=True)
    web = WebClient()
    session = web.session
    session["planted"] = "by a stranger"
    session.save()
    planted = str(session.session_key)
    web.cookies[settings.SESSION_COOKIE_NAME] = planted
    answer = web.post(reverse("admin:login"), {"username": "nina", "password": PASSWORD})
    cookie = answer.cookies[settings.SESSION_COOKIE_NAME]
    assert cookie.value != planted
    assert (cookie["httponly"], cookie["samesite"], cookie["max-age"]) == (True, "Lax", 12 * 3600)
    user.set_password(PASSWORD + " and another")
    user.save()
    assert web.get(reverse("admin:index")).status_code == 302


def test_f12_who_guesses_is_locked_out_with_an_event_and_nobody_else_is(given: None) -> None:
    for name in ("nina", "omar"):
        get_user_model().objects.create_user(name, password=PASSWORD, is_staff=True)
    login, stranger = reverse("admin:login"), "192.0.2.7"
    wrong = {"username": "nina", "password": "a wrong one"}
    for _ in range(settings.AXES_FAILURE_LIMIT + 1):
        WebClient().post(login, wrong, REMOTE_ADDR=stranger)
    answer = WebClient().post(login, wrong, REMOTE_ADDR=stranger)
    assert answer.status_code == 429
    assert "Try later" in answer.content.decode()
    right = {"username": "nina", "password": PASSWORD}
    assert WebClient().post(login, right, REMOTE_ADDR=stranger).status_code == 429
    assert WebClient().post(login, right).status_code == 302, "her own address"
    assert WebClient().post(login, {**right, "username": "omar"}, REMOTE_ADDR=stranger).status_code == 302
    event = AuditEvent.objects.get(kind="login_locked")
    assert (event.actor, event.data) == ("nina", {"address": "192.0.2.7"})


def test_f16_headers_stand_on_every_answer_and_nobody_is_sent_elsewhere(given: None) -> None:
    web = someone_of("viewer")
    for answer in (
        WebClient().get(reverse("admin:login")),
        web.get(reverse("admin:index")),
        web.post(reverse("admin:apply_break_glass_act")),
        web.get("/admin/no/such/page/"),
    ):
        assert answer["X-Frame-Options"] == "DENY"
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert answer["Referrer-Policy"] == "same-origin"
        assert "camera=()" in answer["Permissions-Policy"]
        assert "'unsafe" not in answer["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in answer["Content-Security-Policy"]
    get_user_model().objects.create_user("nina", password=PASSWORD, is_staff=True)
    sent = {"username": "nina", "password": PASSWORD, "next": "//elsewhere.example/"}
    assert "elsewhere" not in WebClient().post(reverse("admin:login"), sent)["Location"]
    assert WebClient().get(reverse("admin:login"), HTTP_HOST="elsewhere.example").status_code == 400
