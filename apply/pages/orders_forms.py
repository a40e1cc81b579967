"""What a person must say to decide an order, and the evidence that the page showed him, signed."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.core import signing

from apply.proving import deciding
from apply.proving.deciding import Evidence
from quantum.act_form import ReasonForm

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


class DecideForm(ReasonForm):
    typed_in_live = True
    fate = forms.ChoiceField(choices=[(each, each) for each in deciding.FATES], widget=forms.HiddenInput)
    mark = forms.CharField(max_length=1000, widget=forms.HiddenInput)

    def __init__(self, *args: Any, name: str = "", **kwargs: Any) -> None:
        self.name = name
        super().__init__(*args, **kwargs)
