"""Plans past their life: refused together, quickly, with a count. Nothing of them was waited for or sent."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections, transaction

from apply.acting import settle
from apply.models import PENDING_STATES, Plan
from apply.plans import publish, results, transitions
from apply.plans.publish import Standing
from quantum import audit, clock
from quantum.log import log
from quantum.plan import ExitPlan
from quantum.reasons import ApplyReason
from quantum.redis import Client, RedisError

TOGETHER = 64
ONE_TURN_S = 0.5

State = Plan.State


class Late:
    """What was read from the stream and came too late, until the batch it came with is read to its end."""

    def __init__(self, *, client: Client, actor: str) -> None:
        self._client = client
        self._actor = actor
        self._entries: dict[str, ExitPlan] = {}

    def holds(self, entry_id: str) -> bool:
        return entry_id in self._entries

    def put(self, plan: ExitPlan, entry_id: str) -> None:
        self._entries[entry_id] = plan

    def end_some(self) -> list[str]:
        """The entries to acknowledge. All of a usual batch; of thousands as many as the lease has time for. Where the
        database or the server is down they are let go, and come again."""
        ended, until_s = list[str](), clock.boot_s() + ONE_TURN_S
        while self._entries:
            some = dict(itertools.islice(self._entries.items(), TOGETHER))
            try:
                self._end(some)
                ended += some
            except (DatabaseError, RedisError) as error:
                log.failure("late plans will be delivered again", error, count=len(self._entries))
                close_old_connections()
                some = self._entries
            self._entries = {name: plan for name, plan in self._entries.items() if name not in some}
            if clock.boot_s() >= until_s:
                break
        return ended

    def _end(self, entries: dict[str, ExitPlan]) -> None:
        rows = publish.ensure_rows(entries)
        open_ids = []
        with transaction.atomic():
            for entry_id, plan in entries.items():
                row = rows[entry_id]
                if row.standing is Standing.CONFLICT:
                    conflict(plan, actor=self._actor)
                elif row.state == State.OPEN:
                    open_ids.append(plan.plan_id)
                    Plan.objects.filter(plan_id=plan.plan_id, stream_id="").update(stream_id=entry_id)
        end(self._client, open_ids, actor=self._actor)
        for entry_id, plan in entries.items():  # one that may have had an order is told with it
            row = rows[entry_id]
            known = row.standing is not Standing.CONFLICT
            if known and row.state not in PENDING_STATES and not row.result_id:
                results.finish(self._client, plan.plan_id)


def end(client: Client, plan_ids: Collection[str], *, actor: str) -> int:
    """Of those that are open: expired, or spent_unsent where a receipt shows that the pair is gone. Compare-and-set:
    an intent that is written at this moment wins or loses as a whole. How many it were."""
    if not plan_ids:
        return 0
    spent = _spent(client, plan_ids)
    with transaction.atomic():
        ended = transitions.move_all(
            [each for each in plan_ids if each not in spent],
            come_from=State.OPEN,
            to=State.EXPIRED,
            actor=actor,
            error=ApplyReason.STALE_PLAN.value,
        )
    ended += [plan_id for plan_id in spent if _end_spent(client, plan_id, actor=actor)]
    results.finish_all(client, ended)
    if ended:
        log.warning(
            "plans past their life refused", count=len(ended), spent_unsent=len(spent), first=ended[0]
        )
    return len(ended)


def _spent(client: Client, plan_ids: Iterable[str]) -> set[str]:
    wanted = list(plan_ids)
    with client.pipeline(transaction=False) as pipe:
        for plan_id in wanted:
            pipe.exists(settings.KEYS.receipt(plan_id))
        found = pipe.execute()
    return {plan_id for plan_id, there in zip(wanted, found, strict=True) if there}


def _end_spent(client: Client, plan_id: str, *, actor: str) -> bool:
    settle.record_unsent(client, plan_id)
    error = ApplyReason.SPENT_UNSENT.value
    return transitions.move(plan_id, come_from=(State.OPEN,), to=State.SPENT_UNSENT, actor=actor, error=error)


def conflict(plan: ExitPlan, *, actor: str) -> None:
    """The same id with other content: recorded, never executed. An event, not a state."""
    log.warning("the same plan_id with other content is refused", plan=plan.plan_id, symbol=plan.symbol)
    audit.record(
        kind="plan_conflict",
        actor=actor,
        plan_id=plan.plan_id,
        symbol=plan.symbol,
        reason=ApplyReason.CONFLICT,
        data={"digest": plan.digest},
    )
