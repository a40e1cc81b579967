"""What is in the way of exits only now and then. A look at home asks one question for all of it, and for rows only
where there are some: five viewers and the alerts ask all day, in a house where mostly nothing is wrong."""

from __future__ import annotations

import datetime as dt

from django.conf import settings
from django.db import connection
from msgspec import Struct

from apply.models import BreakGlass, Plan
from permits.models import Approval
from positions.models import CorrectionRequest, Incident

_ASKED = """
SELECT EXISTS (SELECT 1 FROM permits_hold WHERE lifted_at IS NULL),
       EXISTS (SELECT 1 FROM positions_incident WHERE account = %s AND state = %s),
       EXISTS (SELECT 1 FROM apply_plan WHERE result_id = '' AND state = %s),
       COALESCE((SELECT outcome FROM quantum_verification ORDER BY id DESC LIMIT 1), '') = 'broken',
       (SELECT count(*) FROM permits_approval WHERE state = %s AND expires_at > %s)
       + (SELECT count(*) FROM positions_correctionrequest WHERE account = %s AND state = %s AND expires_at > %s)
       + (SELECT count(*) FROM apply_breakglass WHERE account = %s AND state = %s AND expires_at > %s)
"""


class Rare(Struct, frozen=True):
    holds: bool
    incidents: bool
    unknown: bool
    """Orders of unknown fate."""
    broken: bool
    """The audit chain, when it was looked at last."""
    waiting: int
    """Questions for a person: approvals, corrections, break-glass."""


def look(now: dt.datetime) -> Rare:
    mine, at = settings.ACCOUNT, connection.ops.adapt_datetimefield_value(now)
    values = (
        *(mine, Incident.State.OPEN.value, Plan.State.UNKNOWN.value, Approval.State.WAITING.value, at),
        *(mine, CorrectionRequest.State.WAITING.value, at),
        *(mine, BreakGlass.State.WAITING.value, at),
    )
    with connection.cursor() as cursor:
        cursor.execute(_ASKED, values)
        holds, incidents, unknown, broken, waiting = cursor.fetchone()
    return Rare(bool(holds), bool(incidents), bool(unknown), bool(broken), waiting)
