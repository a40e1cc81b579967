"""The janitor: finishes what a death left half done. Every second, over plans without a result."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

from django.conf import settings

from apply.acting import late, settle
from apply.models import PENDING_STATES, Plan
from apply.plans import publish, results
from quantum import clock
from quantum.log import log
from quantum.plan import MalformedPlan, parse
from quantum.redis import Client

ACTOR = "janitor"
GRACE_S = 5
YOUNG_S = 1.0
BATCH = 500
TRIM_EVERY_S = 60.0

State = Plan.State


class Janitor:
    def __init__(self, *, client: Client) -> None:
        self._client = client
        self._trim_boot_s = 0.0

    def tick(self) -> None:
        self._trim()
        before = clock.now() - dt.timedelta(seconds=YOUNG_S)
        dead = clock.now() - dt.timedelta(seconds=GRACE_S)
        late_ids = []
        for plan in Plan.objects.filter(result_id="", created_at__lt=before).order_by("created_at")[:BATCH]:
            if plan.state == State.OPEN and plan.expires_at < dead:
                late_ids.append(plan.plan_id)
            else:
                self._look_after(plan)
        late.end(self._client, late_ids, actor=ACTOR)

    def _trim(self) -> None:
        """By age, whatever the groups have read: a dead group must not fill the memory, nor a bot that only adds."""
        if clock.boot_s() < self._trim_boot_s:
            return
        self._trim_boot_s = clock.boot_s() + TRIM_EVERY_S
        oldest_ms = clock.now_ms() - publish.STREAM_AGE_MS
        self._client.xtrim(settings.KEYS.plan_stream, minid=oldest_ms, approximate=True)

    def _look_after(self, plan: Plan) -> None:
        if plan.state in settle.IN_FLIGHT:
            return  # the resolver's
        if plan.state not in PENDING_STATES:
            if plan.ended_at is None or clock.now() - plan.ended_at > dt.timedelta(seconds=YOUNG_S):
                results.finish(self._client, plan.plan_id)
            return
        if not plan.stream_id and clock.now() < plan.expires_at:
            self._publish_again(plan)

    def _publish_again(self, row: Plan) -> None:
        try:
            plan = parse(_fields(row))
        except MalformedPlan as malformed:
            log.warning("a stored plan cannot be published", plan=row.plan_id, error=str(malformed))
            return
        published = publish.publish(self._client, plan, actor=ACTOR)
        Plan.objects.filter(plan_id=row.plan_id, stream_id="").update(stream_id=published.stream_id)


def _fields(row: Plan) -> dict[bytes, bytes]:
    fields = {
        "plan_id": row.plan_id,
        "symbol": row.symbol,
        "action": row.action,
        "kill_score": row.kill_score,
        "decision": row.decision,
        "timestamp": row.timestamp,
        "mode": row.mode,
        "source": row.source,
        "reason_codes": row.reason_codes,
        "expires_at": str(Decimal(str(row.expires_at.timestamp()))),
    }
    return {name.encode(): value.encode() for name, value in fields.items()}
