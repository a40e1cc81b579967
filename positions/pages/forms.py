"""What a person must say to reconcile. Who it is, is known; why, is asked; what he saw, comes along signed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings

from quantum import amounts
from quantum.audit import REASON_MIN


class ActForm(forms.Form):
    name = "act"
    typed_in_live = False

    mark = forms.CharField(widget=forms.HiddenInput, max_length=2000)
    reason = forms.CharField(
        min_length=REASON_MIN, max_length=400, help_text=f"At least {REASON_MIN} characters; it is kept."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        if self.typed_in_live and settings.APPLY_MODE == "live":
            self.fields["confirm"] = forms.CharField(
                max_length=32, help_text="Live: type the account's name."
            )
        for name, field in self.fields.items():
            field.widget.attrs["id"] = f"id_{self.name}_{name}"
            field.widget.attrs["autocomplete"] = "off"

    def clean_confirm(self) -> str:
        said: str = self.cleaned_data["confirm"]
        if said != settings.ACCOUNT:
            raise forms.ValidationError("This is not the account's name.")
        return said


class AdoptForm(ActForm):
    name = "adopt"
    typed_in_live = True


class WriteForm(ActForm):
    name = "write"
    typed_in_live = True
    sure = forms.BooleanField(required=False, widget=forms.HiddenInput)
    """Set by the preview: only then it is written."""
    amount = forms.CharField(max_length=45, help_text="Signed and plain: 0.062, -3, 0.")
    field_order = ("mark", "sure", "amount", "reason", "confirm")

    def clean_amount(self) -> Decimal:
        value = amounts.parse(self.cleaned_data["amount"].strip())
        if value is None:
            raise forms.ValidationError("No plain amount, like 0.062, -3 or 0; at most 18 decimals.")
        return value


class HoldForm(ActForm):
    name = "hold"


class ReleaseForm(ActForm):
    name = "release"
    typed_in_live = True


class CloseForm(ActForm):
    name = "close"
    typed_in_live = True


class AckForm(ActForm):
    name = "ack"
    incident = forms.IntegerField(widget=forms.HiddenInput, min_value=1, max_value=2**62)

    def __init__(self, *args: Any, number: int = 0, **kwargs: Any) -> None:
        self.name = f"ack{number or ''}"
        super().__init__(*args, **kwargs)


class ApproveForm(ActForm):
    name = "approve"
    typed_in_live = True
    request = forms.IntegerField(widget=forms.HiddenInput, min_value=1, max_value=2**62)
    field_order = ("mark", "request", "reason", "confirm")

    def __init__(self, *args: Any, number: int = 0, **kwargs: Any) -> None:
        self.name = f"approve{number or ''}"
        super().__init__(*args, **kwargs)
