"""What is asked for at the login and about a second factor."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth import authenticate
from django.contrib.auth.forms import AuthenticationForm

from quantum.act_form import ReasonForm

CODE_MAX = 40


def _code(*, required: bool, help_text: str) -> forms.CharField:
    typed = forms.TextInput(attrs={"autocomplete": "one-time-code", "autocapitalize": "characters"})
    return forms.CharField(
        label="Code", max_length=CODE_MAX, required=required, help_text=help_text, widget=typed
    )


class LoginForm(AdminAuthenticationForm):
    """Everybody is asked for a code: a page that asked only those who have one would tell that a password is right."""

    error_messages = {
        **AuthenticationForm.error_messages,
        "invalid_login": (
            "That did not let you in: username, password and, where the account has one, a code that was not used yet. "
            "Upper and lower case count."
        ),
    }
    token = _code(
        required=False, help_text="Only where your account has a second factor. A recovery code does too."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""

    def clean(self) -> dict[str, Any]:
        said = self.cleaned_data
        if said.get("username") and said.get("password"):
            self.user_cache = authenticate(
                self.request,
                username=said["username"],
                password=said["password"],
                token=said.get("token", ""),
            )
            if self.user_cache is None:
                raise self.get_invalid_login_error()
            self.confirm_login_allowed(self.user_cache)
        return said


class _Form(forms.Form):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""


class PasswordForm(_Form):
    """Whoever finds a page left open must not tie the account to a phone of his own."""

    password = forms.CharField(
        label="Your password",
        max_length=200,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )


class CodeForm(_Form):
    token = _code(required=True, help_text="The six digits that it shows now.")


class OffForm(PasswordForm):
    token = _code(required=True, help_text="From your authenticator, or a recovery code.")


class ResetForm(ReasonForm):
    name = "reset"
    typed_in_live = True
    mark = forms.CharField(widget=forms.HiddenInput, max_length=400)
    field_order = ("mark", "reason", "confirm")
