"""The ledger: every movement with the balance after it and what caused it, and what was held at a moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from positions.books import entries
from positions.models import Incident, LedgerEntry
from quantum import amounts, facts, lists

Kind = LedgerEntry.Kind
KIND_TONES = {Kind.EXIT: "good", Kind.CORRECTION: "warn"}
NO_TIME = "This is no time; write it like 2026-01-31T12:00:00, in UTC."


def page(request: HttpRequest, *, context: dict[str, Any]) -> HttpResponse:
    asked = {
        name: request.GET.get(name, "").strip()[:40] for name in ("symbol", "by", "at", "before", "after")
    }
    return TemplateResponse(request, "positions/ledger.html", {**context, **shown(asked)})


def shown(asked: dict[str, str]) -> dict[str, Any]:
    symbol = asked["symbol"].upper()
    moment = entries.moment_of(asked["at"]) if asked["at"] else None
    then = entries.at_moment(moment, symbol=symbol) if moment else []
    until = max((entry.pk for entry in then), default=0) if moment else None
    book = lists.Book(model=LedgerEntry, when="recorded_at", looked_through=None)
    rows = entries.rows(symbol=symbol, by_people=asked["by"] == "people", until_id=until)
    found = book.leaf(rows, lists.window_of(asked))
    return {
        "title": "Ledger",
        "asked": asked,
        "moment": facts.moment(moment) if moment else None,
        "no_time": NO_TIME if asked["at"] and moment is None else "",
        "then": [
            {"row": entry, "balance": amounts.plain(entry.balance), "at": facts.moment(entry.recorded_at)}
            for entry in then
        ],
        "leaf": found,
        "entries": _told(found.rows),
        "narrowed": any(asked.values()),
    }


def _told(rows: Sequence[LedgerEntry]) -> list[dict[str, Any]]:
    ended = entries.incidents_of(rows)
    return [_entry(row, ended.get(row.pk, [])) for row in rows]


def _entry(row: LedgerEntry, ended: Sequence[Incident]) -> dict[str, Any]:
    fill = row.fill
    return {
        "row": row,
        "at": facts.moment(row.recorded_at),
        "kind": facts.chip(row.kind, tone=KIND_TONES.get(Kind(row.kind), "calm")),
        "delta": f"{'+' if row.delta > 0 else ''}{amounts.plain(row.delta)}",
        "balance": amounts.plain(row.balance),
        "plan": facts.plan_link(row.plan_id) if row.plan_id else "",
        "fill": fill,
        "price": amounts.plain(fill.price) if fill else "",
        "incidents": ended,
    }
