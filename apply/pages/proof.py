"""Proof: what the last `proof` found, the exchange's own lists included, and the last hours from records alone."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from apply.proof_report import look, plans, told
from apply.proof_report.report import Outcome, Span
from quantum import clock, facts, live, promotion, version
from quantum.models import ProofRun

SPANS = {"1h": ("the last hour", 1), "6h": ("the last 6 hours", 6), "24h": ("the last 24 hours", 24)}
"""Longer ones are the command's: a page must not read a million plans."""
KEPT_S = 10
TONES = {Outcome.CLEAN: "good", Outcome.WRONG: "bad", Outcome.CANNOT_TELL: "warn"}


def page(request: HttpRequest, *, context: dict[str, Any]) -> HttpResponse:
    asked = request.GET.get("span", "")
    name = asked if asked in SPANS else "1h"
    words, hours = SPANS[name]
    until = clock.now()
    found = live.kept(
        f"proof:{name}",
        lambda: look.from_records(Span(until - dt.timedelta(hours=hours), until)),
        life_s=KEPT_S,
    )
    last = ProofRun.objects.first()
    shown = {
        **told.shown(found),
        "title": "Proof",
        "span_name": name,
        "span_words": words,
        "choices": [(each, said) for each, (said, _) in SPANS.items()],
        "chip": facts.chip(found.outcome.value, tone=TONES[found.outcome]),
        "no_exit": plans.NO_EXIT if plans.NO_EXIT in found.doubts() else "",
        "made": facts.moment(found.made_at),
        "last": _run(last) if last else None,
        "version": version.of_the_code(),
        "promotion": promotion.stands(version.of_the_code()),
    }
    return TemplateResponse(request, "apply/proof.html", {**context, **shown})


def _run(row: ProofRun) -> dict[str, Any]:
    outcome = Outcome(row.outcome)
    parts = row.data.get("parts", {}).values()
    return {
        "chip": facts.chip(outcome.value, tone=TONES[outcome]),
        "at": facts.moment(row.at),
        "age": facts.age(row.at),
        "since": facts.moment(row.since),
        "until": facts.moment(row.until),
        "version": row.data.get("version", ""),
        "signatures": told.signatures_told(row.data.get("signatures_verified")),
        "wrongs": row.data.get("wrongs", 0),
        "findings": [each for part in parts for each in part["findings"]],
        "doubts": [f"{part['title']}: {doubt}" for part in parts for doubt in part["doubts"]],
    }
