"""Who is who, and who may do what, as it is recorded: each change of a person, a group or a password, before and
after (I10). Record inside the transaction of the change."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group, Permission, User
from django.db.models import QuerySet

from quantum import audit

Standing = dict[str, Any]


def is_same_person(one: str, other: str) -> bool:
    """One person has one spelling: Alice and alice are not two people. Names are kept cut to 60 letters."""
    return one.strip().casefold()[:60] == other.strip().casefold()[:60]


def standing(row: User | Group) -> Standing:
    """All of a row that gives or takes a right; read from the database, where a form has not come yet. The row stays
    locked: of two changes at the same moment each is recorded with the before that it really had."""
    if isinstance(row, Group):
        group = Group.objects.select_for_update().get(pk=row.pk)
        return {"name": group.name, "permissions": _names(group.permissions.all())}
    person = User.objects.select_for_update().get(pk=row.pk)
    return {
        "name": person.get_username(),
        "active": person.is_active,
        "staff": person.is_staff,
        "superuser": person.is_superuser,
        "groups": sorted(person.groups.values_list("name", flat=True)),
        "permissions": _names(person.user_permissions.all()),
    }


def _names(permissions: QuerySet[Permission]) -> list[str]:
    found = permissions.values_list("content_type__app_label", "codename")
    return sorted(f"{label}.{codename}" for label, codename in found)


def record_added(row: User | Group, *, by: str, reason: str) -> None:
    now = standing(row)
    _record(row, "added", by, reason, {_what(row): now["name"], "after": now})


def record_changed(row: User | Group, *, before: Standing, also: list[str], by: str, reason: str) -> None:
    """What is different now, and the names of other fields that were changed. Nothing at all is no event."""
    now = standing(row)
    told = [name for name in now if now[name] != before[name]]
    if told or also:
        data = {
            _what(row): before["name"],
            "before": {name: before[name] for name in told},
            "after": {name: now[name] for name in told},
            "also": sorted(also),
        }
        _record(row, "changed", by, reason, data)


def record_deleted(row: User | Group, *, by: str, reason: str) -> None:
    last = standing(row)
    _record(row, "deleted", by, reason, {_what(row): last["name"], "before": last})


def _what(row: User | Group) -> str:
    return "group" if isinstance(row, Group) else "person"


def _record(row: User | Group, done: str, by: str, reason: str, data: dict[str, Any]) -> None:
    audit.record(kind=f"{_what(row)}_{done}", actor=by[:80], reason=reason, data=data)


def record_password(person: User, *, by: str, reason: str) -> None:
    data = {"person": person.get_username(), "logs_in_with_one": person.has_usable_password()}
    audit.record(kind="password_changed", actor=by[:80], reason=reason, data=data)
