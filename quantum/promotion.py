"""By what this code may run live. A row alone is not enough: whoever may write it could leave out who did, so it counts
with the event that tells of it, which the audit chain keeps."""

from __future__ import annotations

from quantum.models import AuditEvent, Promotion

PROMOTED = "promoted"


def stands(code: str) -> Promotion | None:
    events = AuditEvent.objects.filter(kind=PROMOTED, plan_id="", symbol="")
    told = {(each.actor, each.data.get("version"), each.data.get("way")) for each in events.iterator()}
    rows = Promotion.objects.filter(version=code)
    return next((row for row in rows if (row.by, row.version, row.way) in told), None)
