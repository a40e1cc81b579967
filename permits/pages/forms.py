"""What a person must say to act on a permit. Who it is, is known; why, is asked."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from django import forms

from permits.pages.story import GATE_NAMES, GATES
from quantum import amounts
from quantum.act_form import ReasonForm


class ActForm(ReasonForm):
    """`seen` is the mark of what the page showed: an act on what has changed since is refused."""

    seen = forms.CharField(widget=forms.HiddenInput, max_length=16)


class RevokeForm(ActForm):
    name = "revoke"
    gate = forms.ChoiceField(label="Permit")
    field_order = ("seen", "gate", "reason")

    def __init__(self, *args: Any, standing: Sequence[str] = GATES, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        both = [("both", "both gates")] if len(standing) == 2 else []
        choices = [*both, *((gate, GATE_NAMES[gate]) for gate in standing)]
        self.fields["gate"] = forms.ChoiceField(
            label="Permit", choices=choices, widget=forms.Select(attrs={"id": "id_revoke_gate"})
        )
        self.order_fields(self.field_order)

    @property
    def gates(self) -> tuple[str, ...]:
        gate = self.cleaned_data["gate"]
        return GATES if gate == "both" else (gate,)


class VoteForm(ActForm):
    """`answer` is which button was pressed. Where one yes is enough, the symbol is typed for it."""

    name = "vote"
    answer = forms.ChoiceField(choices=[("yes", "yes"), ("no", "no")], widget=forms.HiddenInput)
    field_order = ("seen", "reason", "confirm")

    def __init__(self, *args: Any, typed: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if typed:
            self.fields["confirm"] = forms.CharField(
                max_length=40,
                required=False,
                help_text="For a yes: type the symbol, because one yes is enough.",
                widget=forms.TextInput(attrs={"id": "id_vote_confirm", "autocomplete": "off"}),
            )

    def clean_confirm(self) -> str:
        """A symbol, and not the account's name: whoever counts the votes compares it."""
        said: str = self.cleaned_data["confirm"]
        return said


class GrantForm(ActForm):
    name = "grant"
    typed_in_live = True
    gate = forms.ChoiceField(label="Gate")
    verdict = forms.ChoiceField(label="Answer", choices=[("grant", "grant"), ("deny", "deny")])
    quantity = forms.CharField(
        required=False,
        max_length=40,
        label="Quantity",
        help_text="For P3.3: how much may be closed. For the Governor, where you give one: the most of it.",
    )
    field_order = ("seen", "gate", "verdict", "quantity", "reason")

    def __init__(self, *args: Any, free: Sequence[str] = GATES, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["gate"] = forms.ChoiceField(
            label="Gate",
            choices=[(gate, GATE_NAMES[gate]) for gate in free],
            widget=forms.Select(attrs={"id": "id_grant_gate"}),
        )
        self.order_fields(self.field_order)

    def clean_quantity(self) -> Decimal | None:
        text = self.cleaned_data["quantity"].strip()
        if not text:
            return None
        value = amounts.parse(text)
        if value is None or value <= 0:
            raise forms.ValidationError("A plain number above zero.")
        return value
