"""What the pages of people and of groups have in common: no change without a reason, and each is an audit event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core import signing
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from quantum import facts, people
from quantum.people_forms import DeletionForm

if TYPE_CHECKING:
    _Admin = admin.ModelAdmin[Any]
else:
    _Admin = object  # it stands before one of Django's own admins

SALT = "quantum.people_admin"
MARK_LIFE_S = 900
CHANGED = "Nothing was deleted: what this page showed is not so any more. Look again."


class Recorded(_Admin):
    delete_confirmation_template = "quantum/delete_with_reason.html"

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [name for name in super().get_fields(request, obj) if name != "reason"]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Who may only look is asked for nothing."""
        found = super().get_fieldsets(request, obj)
        asks = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)
        return [*found, ("Why", {"fields": ("reason",)})] if asks else found

    # Django saves in one transaction: the row, then what belongs to it. Before is seen before the first.

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        form.before = people.standing(obj) if change else None
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        row, said = form.instance, self.who_and_why(request)
        if change:
            also = set(form.changed_data) - _TOLD
            people.record_changed(row, before=form.before, also=sorted(also), **said)
        else:
            people.record_added(row, **said)

    def who_and_why(self, request: HttpRequest) -> dict[str, str]:
        """Of a form that was valid, so there is a reason."""
        return {"by": request.user.get_username(), "reason": request.POST["reason"].strip()}

    # ---- deleting

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        with transaction.atomic():
            row: Any = self.get_object(request, unquote(object_id))
            if row is None or not self.has_delete_permission(request, row):
                return super().delete_view(request, object_id, extra_context)  # it refuses in its own words
            why_not = self._why_not(request, row) if request.method == "POST" else ""
            if why_not:
                messages.error(request, why_not)
                return HttpResponseRedirect(request.path)
            form = DeletionForm(initial={"mark": signing.dumps(_mark(row), salt=SALT, compress=True)})
            told = [(name.capitalize(), _words(value)) for name, value in people.standing(row).items()]
            context = {"deletion": form, "standing": told, **(extra_context or {})}
            return super().delete_view(request, object_id, context)

    def _why_not(self, request: HttpRequest, row: Any) -> str:
        form = DeletionForm(request.POST)
        if not form.is_valid():
            return f"Nothing was deleted. {form.problems}"
        return "" if _seen(form.cleaned_data["mark"]) == _mark(row) else CHANGED

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        people.record_deleted(obj, **self.who_and_why(request))
        super().delete_model(request, obj)


_TOLD = {
    "reason", "name", "is_active", "is_staff", "is_superuser", "groups", "user_permissions", "permissions",
}  # fmt: skip
"""Fields that are told with before and after, or are no change."""


def _words(value: Any) -> Any:
    return (", ".join(value) or facts.NOTHING) if isinstance(value, list) else facts.plain(value)


def _mark(row: Any) -> list[Any]:
    return [settings.ACCOUNT, settings.APPLY_MODE, row._meta.label, row.pk, people.standing(row)]


def _seen(mark: str) -> Any:
    try:
        return signing.loads(mark, salt=SALT, max_age=MARK_LIFE_S)
    except signing.BadSignature:
        return None
