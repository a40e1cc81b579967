"""The end of a plan, told once: one entry on the result stream, whatever dies or is retried."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from decimal import Decimal
from pathlib import Path

from django.conf import settings
from django.db import transaction
from msgspec import Struct
from prometheus_client import Counter, Gauge

from apply.models import PENDING_STATES, Order, Plan
from permits.desk import payloads
from permits.desk.payloads import GOVERNOR, P33
from permits.gate.outcome import safe_quantity_of
from positions.books import ledger
from quantum import amounts, clock, metrics, rows, together
from quantum.fault import fault_point
from quantum.log import log
from quantum.plan import STEPS, Action
from quantum.redis import Client, Script

RESULT_ONCE_S = 86_400

PLANS = Counter("quantum_apply_plan_total", "Plans that ended", ["symbol", "decision"])
EXECUTIONS = Counter("quantum_apply_execute_total", "Steps that were tried", ["symbol", "step", "status"])
LAST_SUCCESS = Gauge(
    "quantum_apply_last_success_epoch", "When an exit last filled", multiprocess_mode="mostrecent"
)

_FINISH = Script(Path(__file__).parent / "lua" / "finish-5.lua")


def finish_if_final(client: Client, plan_id: str, *, token: str) -> None:
    plan = _plan(plan_id)
    if plan.state not in PENDING_STATES:
        _finish(client, plan, token=token)


def finish(client: Client, plan_id: str, *, token: str = "") -> str:
    """Idempotent: run by apply when a plan ends, and again by the janitor where a death came between."""
    return _finish(client, _plan(plan_id), token=token)


def _plan(plan_id: str) -> Plan:
    found = rows.one(Plan, where={"plan_id": plan_id})
    if found is None:
        raise Plan.DoesNotExist(plan_id)
    return found


def _finish(client: Client, plan: Plan, *, token: str) -> str:
    order = rows.one(Order, where={"plan_id": plan.plan_id})
    result = tell(client, plan, order, token=token)
    note(client, [result])
    return result.stream_id


class Result(Struct, frozen=True):
    """An end that the stream has been told of, and its rows may not know it yet."""

    plan: Plan
    order: Order | None
    fields: dict[str, str]
    stream_id: str

    @property
    def executed(self) -> bool:
        return self.fields["executed"] == "True"


def tell(client: Client, plan: Plan, order: Order | None, *, token: str) -> Result:
    fields = result_fields(plan, order)
    stream_id = _tell(client, plan, fields, token=token)
    fault_point("result_published")
    return Result(plan, order, fields, stream_id.decode())


def note(client: Client, told: Sequence[Result]) -> None:
    """The id into each plan's row, once, and what goes with the first time: counts, a line, the ledger's copy."""
    moved: dict[str, dict[str, str]] = {}
    for result in together.run(lambda: _note(told)):
        plan, order, error = result.plan, result.order, result.fields["error"]
        _count(plan, order, executed=result.executed)
        if order is not None and result.executed:
            moved[order.symbol] = _last(order)
        log.info(
            f"{plan.symbol}: Result published (executed={result.executed}, error={error})", plan=plan.plan_id
        )
    if moved:
        ledger.project_exits(client, moved)


def _note(told: Sequence[Result]) -> list[Result]:
    with transaction.atomic():
        return [
            result
            for result in told
            if rows.change(
                Plan,
                {"result_id": result.stream_id},
                where={"plan_id": result.plan.plan_id, "result_id": ""},
            )
        ]


def finish_all(client: Client, plan_ids: Collection[str]) -> None:
    """The same for many that came to no order: one result each, their rows in one transaction, no line each."""
    if not plan_ids:
        return
    plans = list(Plan.objects.filter(plan_id__in=plan_ids))
    told = [(plan, _tell(client, plan, result_fields(plan, None), token="")) for plan in plans]
    with transaction.atomic():
        counted = [
            plan
            for plan, stream_id in told
            if Plan.objects.filter(plan_id=plan.plan_id, result_id="").update(result_id=stream_id.decode())
        ]
    for plan in counted:
        _count(plan, None, executed=False)


def _tell(client: Client, plan: Plan, fields: dict[str, str], *, token: str) -> bytes:
    keys = settings.KEYS
    said = [part for pair in fields.items() for part in pair]
    stream_id: bytes = _FINISH(
        client,
        keys=(
            keys.result_published(plan.plan_id),
            keys.result_stream,
            keys.slot(plan.symbol),
            keys.feed_wake,
            keys.reserved(GOVERNOR),
        ),
        args=(token, int(fields["executed"] == "True"), RESULT_ONCE_S, plan.plan_id, *said),
    )
    return stream_id


def _last(order: Order) -> dict[str, str]:
    """What moved a symbol last, beside the ledger's copy for readers in Redis."""
    return {
        "last_order_id": str(order.order_id or ""),
        "last_result_plan_id": order.plan_id,
        "last_executed_qty": _amount(order.executed_quantity),
        "last_side": order.side,
    }


def result_fields(plan: Plan, order: Order | None) -> dict[str, str]:
    """From the rows alone: whoever tells it again tells the same, but for the time. What a person said was filled
    (order_resolve) is executed, with the quantity that was seen, or none."""
    executed = order is not None and (bool(order.executed_quantity) or plan.state == Plan.State.FILLED)
    return {
        "plan_id": plan.plan_id,
        "symbol": plan.symbol,
        "decision": plan.decision,
        "executed": str(executed),
        "would_execute": str(plan.would_quantity is not None),
        "error": plan.error,
        "gate_reason": plan.gate_reason,
        "wait_ms": str(plan.wait_ms if plan.wait_ms is not None else ""),
        "safe_qty": _amount(_safe_quantity(order) if order else plan.safe_quantity),
        "quantity": _amount(order.quantity if order else plan.would_quantity),
        "order_id": str(order.order_id or "") if order else "",
        "client_order_id": order.client_order_id if order else "",
        "executed_qty": _amount(order.executed_quantity if order else None),
        "avg_price": _amount(order.average_price if order else None),
        "profit_realized": _amount(order.realized_pnl if order else None),
        "commission": json.dumps(order.commission if order else {}, separators=(",", ":"), sort_keys=True),
        "steps_results": json.dumps(_steps(plan, order), separators=(",", ":")),
        "timestamp": f"{clock.now_s():.3f}",
    }


def _safe_quantity(order: Order) -> Decimal | None:
    """Of the permits that stand in the order, as they were spent. A row that somebody bent says nothing, and its plan
    is told all the same."""
    spent = ((GOVERNOR, order.governor_permit), (P33, order.p33_permit))
    try:
        governor, p33 = (payloads.read(text.encode(), gate=gate, all_fields=False) for gate, text in spent)
        return safe_quantity_of(governor, p33)
    except (payloads.Malformed, ValueError):
        return None


def _steps(plan: Plan, order: Order | None) -> list[dict[str, str]]:
    step = STEPS.get(Action(plan.action))
    if step is None:
        return []
    return [
        {
            "step": step.name,
            "state": plan.state,
            "executed_qty": _amount(order.executed_quantity if order else None),
        }
    ]


def _amount(value: Decimal | None) -> str:
    return "" if value is None else amounts.plain(value)


def _count(plan: Plan, order: Order | None, *, executed: bool) -> None:
    symbol = metrics.symbol_label(plan.symbol)
    PLANS.labels(symbol=symbol, decision=plan.decision).inc()
    if order is not None:
        EXECUTIONS.labels(symbol=symbol, step=order.step, status=plan.state).inc()
    if executed:
        LAST_SUCCESS.set(clock.now_s())
