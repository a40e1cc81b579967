"""When the roles were started, with which code, in this span: and since when all that matter run the code of now."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict

from django.db.models import QuerySet

from apply.glance.glance import NEEDED
from apply.proof_report.report import Part, Span
from quantum import instance, version
from quantum.models import AuditEvent


def of_services(span: Span) -> Part:
    part = Part("services", "Services and versions")
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for event in _starts().filter(at__range=span.both).order_by("id"):
        counted[event.actor][str(event.data.get("version", "?"))] += 1
    for role, versions in sorted(counted.items()):
        part.figure(f"starts of {role}", versions.total(), of=versions.total())
        part.figure(f"versions of {role}", dict(versions), of=versions.total())
    since = runs_since(version.of_the_code())
    text = (
        since.isoformat()
        if since
        else "no: a role of governor, p33 and apply runs other code, or never started"
    )
    part.figure("all run this code since", text, of=sum(each.total() for each in counted.values()))
    return part


def runs_since(code: str) -> dt.datetime | None:
    """From when on governor, p33 and apply were started with this code alone. None: one of them was not."""
    found = []
    for role in NEEDED:
        first = None
        for event in _starts().filter(actor=role).order_by("-id").iterator():
            if event.data.get("version") != code:
                break
            first = event.at
        if first is None:
            return None
        found.append(first)
    return max(found)


def _starts() -> QuerySet[AuditEvent]:
    return AuditEvent.objects.filter(kind=instance.STARTED, plan_id="", symbol="")
