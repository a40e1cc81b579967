"""What every list of facts with a plan's id can be asked: a part of the id, a symbol, a span of time, a leaf."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import Any, TypeVar

from django import forms
from django.db import models

from quantum import clock, facts, lists
from quantum.lists import PART_MIN, PARTS_MOST, Asked, Book, Leaf, Window

_PART = re.compile(r"[0-9a-f]+")
SPANS = {
    "1h": ("the last hour", dt.timedelta(hours=1)),
    "24h": ("the last 24 hours", dt.timedelta(hours=24)),
    "7d": ("the last 7 days", dt.timedelta(days=7)),
    "30d": ("the last 30 days", dt.timedelta(days=30)),
}
LEAVES = ("before", "after")
M = TypeVar("M", bound=models.Model)


class FindForm(forms.Form):
    """Of a GET: everything is optional, and what makes no sense is told and finds nothing."""

    q = forms.CharField(label="Plan id", max_length=40, required=False)
    symbol = forms.CharField(max_length=40, required=False)
    span = forms.ChoiceField(
        choices=[("", "all"), *((name, words) for name, (words, _) in SPANS.items())], required=False
    )
    until = forms.DateTimeField(
        label="Until (UTC)",
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local", "step": "1"}, format="%Y-%m-%dT%H:%M:%S"),
    )
    before = forms.IntegerField(min_value=1, max_value=2**62, required=False, widget=forms.HiddenInput)
    after = forms.IntegerField(min_value=0, max_value=2**62, required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        for field in self.fields.values():
            field.widget.attrs["autocomplete"] = "off"
        self.fields["q"].widget.attrs["placeholder"] = "any part of it"

    def clean_q(self) -> str:
        """A part of an id, or a symbol: no symbol is made of hexadecimal digits alone."""
        text: str = self.cleaned_data["q"].strip()
        if _PART.fullmatch(text.lower()) and len(text) < PART_MIN:
            raise forms.ValidationError(f"At least {PART_MIN} characters of an id.")
        return text

    @property
    def part(self) -> str:
        """Of an id; empty: none was asked for."""
        text: str = self.cleaned_data["q"].lower() if self.is_valid() else ""
        return text if _PART.fullmatch(text) else ""

    @property
    def symbol_asked(self) -> str:
        said = self.cleaned_data
        named: str = said["symbol"] or ("" if self.part else said["q"])
        return named.strip().upper()

    @property
    def since(self) -> dt.datetime | None:
        """Before `until` where that is said, before now otherwise."""
        span = self.cleaned_data["span"]
        if not span:
            return None
        return (self.cleaned_data["until"] or clock.now()) - SPANS[span][1]

    @property
    def window(self) -> Window:
        asked = self.cleaned_data
        return Window(before=asked["before"], after=asked["after"], since=self.since, until=asked["until"])

    def asked(
        self, model: type[M], *, when: str, found: Callable[[dict[str, Any]], models.QuerySet[M]]
    ) -> Asked[M]:
        """`found` knows what the filters of its own list mean."""
        if not self.is_valid():
            nothing = model._default_manager.none()
            return Asked(found=nothing, book=Book(model=model, when=when), problem=self.problem)
        rows, ids = found(self.cleaned_data), lists.with_part(model, self.part) if self.part else []
        return Asked(
            found=rows.filter(plan_id__in=ids) if self.part else rows,
            book=Book(model=model, when=when, named=bool(self.part)),
            window=self.window,
            said=self.said(),
            not_all=f"More than {PARTS_MOST} ids have this part." if len(ids) == PARTS_MOST else "",
        )

    def told(self, asked: Asked[Any], leaf: Leaf[Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
        """For quantum/list.html."""
        return {
            "form": self,
            "said": self.said(),
            "problem": self.problem,
            "not_all": asked.not_all,
            "leaf": leaf,
            "rows": rows,
            "looked_to": facts.moment(leaf.looked_to) if leaf.looked_to else "",
            "as_of": facts.moment(clock.now()),
        }

    def said(self) -> dict[str, object]:
        """What stands in the address, without the leaf; nothing where it makes no sense."""
        if not self.is_valid():
            return {}
        kept = {name: value for name, value in self.cleaned_data.items() if value not in (None, "")}
        if "until" in kept:
            kept["until"] = f"{self.cleaned_data['until']:%Y-%m-%dT%H:%M:%S}"
        return {name: value for name, value in kept.items() if name not in LEAVES}

    @property
    def problem(self) -> str:
        return " ".join(
            f"{self.fields[name].label or name.capitalize()}: {' '.join(map(str, problems))}"
            for name, problems in self.errors.items()
        )
