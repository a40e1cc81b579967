"""The rows of alerts and of what each target is to be told. Two wardens may look at once, and one may end in the midst:
every step is one compare-and-set, committed together with the notices that it makes."""

from __future__ import annotations

import datetime as dt
import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from prometheus_client import Metric

from apply.alerts.conditions import TOLD_BY_REDIS, Condition, kind
from apply.alerts.lookout import Seen
from apply.alerts.targets import Target
from apply.models import Alert, Notice
from quantum import clock
from quantum.gauges import gauge
from quantum.log import masked, safe

Event = Notice.Event
GONE_S, GONE_TIMES, GONE_MOST_S = 60.0, 4.0, 960.0
"""Gone for so long is over. What comes and goes within it is told once. Each time that the same was told within an hour
makes it four times as long: what flaps is told two or three times in an hour, not thirty."""
FLAPS = dt.timedelta(hours=1)
BATCH = 500
PLAN_PAGE = "/admin/apply/plan/{}/change/"
ON_CALL_PAGE = "/admin/oncall/"
"""Spelled here: to ask the router would load every page into the warden. A test compares them."""


def take(seen: Seen, *, targets: Sequence[Target]) -> bool:
    """What is new is kept, what has lasted is told, what is over is told once. True while an alert is open."""
    now = clock.now()
    known = {row.key: row for row in Alert.objects.filter(ended_at=None)}
    for condition in seen.conditions:
        row = known.pop(condition.key, None) or _kept(condition, now)
        if row is not None:
            _follow(row, condition, now, targets)
    for row in known.values():
        if seen.redis_answers or kind(row.key) not in TOLD_BY_REDIS:
            _end(row, now)
    return Alert.objects.filter(ended_at=None).exists()


def forget(targets: Sequence[Target]) -> None:
    """What a target was to be told that is not set any more."""
    _open_notices().exclude(target__in=[target.name for target in targets]).update(
        given_up_at=clock.now(), answer="this target is not set any more"
    )


def trim(*, before: dt.datetime) -> None:
    """What is long over, with what was told of it. What is open stays, however old."""
    with transaction.atomic():
        over = list(
            Alert.objects.filter(ended_at__lt=before).order_by("id").values_list("id", flat=True)[:BATCH]
        )
        Notice.objects.filter(alert__in=over).delete()
        Alert.objects.filter(id__in=over).delete()


def read() -> Iterator[Metric]:
    """Gauges: for whoever watches the watchman."""
    told = Alert.objects.filter(ended_at=None).exclude(told_at=None)
    yield gauge("quantum_alerts_open", "Alerts that were told and are not over", told.count())
    waiting = _open_notices().count()
    yield gauge("quantum_alert_notices_waiting", "Notices that a target has not taken yet", waiting)


def _open_notices() -> QuerySet[Notice]:
    return Notice.objects.filter(told_at=None, given_up_at=None)


def _kept(condition: Condition, now: dt.datetime) -> Alert | None:
    try:
        with transaction.atomic():
            return Alert.objects.create(
                key=condition.key,
                since=condition.since or now,
                **_words(condition),
                critical=condition.critical,
            )
    except IntegrityError:  # another warden keeps it since a moment ago
        return Alert.objects.filter(key=condition.key, ended_at=None).first()


def _words(condition: Condition) -> dict[str, str]:
    """People and strangers wrote parts of it: no secret, no control character."""
    return {
        "text": _clean(condition.text)[:200],
        "why": _clean(condition.why)[:500],
        "plan_id": condition.plan_id,
        "link": link(condition.plan_id)[:500],
        "command": _clean(condition.command)[:200],
    }


def link(plan_id: str = "") -> str:
    """To the plan, else to where one acts; empty where PUBLIC_URL does not say how this is reached."""
    page = PLAN_PAGE.format(plan_id) if plan_id else ON_CALL_PAGE
    return f"{settings.PUBLIC_URL}{page}" if settings.PUBLIC_URL else ""


def _clean(text: str) -> str:
    return safe(masked(text))


def _follow(row: Alert, condition: Condition, now: dt.datetime, targets: Sequence[Target]) -> None:
    if row.gone_at is not None:
        Alert.objects.filter(pk=row.pk, ended_at=None).update(gone_at=None)
    if row.told_at is None:  # until it is told it follows the numbers
        Alert.objects.filter(pk=row.pk, told_at=None).update(**_words(condition))
    if row.told_at is None and row.since > now:  # the clock was set back: it lasts from now on
        Alert.objects.filter(pk=row.pk, told_at=None).update(since=now)
        row.since = now
    lasted_s = (now - row.since).total_seconds()
    if row.told_at is None and lasted_s >= condition.after_s:
        chosen = [target.name for target in targets if not target.escalations_only]
        _tell(row, Event.ALERT, now, to=chosen)
    elif row.told_at is not None and row.escalated_at is None and condition.escalates_after_s is not None:
        # From when it was told: whoever heard of it has had his time, even if it was old by then.
        patience_s = condition.escalates_after_s - condition.after_s
        if (now - row.told_at).total_seconds() >= patience_s:
            _tell(row, Event.ESCALATION, now, to=[target.name for target in targets])


def _end(row: Alert, now: dt.datetime) -> None:
    if row.told_at is None:
        Alert.objects.filter(
            pk=row.pk, told_at=None
        ).delete()  # nobody heard of it: nobody hears that it is over
    elif row.gone_at is None or row.gone_at > now:  # ahead: the clock was set back since
        Alert.objects.filter(pk=row.pk, gone_at=row.gone_at).update(gone_at=now)
    elif (now - row.gone_at).total_seconds() >= _gone_s(row, now):
        told = Notice.objects.filter(alert=row).order_by().values_list("target", flat=True).distinct()
        _tell(row, Event.RECOVERY, now, to=list(told))


def _gone_s(row: Alert, now: dt.datetime) -> float:
    before = Alert.objects.filter(key=row.key, told_at__gt=now - FLAPS).exclude(pk=row.pk).count()
    return min(GONE_S * GONE_TIMES ** min(before, 5), GONE_MOST_S)


_STAMP = {Event.ALERT: "told_at", Event.ESCALATION: "escalated_at", Event.RECOVERY: "ended_at"}


def _tell(row: Alert, event: Event, now: dt.datetime, *, to: Iterable[str]) -> None:
    """The stamp and the notices are one transaction: told twice by two wardens, or lost by a death, is neither."""
    stamp = _STAMP[event]
    with transaction.atomic():
        if not Alert.objects.filter(pk=row.pk, **{stamp: None}).update(**{stamp: now}):
            return
        row.refresh_from_db()
        marks = [(target, secrets.token_hex(16)) for target in to]
        Notice.objects.bulk_create(
            Notice(
                alert=row, event=event, target=target, mark=mark, at=now, next_at=now,
                body=body(event=event, mark=mark, at=now, **_about(row, event)),
            )
            for target, mark in marks
        )  # fmt: skip


def _about(row: Alert, event: Event) -> dict[str, Any]:
    severity = "critical" if row.critical or event == Event.ESCALATION else "warning"
    return {
        "severity": "info" if event == Event.RECOVERY else severity,
        "kind": kind(row.key),
        "about": _clean(row.key.partition(":")[2]),
        "text": row.text,
        "why": row.why,
        "since": row.since.isoformat(),
        "plan_id": row.plan_id,
        "link": row.link,
        "command": f"manage.py {row.command}" if row.command else "",
        "alert": row.pk,
    }


def body(*, event: str, mark: str, at: dt.datetime, **about: Any) -> str:
    said = {
        "id": mark,
        "event": str(event),
        "at": at.isoformat(),
        "account": settings.ACCOUNT,
        "mode": settings.APPLY_MODE,
        **about,
    }
    return json.dumps(said, ensure_ascii=False)
