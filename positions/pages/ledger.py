"""The ledger: every movement with the balance after it and what caused it, and what was held at a moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from positions.books import entries
from positions.models import Fill, Incident, LedgerEntry
from quantum import amounts, facts, lists
from quantum.exports import download
from quantum.exports.declared import Export
from quantum.finding import LEAVES
from quantum.lists import Asked

Kind = LedgerEntry.Kind
KIND_TONES = {Kind.EXIT: "good", Kind.CORRECTION: "warn"}
NO_TIME = "This is no time; write it like 2026-01-31T12:00:00, in UTC."
NO_BY = "By is “people”, or nothing."


def page(request: HttpRequest, *, context: dict[str, Any]) -> HttpResponse:
    asked = _said(request.GET)
    then = _then(asked)
    wanted = _asked(asked, then)
    told = {**_shown(asked, wanted, then), "exports": download.links(request, EXPORT, wanted.said)}
    return TemplateResponse(request, "positions/ledger.html", {**context, **told})


FILTERS = ("symbol", "by", "at")


def _said(address: Mapping[str, str]) -> dict[str, str]:
    return {name: address.get(name, "").strip()[:40] for name in (*FILTERS, *LEAVES)}


def _then(asked: Mapping[str, str]) -> list[LedgerEntry] | None:
    """None: no moment was asked for, or none that is one."""
    moment = entries.moment_of(asked["at"])
    return entries.at_moment(moment, symbol=asked["symbol"].upper()) if moment else None


def _asked(asked: Mapping[str, str], then: list[LedgerEntry] | None) -> Asked[LedgerEntry]:
    until = None if then is None else max((entry.pk for entry in then), default=0)
    by_people = asked["by"] == "people"
    no_time = NO_TIME if asked["at"] and then is None else ""
    return Asked(
        found=entries.rows(symbol=asked["symbol"].upper(), by_people=by_people, until_id=until),
        book=lists.Book(model=LedgerEntry, when="recorded_at", looked_through=None),
        window=lists.window_of(asked),
        said={name: asked[name] for name in FILTERS if asked[name]},
        problem=no_time or ("" if by_people or not asked["by"] else NO_BY),
    )


def _shown(
    asked: dict[str, str], wanted: Asked[LedgerEntry], then: list[LedgerEntry] | None
) -> dict[str, Any]:
    moment, found = entries.moment_of(asked["at"]), wanted.leaf()
    return {
        "title": "Ledger",
        "asked": asked,
        "moment": facts.moment(moment) if moment else None,
        "problem": wanted.problem,
        "then": [
            {"row": entry, "balance": amounts.plain(entry.balance), "at": facts.moment(entry.recorded_at)}
            for entry in then or ()
        ],
        "leaf": found,
        "entries": _told(found.rows),
        "narrowed": any(asked.values()),
    }


OF_ITS_FILL = ("trade_id", "price", "order_id", "client_order_id")
NO_FILL = dict.fromkeys(OF_ITS_FILL)


def _fills(rows: Sequence[LedgerEntry]) -> dict[int | None, dict[str, Any]]:
    """By number, as values: an entry that holds its fill is held by it, and such a ring is freed by a full collection
    only. A file of 14,000 entries stood at 19 MB with rings, and stands at 1.3 without."""
    found = Fill.objects.filter(pk__in=[row.fill_id for row in rows if row.fill_id])
    return {fill["pk"]: fill for fill in found.values("pk", *OF_ITS_FILL)}


def _beside(rows: Sequence[LedgerEntry]) -> dict[int, dict[str, Any]]:
    fills = _fills(rows)
    return {row.pk: fills.get(row.fill_id, NO_FILL) for row in rows}


EXPORT = Export(
    name="ledger",
    sees="positions.view_ledgerentry",
    asked=lambda address: _asked(said := _said(address), _then(said)),
    filters=(*FILTERS, *LEAVES),
    columns=(
        "id", "recorded_at", "at", "symbol", "kind", "delta", "balance", "plan_id", "trade_id", "price", "order_id",
        "client_order_id", "actor", "reason", "account",
    ),
    beside=_beside,
)  # fmt: skip


def _told(rows: Sequence[LedgerEntry]) -> list[dict[str, Any]]:
    fills, ended = _fills(rows), entries.incidents_of(rows)
    return [_entry(row, fills.get(row.fill_id), ended.get(row.pk, [])) for row in rows]


def _entry(row: LedgerEntry, fill: Mapping[str, Any] | None, ended: Sequence[Incident]) -> dict[str, Any]:
    return {
        "row": row,
        "at": facts.moment(row.recorded_at),
        "kind": facts.chip(row.kind, tone=KIND_TONES.get(Kind(row.kind), "calm")),
        "delta": f"{'+' if row.delta > 0 else ''}{amounts.plain(row.delta)}",
        "balance": amounts.plain(row.balance),
        "plan": facts.plan_link(row.plan_id) if row.plan_id else "",
        "fill": fill,
        "price": amounts.plain(fill["price"]) if fill else "",
        "incidents": ended,
    }
