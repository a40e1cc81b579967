"""Ten symbols at 300 ms exchange latency, through the whole product: every plan gets both permits and is sent."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

from bench.parts import Row, say, spread
from bench.product import SYMBOLS, House

LATENCY_MS = 300
TEN = SYMBOLS[:10]
ROUNDS = 5
ENDS_WITHIN_S = 10.0


def ten_symbols(house: House) -> Row:
    say(f"bench: ten symbols at {LATENCY_MS} ms, {ROUNDS} times all at once")
    house.paper_latency(LATENCY_MS)
    time.sleep(2)  # what is read from now on is read at this latency
    try:
        rounds = [_round(round_number) for round_number in range(ROUNDS)]
    finally:
        house.paper_latency(0)
    ended = [row for each in rounds for row in each]
    sent_at = [[row.sent_at.timestamp() for row in each if row.sent_at] for each in rounds]
    apart_ms = max((1000 * (max(each) - min(each)) for each in sent_at if each), default=0.0)
    waits = [float(row.wait_ms or 0) for row in ended if row.sent]
    missed = [f"{row.symbol}: {row.error} {row.gate_reason}".strip() for row in ended if not row.sent]
    short = sum(row.permits < 2 for row in ended)
    more = {"not_sent": len(missed), "without_both_permits": short, "why": missed[:5],
            "wait_ms_max": max(waits, default=None), "sent_apart_ms_max": round(apart_ms, 1)}  # fmt: skip
    return Row(
        "ten_symbols_at_300ms",
        len(ended),
        **(spread(waits) if waits else {}),
        target="every plan gets both permits and is sent",
        met=not missed and not short,
        stretch="none waits for another symbol's answer",
        stretch_met=not missed and apart_ms < LATENCY_MS,
        more=more,
    )


class Ended:
    """One plan's end: what it waited for its permits, whether it was sent, and why not."""

    def __init__(self, row: Any, *, permits: int, sent_at: dt.datetime | None) -> None:
        self.symbol, self.error, self.gate_reason = row.symbol, row.error, row.gate_reason
        self.wait_ms: float | None = row.wait_ms
        self.permits, self.sent, self.sent_at = permits, row.state == row.State.FILLED, sent_at


def _round(round_number: int) -> list[Ended]:
    from django.conf import settings

    from apply.models import PENDING_STATES, Order, Plan
    from apply.plans import publish
    from permits.models import Permit
    from quantum import clock
    from quantum import plan as plans
    from quantum.plan import Action
    from quantum.redis import command_client

    client, ids = command_client(), []
    for number, symbol in enumerate(TEN):
        plan = plans.make(
            symbol=symbol,
            action=Action.PARTIAL_25,
            kill_score_text=f"0.7{round_number}{number}",
            timestamp_text=f"{clock.now_s():.3f}",
            mode=settings.APPLY_MODE,
            source="bench",
        )
        publish.publish(client, plan, actor="bench")
        ids.append(plan.plan_id)
    rows, end = Plan.objects.filter(plan_id__in=ids), time.monotonic() + ENDS_WITHIN_S
    while rows.filter(state__in=PENDING_STATES).exists() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.2)  # the gates' own rows follow the permits
    granted = list(Permit.objects.filter(plan_id__in=ids, verdict=True).values_list("plan_id", flat=True))
    sent_at = dict(Order.objects.filter(plan_id__in=ids).values_list("plan_id", "sent_at"))
    return [Ended(row, permits=granted.count(row.plan_id), sent_at=sent_at.get(row.plan_id)) for row in rows]
