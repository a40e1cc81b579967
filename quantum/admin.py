"""The kernel's facts, and which pages of the libraries stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import axes.admin  # noqa: F401  these two register their pages when they are imported;
import django_q.admin  # noqa: F401  imported here first, they can be taken away below
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django_q.models import Failure, OrmQ, Schedule, Success

from quantum import second_factor
from quantum.facts import ReadOnlyAdmin
from quantum.models import AuditEvent, Instance
from quantum.people_admin import Recorded
from quantum.people_forms import AnothersPasswordForm, GroupForm, NewPersonForm, PersonForm

# Schedule: whoever may add one names any function, and a worker runs it - a worker that may hold a
#   signing or a trading key. No page may do that.
# Success: never saved (save_limit -1). OrmQ: the queue is in Redis. Axes: its counts are in the
#   cache, not in these tables. Pages that are always empty would only mislead.
for _model in (Schedule, Success, Failure, OrmQ, AccessAttempt, AccessFailureLog, AccessLog):
    if admin.site.is_registered(_model):
        admin.site.unregister(_model)


if TYPE_CHECKING:
    _UserAdmin = UserAdmin[User]
else:
    _UserAdmin = UserAdmin

admin.site.unregister([User, Group])
# The one act on many rows that Django brings along asks for no reason, and reaches rows that nobody saw.
admin.site.disable_action("delete_selected")


@admin.register(User)
class PeopleAdmin(Recorded, _UserAdmin):
    """Whoever may change people puts them into groups; he makes nobody a superuser, himself included, and does
    not touch one."""

    form = PersonForm
    add_form = NewPersonForm
    change_password_form = AnothersPasswordForm
    change_user_password_template = "quantum/anothers_password.html"  # noqa: S105  the name of a file
    readonly_fields = ("code_at_login",)
    fieldsets = (*(UserAdmin.fieldsets or ()), ("Second factor", {"fields": ("code_at_login",)}))

    @admin.display(description="Code at login")
    def code_at_login(self, person: User) -> str:
        """Whether, and the way to reset it; nothing of it is shown or changed here. Not called as the row that
        belongs to a person is: Django would show that, and where there is none a dash."""
        on = second_factor.of(person) is not None
        where = reverse("admin:quantum_second_factor_of", args=[person.pk])
        return format_html('{} · <a href="{}">look at it</a>', "on" if on else "off", where)

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        fields = [*super().get_readonly_fields(request, obj)]
        if obj is not None:
            # It stands in every record as who did it, and two names are two people where two are asked for:
            # whoever asked under one must not say yes under the next. Somebody else is a new row.
            fields.append("username")
        return fields if request.user.is_superuser else (*fields, "is_superuser", "user_permissions")

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return not _above(request, obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return not _above(request, obj) and super().has_delete_permission(request, obj)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> User | None:
        person: User | None = super().get_object(request, object_id, from_field)
        if person is not None:  # all that the form of a new password is given
            vars(person)["changed_by"] = request.user.get_username()
        return person


def _above(request: HttpRequest, person: User | None) -> bool:
    return person is not None and person.is_superuser and not request.user.is_superuser


@admin.register(Group)
class GroupsAdmin(Recorded, GroupAdmin):
    """What a group may do is what everybody in it may do."""

    form = GroupForm


@admin.register(Failure)
class FailureAdmin(ReadOnlyAdmin):
    """Jobs of the queue that failed; without django-q2's `resubmit`, which runs any function by name."""

    list_display = ["started", "name", "func", "stopped", "attempt_count"]
    search_fields = ["name", "func"]
    hidden = ("args", "kwargs")  # pickles
    empty_says = "No job of the queue has failed, which is normal. Plans never pass through this queue."


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = ["at", "kind", "plan_id", "symbol", "actor", "reason"]
    list_filter = ["at", "kind"]
    search_fields = ["=plan_id", "=symbol", "=actor"]
    empty_says = (
        "Nothing has happened yet. Every fact and every act of a person appears here with who, when and why."
    )


@admin.register(Instance)
class InstanceAdmin(ReadOnlyAdmin):
    list_display = ["created_at", "account", "mode", "uuid"]
    empty_says = "The first start writes this row: the account and the mode that this database belongs to."
