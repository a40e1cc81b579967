"""Each limit beside what is used of it now."""

from __future__ import annotations

from decimal import Decimal

from django.forms import BoundField
from django.utils.html import format_html
from django.utils.safestring import SafeString
from msgspec import Struct

from permits.governor.standing_use import Standing
from permits.pages.policy_forms import LABELS, LimitsForm, names, scopes
from permits.policy.policy import Limits, LimitSet, Use
from quantum import amounts, facts

SYMBOLS_SHOWN = 3


class Line(Struct, frozen=True):
    name: str
    label: str
    holds: str
    used: SafeString
    field: BoundField


class Section(Struct, frozen=True):
    scope: str
    title: str
    lines: list[Line]


def sections(form: LimitsForm, limits: LimitSet, use: Standing, symbol: str) -> list[Section]:
    titles = {"total": "In total", "each": "Each symbol by itself"}
    of_scope = {"total": limits.total, "each": limits.each, f"symbols.{symbol}": limits.of(symbol)}
    of_use = {"total": {"": use.in_total}, f"symbols.{symbol}": {"": use.by_symbol.get(symbol, Use())}}
    by_symbol = {name: used for name, used in use.by_symbol.items() if name not in limits.symbols}
    return [
        Section(
            scope,
            titles.get(scope, f"{symbol} by itself"),
            [
                Line(
                    name,
                    LABELS[name],
                    _text(getattr(of_scope[scope], name)),
                    _used(name, of_scope[scope], of_use.get(scope, by_symbol)),
                    form[f"{scope}.{name}"],
                )
                for name in names(scope)
            ],
        )
        for scope in scopes(symbol)
    ]


def _text(value: Decimal | int | None) -> str:
    return "no limit" if value is None else amounts.plain(Decimal(value))


def _used(name: str, limits: Limits, by_symbol: dict[str, Use]) -> SafeString:
    """Of many symbols those that use most of it."""
    found = [(symbol, value) for symbol, use in by_symbol.items() if (value := _value(name, use)) is not None]
    nearest_first = name not in ("cooldown_s", "circuit_open_s")
    found.sort(key=lambda one: one[1], reverse=nearest_first)
    found = [one for one in found if one[1] or "" in by_symbol or not nearest_first][:SYMBOLS_SHOWN]
    if not found:
        return facts.NOTHING
    texts = [_words(name, symbol, value) for symbol, value in found]
    full = any(_is_full(name, limits, value) for _, value in found)
    mark = facts.chip("used up" if nearest_first else "runs", tone="warn") if full else ""
    return format_html('<span class="num">{}</span> {}', ", ".join(texts), mark)


def _words(name: str, symbol: str, value: Decimal) -> str:
    said = (
        amounts.plain(round(value, 3)) if name in ("cooldown_s", "circuit_open_s") else amounts.plain(value)
    )
    words = {"cooldown_s": f"last exit {said} s ago", "circuit_open_s": f"last failure {said} s ago"}.get(
        name, said
    )
    return f"{symbol} {words}".strip()


def _is_full(name: str, limits: Limits, value: Decimal) -> bool:
    limit = getattr(limits, name)
    if limit is None:
        return False
    return bool(value < limit) if name in ("cooldown_s", "circuit_open_s") else bool(value >= limit)


def _value(name: str, use: Use) -> Decimal | None:
    found: dict[str, Decimal | int | None] = {
        "permits_per_5min": use.permits_5min,
        "permits_per_hour": use.permits_hour,
        "notional_per_day_usd": use.notional_day,
        "quantity_per_day": use.quantity_day,
        "cooldown_s": use.since_exit_s,
        "failures_in_a_row": use.failures_in_a_row,
        "circuit_open_s": use.since_failure_s,
    }
    value = found.get(name)
    return None if value is None else Decimal(value)
