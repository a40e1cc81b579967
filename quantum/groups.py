"""Groups of people: what each may do is given by migrations, and from then on is a person's to change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.apps import apps as installed
from django.contrib.auth.management import create_permissions

VIEWER, OPERATOR, RISK_OFFICER, ADMIN = NAMES = ("viewer", "operator", "risk officer", "admin")


def give(apps: Any, table: Mapping[str, Iterable[str]], *, using: str) -> None:
    """For a migration: `table` is group -> permissions (app.codename). What is given already stays, and what a person
    took away is given again only by a migration that names it.

    Django makes permissions after the last migration; those that are named here are made now.
    """
    names = {name for given in table.values() for name in given}
    for label in sorted({name.partition(".")[0] for name in names}):
        create_permissions(installed.get_app_config(label), apps=apps, using=using, verbosity=0)
    permissions = apps.get_model("auth", "Permission").objects.using(using).select_related("content_type")
    known = {f"{each.content_type.app_label}.{each.codename}": each for each in permissions}
    groups = apps.get_model("auth", "Group").objects.using(using)
    for name, given in table.items():
        group, _ = groups.get_or_create(name=name)
        group.permissions.add(*(known[each] for each in given))
