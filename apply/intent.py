"""The intent: one compare-and-set transaction between a spent pair and an order. No record, no order (I4)."""

from __future__ import annotations

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import IntegrityError, transaction

from apply import transitions
from apply.models import Order, Plan
from apply.sizing import Size
from permits import trading
from permits.gate import SpentPair
from permits.models import Hold
from positions.models import SymbolLock
from quantum import amounts, audit, clock
from quantum.reasons import ApplyReason, GateReason

CONSUME_TO_INTENT_S = 2.0
ACTOR = "apply"


class _NotIntended(Exception):
    """Rolls the transaction back; carries the reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def make(pair: SpentPair, size: Size, *, timestamp_ms: int) -> Order | str:
    """The committed order row, or the reason why nothing may be sent."""
    try:
        with transaction.atomic():
            return _make(pair, size, timestamp_ms)
    except _NotIntended as refused:
        return refused.reason
    except IntegrityError:
        # A second intent for this plan, or a symbol whose last order is still in flight.
        return ApplyReason.SYMBOL_LOCKED.value
    except DatabaseError:
        return ApplyReason.AUDIT_UNAVAILABLE.value


def _make(pair: SpentPair, size: Size, timestamp_ms: int) -> Order:
    plan = pair.plan
    if plan.step is None:
        raise _NotIntended(ApplyReason.ACTION_UNSUPPORTED.value)
    changes: dict[str, object] = {"wait_ms": pair.wait_ms}
    if not transitions.move(
        plan.plan_id, come_from=(Plan.State.OPEN,), to=Plan.State.INTENDED, actor=ACTOR, changes=changes
    ):
        raise _NotIntended(ApplyReason.DUPLICATE.value)
    if not trading.current().active:
        raise _NotIntended(GateReason.HALTED.value)
    if Hold.objects.filter(symbol=plan.symbol, lifted_at=None).exists():
        raise _NotIntended(GateReason.HOLD.value)
    SymbolLock.objects.create(account=settings.ACCOUNT, symbol=plan.symbol, plan_id=plan.plan_id)
    order = Order.objects.create(
        plan_id=plan.plan_id,
        step=plan.step.name,
        client_order_id=f"q-{plan.plan_id}-{plan.step.percent}",
        symbol=plan.symbol,
        side=size.side.value,
        quantity=size.quantity,
        timestamp_ms=timestamp_ms,
        consumed_at=clock.from_ms(pair.consumed_ms),
        token=pair.token,
        governor_permit=pair.governor.raw.decode(),
        p33_permit=pair.p33.raw.decode(),
    )
    audit.record(
        kind="order_intended",
        actor=ACTOR,
        plan_id=plan.plan_id,
        symbol=plan.symbol,
        data={
            "client_order_id": order.client_order_id,
            "quantity": amounts.plain(size.quantity),
            "side": size.side,
        },
    )
    # Last: a slow database must not turn a stale consume into an order.
    if clock.boot_s() - pair.consumed_boot_s > CONSUME_TO_INTENT_S:
        raise _NotIntended(ApplyReason.SPENT_UNSENT.value)
    return order
