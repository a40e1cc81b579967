"""The intent: one compare-and-set transaction between a spent pair and an order. No record, no order (I4)."""

from __future__ import annotations

from decimal import Decimal

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import IntegrityError, transaction

from apply.acting.sizing import Size
from apply.models import Order, Plan
from permits.gate.outcome import SpentPair
from permits.models import TradingState
from positions.books import ledger
from positions.models import SymbolLock
from quantum import ailing, amounts, audit, clock, rows, together
from quantum.plan import Step
from quantum.reasons import ApplyReason, GateReason

CONSUME_TO_INTENT_S = 2.0
ACTOR = "apply"


class _NotIntended(Exception):
    """Rolls the transaction back; carries the reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def make(pair: SpentPair, size: Size, *, stream_id: str, timestamp_ms: int) -> Order | str:
    """The committed order row, or the reason why nothing may be sent."""

    def intend() -> Order:
        with transaction.atomic():
            return _make(pair, size, stream_id, timestamp_ms)

    try:
        return together.run(intend)
    except _NotIntended as refused:
        return refused.reason
    except IntegrityError:
        # A second intent for this plan, or a symbol whose last order is still in flight.
        return ApplyReason.SYMBOL_LOCKED.value
    except DatabaseError as error:
        ailing.note(error)
        return ApplyReason.AUDIT_UNAVAILABLE.value


_INTEND = "UPDATE apply_plan SET state = %s, wait_ms = %s, stream_id = %s WHERE plan_id = %s AND state = %s"
_GUARDS = """
SELECT (SELECT state || ' ' || scope FROM permits_tradingstate ORDER BY version DESC LIMIT 1),
       (SELECT id FROM permits_hold WHERE symbol = %s AND lifted_at IS NULL),
       (SELECT amount FROM positions_balance WHERE account = %s AND symbol = %s),
       (SELECT exit_ms FROM positions_balance WHERE account = %s AND symbol = %s)
"""


def _make(pair: SpentPair, size: Size, stream_id: str, timestamp_ms: int) -> Order:
    plan = pair.plan
    if plan.step is None:
        raise _NotIntended(ApplyReason.ACTION_UNSUPPORTED.value)
    intended = (Plan.State.INTENDED, pair.wait_ms, stream_id, plan.plan_id, Plan.State.OPEN)
    if rows.run(_INTEND, intended) != 1:
        raise _NotIntended(ApplyReason.DUPLICATE.value)
    # Before anything is read: on PostgreSQL it waits for a settlement of the symbol that is being committed, and
    # what is read after that has its exit in it. The other way round, that exit's share was taken twice (I3).
    pile = rows.Pile()
    lock = {"account": settings.ACCOUNT, "symbol": plan.symbol, "plan_id": plan.plan_id}
    rows.add(SymbolLock, lock, pile=pile)
    book = (settings.ACCOUNT, plan.symbol)
    standing, hold_id, amount, exit_ms = pile.first(_GUARDS, (plan.symbol, *book, *book))
    if exit_ms is not None and ledger.is_of_a_wrong_clock(exit_ms):
        exit_ms = None  # the amount still tells whether the position has shrunk
    if not _is_let_pass(pair, standing or ""):
        raise _NotIntended(GateReason.HALTED.value)
    if hold_id is not None and hold_id != pair.hold_id:
        raise _NotIntended(GateReason.HOLD.value)
    changed = (
        _has_exited(pair, exit_ms)
        if _is_signed_past_the_ledger(pair, hold_id)
        else _has_changed(pair, size, percent=plan.step.percent, amount=amount, exit_ms=exit_ms)
    )
    if changed:
        raise _NotIntended(ApplyReason.POSITION_CHANGED.value)
    order = _order(pair, size, step=plan.step, timestamp_ms=timestamp_ms)
    rows.insert(order, pile=pile)
    _record(order, pair, standing=standing, pile=pile)
    pile.send()
    # Last: a slow database must not turn a stale consume into an order.
    if clock.boot_s() - pair.consumed_boot_s > CONSUME_TO_INTENT_S:
        raise _NotIntended(ApplyReason.SPENT_UNSENT.value)
    return order


def _is_let_pass(pair: SpentPair, standing: str) -> bool:
    """The rule of the consume again, on the row itself: a halt of automatic plans spares an operator's."""
    state, _, scope = standing.partition(" ")
    if state == TradingState.State.ACTIVE:
        return True
    return scope == TradingState.Scope.AUTOMATIC and pair.by_operator


def _has_changed(
    pair: SpentPair, size: Size, *, percent: int, amount: Decimal | str | None, exit_ms: int | None
) -> bool:
    """Another exit was booked since the Brain looked: its share is a share of a position that is gone (I3)."""
    if amount is None:
        return False  # never entered: only permits laid by hand come here
    now, created = Decimal(amount), pair.p33.created_at
    if now * (pair.p33.exchange_amt or 0) <= 0 or size.quantity > abs(now) * percent / 100:
        return True
    return exit_ms is not None and created is not None and exit_ms >= created * 1000


def _is_signed_past_the_ledger(pair: SpentPair, hold_id: int | None) -> bool:
    """A symbol is frozen where the ledger is wrong, and the operator signed past this very hold by what the
    exchange says: to hold that against the ledger again would close the way out for which it is there (I17)."""
    return hold_id is not None and pair.p33.by_operator and pair.p33.hold_id == hold_id


def _has_exited(pair: SpentPair, exit_ms: int | None) -> bool:
    """Since the oldest snapshot that the operator may have signed by."""
    if pair.p33.created_at is None:
        return True
    return exit_ms is not None and exit_ms >= (pair.p33.created_at - settings.P33_STALE_THRESHOLD_SEC) * 1000


def _order(pair: SpentPair, size: Size, *, step: Step, timestamp_ms: int) -> Order:
    return rows.new(
        Order,
        plan_id=pair.plan.plan_id,
        step=step.name,
        client_order_id=f"q-{pair.plan.plan_id}-{step.percent}",
        symbol=pair.plan.symbol,
        side=size.side.value,
        quantity=size.quantity,
        timestamp_ms=timestamp_ms,
        consumed_at=clock.from_ms(pair.consumed_ms),
        token=pair.token,
        governor_permit=pair.governor.raw.decode(),
        p33_permit=pair.p33.raw.decode(),
    )


def _record(order: Order, pair: SpentPair, *, standing: str, pile: rows.Pile) -> None:
    passed = (
        {"operator": _operators_names(pair), "state": standing, "hold_id": pair.hold_id}
        if pair.by_operator
        else {}
    )
    audit.record(
        kind="order_intended",
        actor=ACTOR,
        plan_id=order.plan_id,
        symbol=order.symbol,
        data={
            "client_order_id": order.client_order_id,
            "quantity": amounts.plain(order.quantity),
            "side": order.side,
            **passed,
        },
        pile=pile,
    )


def _operators_names(pair: SpentPair) -> str:
    return " ".join(
        sorted({permit.issuer or "" for permit in (pair.governor, pair.p33) if permit.by_operator})
    )
