"""What a person must say to break the glass, and what the page showed him, signed."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.core import signing
from msgspec import Struct
from msgspec.structs import asdict

from apply.operators.preview import ACTIONS, GATES, Preview, Stood, Wanted
from permits.policy import policies
from quantum.audit import REASON_MIN
from quantum.plan import Action

SALT = "apply.pages.glass"
LIFE_S = 300
"""A page left open for longer is a page that nobody looks at."""
GATE_WORDS = {"p33": "the Brain (p33)", "governor": "the Governor", "both": "both gates"}
ACTION_WORDS = {Action.FULL_CLOSE: "all of it"}


class Mark(Struct, frozen=True):
    wanted: Wanted
    stood: Stood


def made(shown: Preview) -> str:
    wanted = shown.wanted
    said = {
        "account": settings.ACCOUNT,
        "mode": settings.APPLY_MODE,
        "symbol": wanted.symbol,
        "action": wanted.action.value,
        "gates": list(wanted.gates),
        "stood": asdict(shown.stood),
    }
    return signing.dumps(said, salt=SALT)


def read(text: str) -> Mark | None:
    """None: not of our making, of another account or mode, or too old."""
    try:
        said: dict[str, Any] = signing.loads(text, salt=SALT, max_age=LIFE_S)
        if (said["account"], said["mode"]) != (settings.ACCOUNT, settings.APPLY_MODE):
            return None
        wanted = Wanted(symbol=said["symbol"], action=Action(said["action"]), gates=tuple(said["gates"]))
        return Mark(wanted, Stood.read(said["stood"]))
    except (signing.BadSignature, KeyError, ValueError):
        return None


class LookForm(forms.Form):
    """Sent by GET: the address holds what is looked at."""

    symbol = forms.ChoiceField()
    action = forms.ChoiceField(
        label="Close", choices=[(each.value, ACTION_WORDS.get(each, each.value)) for each in ACTIONS]
    )
    gate = forms.ChoiceField(label="Sign in the place of", choices=list(GATE_WORDS.items()))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        allowed = sorted(policies.newest()[1].get("allowlist", ()))
        symbol = self.fields["symbol"]
        if isinstance(symbol, forms.ChoiceField):
            symbol.choices = [(name, name) for name in allowed]

    @property
    def wanted(self) -> Wanted:
        said = self.cleaned_data
        return Wanted(symbol=said["symbol"], action=Action(said["action"]), gates=GATES[said["gate"]])


class ReasonForm(forms.Form):
    name = "reason"
    reason = forms.CharField(
        min_length=REASON_MIN, max_length=400, help_text=f"At least {REASON_MIN} characters; it is kept."
    )

    def __init__(self, *args: Any, number: int = 0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        for name, field in self.fields.items():
            field.widget.attrs["id"] = f"id_{self.name}{number or ''}_{name}"
            field.widget.attrs["autocomplete"] = "off"


class ActForm(ReasonForm):
    name = "break"
    mark = forms.CharField(widget=forms.HiddenInput, max_length=2000)
    confirm = forms.CharField(required=False, max_length=40, label="Symbol", help_text="Type the symbol.")
    field_order = ("mark", "reason", "confirm")

    def __init__(self, *args: Any, alone: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not alone:
            self.fields.pop("confirm")


class ApproveForm(ReasonForm):
    name = "approve"


class RefuseForm(ReasonForm):
    name = "refuse"
