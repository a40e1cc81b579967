"""I10 for people, groups and passwords: no change without a reason, and each leaves who, why, before and after."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission, User
from django.core.cache import cache
from django.db import DatabaseError, connection
from django.test import Client as WebClient
from django.test import override_settings
from django.urls import reverse

from quantum import audit
from quantum.models import AuditEvent
from quantum.redis import Client
from tests.flow.test_admin import text_of
from tests.flow.test_groups import PASSWORD, rows
from tests.flow.test_second_factor import person

WHY = "she takes over the night shift"
NEW = "another long enough phrase"


@pytest.fixture(autouse=True)
def given(redis: Client, transactional_db: None) -> None:
    cache.clear()


@pytest.fixture
def root() -> WebClient:
    web = WebClient()
    web.force_login(get_user_model().objects.create_superuser("root", password=PASSWORD))
    return web


def form_of(user: User, **more: Any) -> dict[str, Any]:
    """As the page sends it, with what is ticked in `more`."""
    day, time = f"{user.date_joined:%Y-%m-%d}", f"{user.date_joined:%H:%M:%S}"
    said = {
        "username": user.username, "is_active": "on", "is_staff": "on", "groups": [], "reason": WHY,
        "date_joined_0": day, "date_joined_1": time,
        "initial-date_joined_0": day, "initial-date_joined_1": time, **more,
    }  # fmt: skip
    return {name: value for name, value in said.items() if value is not None}


def events() -> list[AuditEvent]:
    return list(AuditEvent.objects.exclude(kind="act_refused").order_by("id"))


def only() -> AuditEvent:
    [event] = events()
    return event


def of_person(page: str, *args: object) -> str:
    return reverse(f"admin:auth_user_{page}", args=args)


def of_group(page: str, *args: object) -> str:
    return reverse(f"admin:auth_group_{page}", args=args)


def mark_of(web: WebClient, address: str) -> str:
    [mark] = re.findall(r'name="mark" value="([^"]+)"', text_of(web.get(address)))
    return str(mark)


# ---- people


@pytest.mark.parametrize(
    ("said", "name", "before", "after"),
    [
        ({"is_superuser": "on"}, "superuser", False, True),
        ({"is_staff": None}, "staff", True, False),
        ({"is_active": None}, "active", True, False),
        ({"groups": "night"}, "groups", [], ["night"]),
        ({"user_permissions": "delete_user"}, "permissions", [], ["auth.delete_user"]),
    ],
)
def test_what_somebody_may_is_recorded_before_and_after(
    root: WebClient, said: dict[str, Any], name: str, before: Any, after: Any
) -> None:
    nina, night = person("nina"), Group.objects.create(name="night")
    numbers = {"night": night.pk, "delete_user": Permission.objects.get(codename="delete_user").pk}
    sent = {field: numbers.get(value, value) for field, value in said.items()}
    assert root.post(of_person("change", nina.pk), form_of(nina, **sent)).status_code == 302
    event = only()
    assert (event.kind, event.actor, event.reason) == ("person_changed", "root", WHY)
    assert event.data == {"person": "nina", "before": {name: before}, "after": {name: after}, "also": []}


def test_a_name_stays_because_it_stands_in_every_record_and_two_names_are_two_people(root: WebClient) -> None:
    nina = person("nina")
    root.post(of_person("change", nina.pk), form_of(nina, username="nora"))
    assert User.objects.get(pk=nina.pk).username == "nina" and events() == []
    assert 'name="username"' not in text_of(root.get(of_person("change", nina.pk)))
    assert 'name="username"' in text_of(root.get(of_person("add")))


def test_without_a_reason_nobody_becomes_a_superuser(root: WebClient) -> None:
    nina, before = person("nina"), rows()
    for reason in (None, "", "       ", "short"):
        answer = root.post(of_person("change", nina.pk), form_of(nina, is_superuser="on", reason=reason))
        assert answer.status_code == 200 and "errornote" in text_of(answer), reason
    assert (rows(), events()) == (before, [])


def test_what_is_saved_as_it_was_is_no_event_and_another_name_of_hers_is_told_by_its_field(
    root: WebClient,
) -> None:
    nina = person("nina")
    root.post(of_person("change", nina.pk), form_of(nina))
    assert events() == []
    root.post(of_person("change", nina.pk), form_of(nina, first_name="Nina"))
    assert only().data == {"person": "nina", "before": {}, "after": {}, "also": ["first_name"]}


def test_what_cannot_be_recorded_is_not_done(root: WebClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(**_: object) -> None:
        raise DatabaseError("no room for an event")

    nina, night = person("nina"), Group.objects.create(name="night")
    deleting = {"post": "yes", "mark": mark_of(root, of_person("delete", nina.pk)), "reason": WHY}
    password = {
        "password1": NEW,
        "password2": NEW,
        "usable_password": "true",
        "set-password": "1",
        "reason": WHY,
    }
    own = {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW, "reason": WHY}
    before = rows()
    monkeypatch.setattr(audit, "record", down)
    for address, sent in (
        (of_person("change", nina.pk), form_of(nina, is_superuser="on")),
        (of_person("add"), {"username": "omar", **password}),
        (of_person("password_change", nina.pk), password),
        (of_person("delete", nina.pk), deleting),
        (of_group("change", night.pk), {"name": "day", "reason": WHY}),
        (reverse("admin:password_change"), own),
    ):
        with pytest.raises(DatabaseError):
            root.post(address, sent)
        assert rows() == before, address


def test_who_is_added_is_an_event_and_nobody_is_added_without_a_reason(root: WebClient) -> None:
    said = {"username": "omar", "password1": NEW, "password2": NEW, "usable_password": "true"}
    assert root.post(of_person("add"), said).status_code == 200
    assert not User.objects.filter(username="omar").exists()
    root.post(of_person("add"), {**said, "reason": WHY})
    event = only()
    assert (event.kind, event.actor, event.reason) == ("person_added", "root", WHY)
    assert event.data["person"] == "omar"
    assert event.data["after"]["superuser"] is False
    assert NEW not in str(event.data)


# ---- passwords


def test_somebody_elses_password_is_set_with_a_reason_and_an_event_and_never_told(root: WebClient) -> None:
    nina = person("nina")
    address = of_person("password_change", nina.pk)
    said = {"password1": NEW, "password2": NEW, "usable_password": "true", "set-password": "1"}
    assert root.post(address, said).status_code == 200
    assert User.objects.get(pk=nina.pk).check_password(PASSWORD)
    root.post(address, {**said, "reason": WHY})
    assert User.objects.get(pk=nina.pk).check_password(NEW)
    event = only()
    assert (event.kind, event.actor, event.reason) == ("password_changed", "root", WHY)
    assert event.data == {"person": "nina", "logs_in_with_one": True}


def test_a_password_that_is_taken_away_is_an_event(root: WebClient) -> None:
    nina = person("nina")
    said = {"usable_password": "false", "unset-password": "1", "reason": WHY}
    root.post(of_person("password_change", nina.pk), said)
    assert not User.objects.get(pk=nina.pk).has_usable_password()
    assert only().data == {"person": "nina", "logs_in_with_one": False}


def test_ones_own_password_is_changed_with_a_reason_and_an_event() -> None:
    web, nina = WebClient(), person("nina")
    web.force_login(nina)
    said = {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW}
    address = reverse("admin:password_change")
    assert "reason" in text_of(web.get(address))
    for wrong in (said, {**said, "old_password": "a wrong one", "reason": WHY}):
        assert web.post(address, wrong).status_code == 200
        assert User.objects.get(pk=nina.pk).check_password(PASSWORD)
    assert web.post(address, {**said, "reason": WHY}).status_code == 302
    assert User.objects.get(pk=nina.pk).check_password(NEW)
    event = only()
    assert (event.kind, event.actor, event.reason) == ("password_changed", "nina", WHY)
    assert event.data == {"person": "nina", "logs_in_with_one": True}


@pytest.mark.parametrize("whose", ["own", "another's"])
def test_no_exit_waits_while_a_password_is_hashed(
    root: WebClient, whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes most of a second, and SQLite has one writer."""
    anna, inside = person("anna"), list[bool]()
    set_password = User.set_password

    def watched(user: User, raw: str | None) -> None:
        inside.append(connection.in_atomic_block)
        set_password(user, raw)

    monkeypatch.setattr(User, "set_password", watched)
    said = {"reason": WHY, "old_password": PASSWORD}
    if whose == "own":
        said |= {"new_password1": NEW, "new_password2": NEW}
        root.post(reverse("admin:password_change"), said)
    else:
        said |= {"password1": NEW, "password2": NEW, "usable_password": "true", "set-password": "1"}
        root.post(of_person("password_change", anna.pk), said)
    assert inside == [False]
    assert (only().kind, only().actor) == ("password_changed", "root")


@pytest.mark.parametrize("whose", ["own", "another's"])
def test_who_is_shut_out_while_a_password_is_hashed_stays_shut_out(
    root: WebClient, whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole row saved would bring back what it was when the page was asked for."""
    anna, set_password = person("anna"), User.set_password
    web = WebClient()
    web.force_login(anna)

    def meanwhile(user: User, raw: str | None) -> None:
        set_password(user, raw)
        User.objects.filter(pk=anna.pk).update(is_active=False, is_staff=False)

    monkeypatch.setattr(User, "set_password", meanwhile)
    said = {"reason": WHY, "old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW}
    if whose == "own":
        web.post(reverse("admin:password_change"), said)
    else:
        said = {
            "reason": WHY,
            "password1": NEW,
            "password2": NEW,
            "usable_password": "true",
            "set-password": "1",
        }
        root.post(of_person("password_change", anna.pk), said)
    found = User.objects.get(pk=anna.pk)
    assert (found.is_active, found.is_staff) == (False, False)
    assert found.check_password(NEW)


# ---- groups


def test_what_a_group_may_is_recorded_before_and_after(root: WebClient) -> None:
    night = Group.objects.create(name="night")
    halt = Permission.objects.get(codename="halt")
    said = {"name": "night", "permissions": [halt.pk]}
    assert root.post(of_group("change", night.pk), said).status_code == 200
    assert not night.permissions.exists()
    root.post(of_group("change", night.pk), {**said, "reason": WHY})
    event = only()
    assert (event.kind, event.actor, event.reason) == ("group_changed", "root", WHY)
    assert event.data["group"] == "night"
    assert event.data["before"] == {"permissions": []}
    assert event.data["after"] == {"permissions": ["permits.halt"]}


def test_a_group_that_is_added_is_an_event(root: WebClient) -> None:
    said = {"name": "night", "permissions": [Permission.objects.get(codename="halt").pk]}
    assert root.post(of_group("add"), said).status_code == 200
    assert not Group.objects.filter(name="night").exists()
    root.post(of_group("add"), {**said, "reason": WHY})
    event = only()
    assert (event.kind, event.actor, event.reason) == ("group_added", "root", WHY)
    assert event.data["after"] == {"name": "night", "permissions": ["permits.halt"]}


# ---- deleting


@pytest.mark.parametrize("what", ["person", "group"])
def test_who_is_deleted_is_told_as_he_was_and_nobody_is_without_a_reason(root: WebClient, what: str) -> None:
    row: Any = person("nina", "halt") if what == "person" else Group.objects.create(name="night")
    address = (of_person if what == "person" else of_group)("delete", row.pk)
    said = {"post": "yes", "mark": mark_of(root, address)}
    for wrong in (said, {**said, "mark": "made up", "reason": WHY}, {"post": "yes", "reason": WHY}):
        assert "Nothing was deleted" in text_of(root.post(address, wrong, follow=True))
        assert type(row).objects.filter(pk=row.pk).exists()
    root.post(address, {**said, "reason": WHY})
    assert not type(row).objects.filter(pk=row.pk).exists()
    event = only()
    assert (event.kind, event.actor, event.reason) == (f"{what}_deleted", "root", WHY)
    told = ["permits.halt"] if what == "person" else []
    assert event.data["before"]["permissions"] == told


def test_f18_who_was_changed_meanwhile_is_not_deleted(root: WebClient) -> None:
    nina = person("nina")
    address = of_person("delete", nina.pk)
    said = {"post": "yes", "mark": mark_of(root, address), "reason": WHY}
    nina.is_superuser = True
    nina.save()
    assert "not so any more" in text_of(root.post(address, said, follow=True))
    assert User.objects.filter(pk=nina.pk).exists()


@override_settings(APPLY_MODE="live")
def test_in_live_the_account_is_typed_to_delete_somebody(root: WebClient) -> None:
    nina = person("nina")
    address = of_person("delete", nina.pk)
    said = {"post": "yes", "mark": mark_of(root, address), "reason": WHY}
    for confirm in ({}, {"confirm": "another"}):
        root.post(address, {**said, **confirm})
        assert User.objects.filter(pk=nina.pk).exists()
    root.post(address, {**said, "confirm": settings.ACCOUNT})
    assert not User.objects.filter(pk=nina.pk).exists()


def test_nobody_but_a_superuser_deletes_one_and_who_may_only_look_is_asked_for_nothing() -> None:
    boss = get_user_model().objects.create_superuser("boss", password=PASSWORD)
    web = WebClient()
    web.force_login(person("nina", "view_user", "delete_user"))
    assert web.get(of_person("delete", boss.pk)).status_code == 403
    assert web.post(of_person("delete", boss.pk), {"post": "yes", "reason": WHY}).status_code == 403
    shown = text_of(web.get(of_person("change", boss.pk)))
    assert "boss" in shown and "reason" not in shown
