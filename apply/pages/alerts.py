"""Alerts: what is open, what was told to whom, and whether each target takes what it is told. Nothing is done here:
one acts where the alert points to."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db.models import Count, Max, Q
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString

from apply.alerts import targets
from apply.models import Alert, Notice
from quantum import facts
from quantum.pages import Page

OPEN_MOST = OVER_MOST = 50


def declared() -> list[Page]:
    needs = ("apply.view_alert", "apply.view_notice")
    return [
        Page(name="apply_alerts", words="Alerts", place=65, key="w", path="alerts/", view=page, needs=needs)
    ]


def page(request: HttpRequest, *, context: dict[str, Any]) -> HttpResponse:
    open_rows = Alert.objects.filter(ended_at=None).exclude(told_at=None)[:OPEN_MOST]
    over = Alert.objects.exclude(ended_at=None)[:OVER_MOST]
    shown = {
        **context,
        "title": "Alerts",
        "open": [_row(row) for row in open_rows],
        "over": [_row(row) for row in over],
        "over_most": OVER_MOST,
        "targets": _targets(),
        "heartbeat": bool(settings.ALERT_HEARTBEAT_URL),
    }
    return TemplateResponse(request, "apply/alerts.html", shown)


def _row(row: Alert) -> dict[str, Any]:
    critical = row.critical or row.escalated_at is not None
    return {
        "row": row,
        "chip": facts.chip("critical" if critical else "warning", tone="bad" if critical else "warn"),
        "since": facts.moment(row.since),
        "age": facts.age(row.since),
        "told": facts.moment(row.told_at) if row.told_at else facts.NOTHING,
        "ended": facts.moment(row.ended_at) if row.ended_at else facts.NOTHING,
        "escalated": row.escalated_at is not None,
        "plan": facts.plan_link(row.plan_id) if row.plan_id else facts.NOTHING,
    }


def _targets() -> list[dict[str, Any]]:
    """By the notices: what the newest attempt came to, and what waits."""
    waits = Q(told_at=None, given_up_at=None)
    sums: dict[str, dict[str, Any]] = {
        each["target"]: dict(each)
        for each in Notice.objects.order_by()
        .values("target")
        .annotate(
            told=Max("told_at"), waiting=Count("id", filter=waits), newest=Max("id", filter=~Q(answer=""))
        )
    }
    answers = Notice.objects.in_bulk([each["newest"] for each in sums.values() if each["newest"]])
    return [_target(name, sums.get(name, {}), answers) for name in targets.names()]


def _target(name: str, known: dict[str, Any], answers: dict[int, Notice]) -> dict[str, Any]:
    newest = answers.get(known.get("newest", 0))
    return {
        "name": name,
        "health": _health(newest),
        "answer": newest.answer if newest else "",
        "told": facts.moment(known["told"]) if known.get("told") else facts.NOTHING,
        "waiting": known.get("waiting", 0),
    }


def _health(newest: Notice | None) -> SafeString:
    if newest is None:
        return facts.chip("never told anything", tone="calm")
    return (
        facts.chip("takes it", tone="good") if newest.told_at else facts.chip("does not take it", tone="bad")
    )
