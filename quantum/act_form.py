"""What a person says to act on a page: why, and in live, or where it is much at once, the account's name."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings

from quantum.audit import REASON_MIN


def reason_field() -> forms.CharField:
    says = f"At least {REASON_MIN} characters; it is kept."
    wide = forms.TextInput(attrs={"class": "vTextField", "autocomplete": "off"})
    return forms.CharField(min_length=REASON_MIN, max_length=400, help_text=says, widget=wide)


class ReasonForm(forms.Form):
    name = "act"
    """Its fields are told apart by it where several forms stand on one page."""
    typed_in_live = False
    always_typed = ""
    """What is said where the name is typed in every mode."""

    reason = reason_field()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        if self.always_typed or (self.typed_in_live and settings.APPLY_MODE == "live"):
            says = self.always_typed or "Live: type the account's name."
            self.fields["confirm"] = forms.CharField(max_length=32, help_text=says)
        for name, field in self.fields.items():
            field.widget.attrs["id"] = f"id_{self.name}_{name}"
            field.widget.attrs["autocomplete"] = "off"

    def clean_confirm(self) -> str:
        said: str = self.cleaned_data["confirm"]
        if said != settings.ACCOUNT:
            raise forms.ValidationError("This is not the account's name.")
        return said

    @property
    def problems(self) -> str:
        return " ".join(f"{name}: {' '.join(map(str, errors))}" for name, errors in self.errors.items())
