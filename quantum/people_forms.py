"""Django's forms of people, groups and passwords, with what every act here asks for: a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.admin.forms import AdminPasswordChangeForm as OwnAdminPasswordChangeForm
from django.contrib.auth.forms import AdminPasswordChangeForm, AdminUserCreationForm, UserChangeForm
from django.contrib.auth.models import Group, User
from django.db import transaction

from quantum import people
from quantum.act_form import ReasonForm, reason_field

if TYPE_CHECKING:
    _UserChangeForm = UserChangeForm[User]
    _GroupForm = forms.ModelForm[Group]
    _NewPersonForm = AdminUserCreationForm[User]
    _AnothersPasswordForm = AdminPasswordChangeForm[User]
else:
    _UserChangeForm, _GroupForm = UserChangeForm, forms.ModelForm
    _NewPersonForm, _AnothersPasswordForm = AdminUserCreationForm, AdminPasswordChangeForm


class PersonForm(_UserChangeForm):
    reason = reason_field()


class NewPersonForm(_NewPersonForm):
    reason = reason_field()


class GroupForm(_GroupForm):
    reason = reason_field()


class AnothersPasswordForm(_AnothersPasswordForm):
    reason = reason_field()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.order_fields(("usable_password", "password1", "password2", "reason"))

    def save(self, commit: bool = True) -> User:
        """The person comes with who is about to change it: quantum.admin.PeopleAdmin."""
        by: str = vars(self.user)["changed_by"]
        person: User = super().save(commit=False)
        return _kept(person, by=by, reason=self.cleaned_data["reason"]) if commit else person


class OwnPasswordForm(OwnAdminPasswordChangeForm):
    reason = reason_field()
    field_order = ("old_password", "new_password1", "new_password2", "reason")

    def save(self, commit: bool = True) -> User:
        person: User = super().save(commit=False)
        reason = self.cleaned_data["reason"]
        return _kept(person, by=person.get_username(), reason=reason) if commit else person


def _kept(person: User, *, by: str, reason: str) -> User:
    """The hash was made before: it takes most of a second, and SQLite has one writer, whom an exit would wait for."""
    with transaction.atomic():
        person.save(update_fields=["password"])  # what else was changed meanwhile stays so
        people.record_password(person, by=by, reason=reason)
    return person


class DeletionForm(ReasonForm):
    """`mark` is what the page showed of whom is to go: what was changed meanwhile is looked at again."""

    name = "deletion"
    typed_in_live = True
    mark: Any = forms.CharField(widget=forms.HiddenInput, max_length=20_000)
    field_order = ("mark", "reason", "confirm")
