"""What a person must say to decide an order, and the evidence that the page showed him, signed."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.core import signing

from apply.proving import deciding
from apply.proving.deciding import Evidence
from quantum.audit import REASON_MIN

SALT = "apply.pages.orders"
LIFE_S = 900
"""A page left open for longer is a page that nobody looks at."""


def made(known: Evidence) -> str:
    said = [settings.ACCOUNT, settings.APPLY_MODE, known.order.plan_id, known.mark]
    return signing.dumps(said, salt=SALT)


def read(text: str, *, plan_id: str) -> str | None:
    """The mark of the evidence. None: not of our making, of another order, account or mode, or too old."""
    try:
        *of, seen = signing.loads(text, salt=SALT, max_age=LIFE_S)
    except signing.BadSignature:
        return None
    return str(seen) if of == [settings.ACCOUNT, settings.APPLY_MODE, plan_id] else None


class DecideForm(forms.Form):
    fate = forms.ChoiceField(choices=[(each, each) for each in deciding.FATES], widget=forms.HiddenInput)
    mark = forms.CharField(max_length=1000, widget=forms.HiddenInput)
    reason = forms.CharField(
        min_length=REASON_MIN, max_length=400, help_text=f"At least {REASON_MIN} characters; it is kept."
    )

    def __init__(self, *args: Any, name: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        if settings.APPLY_MODE == "live":
            self.fields["confirm"] = forms.CharField(
                max_length=32, help_text="Live: type the account's name."
            )
        for field_name, field in self.fields.items():
            field.widget.attrs["id"] = f"id_{name}_{field_name}"
            field.widget.attrs["autocomplete"] = "off"

    def clean_confirm(self) -> str:
        said: str = self.cleaned_data["confirm"]
        if said != settings.ACCOUNT:
            raise forms.ValidationError("This is not the account's name.")
        return said

    @property
    def problems(self) -> str:
        return " ".join(f"{name}: {' '.join(map(str, errors))}" for name, errors in self.errors.items())
