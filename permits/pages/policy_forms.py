"""The limits as a form, and what is said to make a draft hold. Both end in the words that policy_set takes."""

from __future__ import annotations

from typing import Any

from django import forms

from permits.policy import rules
from permits.policy.rules import Rules
from quantum.act_form import ReasonForm

LIMITS, SHADOW = "limits", "shadow"
LABELS = {
    "permits_per_5min": "Exits in 5 minutes",
    "permits_per_hour": "Exits in an hour",
    "notional_per_day_usd": "USD in 24 hours",
    "quantity_per_day": "Coins in 24 hours",
    "cooldown_s": "Seconds between two exits",
    "failures_in_a_row": "Failures that open the circuit",
    "circuit_open_s": "Seconds the circuit stays open",
    "approval_above_usd": "USD above which a person is asked",
}
LAST = 1000
LAST_MOST = 5000
"""Plans of one look at a page; the command takes more."""


def scopes(symbol: str) -> list[str]:
    return ["total", "each", *([f"symbols.{symbol}"] if symbol else [])]


def said_of(place: Rules, scope: str) -> dict[str, Any]:
    if scope.startswith("symbols."):
        own: dict[str, Any] = place.get("symbols", {}).get(scope.partition(".")[2], {})
        return own
    found: dict[str, Any] = place.get(scope, {})
    return found


def names(scope: str) -> list[str]:
    return [name for name in rules.KINDS if scope != "total" or name not in rules.NOT_IN_TOTAL]


class LimitsForm(forms.Form):
    """Sent by GET: the address holds the draft. What it does not name stays as it is."""

    seen = forms.IntegerField(min_value=0, max_value=2**31, widget=forms.HiddenInput)
    symbol = forms.RegexField(rules.SYMBOL, required=False, widget=forms.HiddenInput)
    on = forms.ChoiceField(choices=[(LIMITS, LIMITS), (SHADOW, SHADOW)], widget=forms.HiddenInput)
    last = forms.IntegerField(
        label="Try it on the last plans", min_value=1, max_value=LAST_MOST, initial=LAST, required=False
    )

    def __init__(self, *args: Any, place: Rules, symbol: str, on: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        if on == LIMITS:
            self.fields["allow"] = forms.CharField(
                label="Add to the allow-list", required=False, max_length=400
            )
            self.fields["take_off"] = forms.CharField(
                label="Take off the allow-list", required=False, max_length=400
            )
        self.fields["approval_symbols"] = forms.CharField(
            label="Symbols a person is always asked about",
            required=False,
            max_length=2000,
            initial=", ".join(place.get("approval_symbols", [])),
        )
        for scope in scopes(symbol):
            for name in names(scope):
                self.fields[f"{scope}.{name}"] = _field(scope, name, said_of(place, scope))
        for name, field in self.fields.items():
            field.widget.attrs |= {"id": f"id_draft_{name.replace('.', '-')}", "autocomplete": "off"}
        if self.is_bound:
            self.data = {
                **{name: field.initial for name, field in self.fields.items() if field.initial is not None},
                **dict(self.data.items()),
            }
        self._place = place

    def words(self) -> list[str]:
        """Of what was changed, as policy_set takes it."""
        said = self.cleaned_data
        limits = {name: field.initial for name, field in self.fields.items() if "." in name}
        found = [f"{name}={said[name] or 'default'}" for name, was in limits.items() if said[name] != was]
        allowed = set(self._place.get("allowlist", []))
        after = (allowed | _symbols(said.get("allow", ""))) - _symbols(said.get("take_off", ""))
        if after != allowed:
            found.append(f"allowlist={','.join(sorted(after))}")
        asked = _symbols(said["approval_symbols"])
        if asked != set(self._place.get("approval_symbols", [])):
            found.append(f"approval_symbols={','.join(sorted(asked)) or 'none'}")
        return found

    @property
    def problems(self) -> list[str]:
        return [f"{name}: {' '.join(map(str, errors))}" for name, errors in self.errors.items()]


def _field(scope: str, name: str, said: dict[str, Any]) -> forms.CharField:
    """Empty: not said. For a symbol that is what each says; for all others it is no limit."""
    value = said.get(name)
    initial = "none" if name in said and value is None else "" if value is None else str(value)
    whose = {"total": "in total", "each": "of each symbol"}.get(scope, f"of {scope.partition('.')[2]}")
    unsaid = "as each" if scope.startswith("symbols.") else "no limit"
    unsaid = "5" if name in rules.NEVER_NONE and unsaid == "no limit" else unsaid
    attrs = {"aria-label": f"{LABELS[name]}, {whose}", "placeholder": unsaid, "size": "12"}
    return forms.CharField(
        required=False, max_length=40, initial=initial, widget=forms.TextInput(attrs=attrs)
    )


def _symbols(text: str) -> set[str]:
    return {one.upper() for one in text.replace(",", " ").split()}


class SetForm(ReasonForm):
    """Bound to the version that was shown; the draft is the words that were shown with their before and after."""

    name = "policy"
    typed_in_live = True

    seen = forms.IntegerField(min_value=0, max_value=2**31, widget=forms.HiddenInput)
    on = forms.ChoiceField(choices=[(LIMITS, LIMITS), (SHADOW, SHADOW)], widget=forms.HiddenInput)
    words = forms.CharField(max_length=20_000, widget=forms.HiddenInput)
    field_order = ("seen", "on", "words", "reason", "confirm")

    @property
    def said(self) -> list[str]:
        words: str = self.cleaned_data["words"]
        return words.split("\n")
