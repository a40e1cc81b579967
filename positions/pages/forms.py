"""What a person must say to reconcile. Who it is, is known; why, is asked; what he saw, comes along signed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms

from quantum import amounts
from quantum.act_form import ReasonForm


class ActForm(ReasonForm):
    mark = forms.CharField(widget=forms.HiddenInput, max_length=2000)


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
