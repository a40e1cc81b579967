"""Outcome -> fills -> ledger, lock released: one transaction. The ledger moves on trades, never on a reply."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from decimal import Decimal

from django.conf import settings
from django.db import transaction
from msgspec import Struct

from apply.acting import settlement
from apply.acting.told import Told
from apply.models import Inquiry, Order, Plan
from apply.plans import transitions
from permits.desk import payloads, records
from permits.governor import usage
from positions.books import ledger
from positions.books.ledger import SeenTrade
from positions.models import Fill, LedgerEntry, SymbolLock
from quantum import amounts, audit, clock, rows, together
from quantum.exchange.reading import Reader, ReadFailed
from quantum.exchange.types import OrderState, OrderStatus, Refused, Trade
from quantum.fault import fault_point
from quantum.log import log
from quantum.reasons import ApplyReason
from quantum.redis import Client

State = Plan.State
IN_FLIGHT = (State.INTENDED, State.UNKNOWN)
REFUSED, NOT_FOUND, BY_PERSON = "REFUSED", "NOT_FOUND", "BY_PERSON"
"""What an order ended as where no answer of the exchange says it."""
NEVER_ANSWERED: dict[str, None] = {"order_id": None}
"""Said of the row in the statement that ends it as never there: an answer may be written at this very moment."""
TRADES_PAUSES_S = (0.0, 0.1, 0.5)


class Proof(Struct, frozen=True):
    """A terminal order and every trade of it: enough to move the ledger."""

    state: OrderState
    trades: list[Trade]
    stored: bool = False
    """They were read from our own rows."""


def gather(reader: Reader, state: OrderState, *, told: Told | None = None) -> Proof | None:
    """None while the trades the exchange shows do not add up to what it says it executed."""
    if not state.status.terminal:
        return None
    if state.executed_quantity == 0:
        return Proof(state, [])
    heard = told.trades_of(state) if told else None
    if heard is not None:
        return Proof(state, heard, stored=True)
    for pause_s in TRADES_PAUSES_S:
        clock.sleep_s(pause_s)
        try:
            trades = reader.trades_of_order(symbol=state.symbol, order_id=state.order_id)
        except ReadFailed:
            continue
        if sum((trade.quantity for trade in trades), Decimal(0)) == state.executed_quantity:
            return Proof(state, trades)
    return None


def record_reply(order: Order, state: OrderState) -> None:
    """What the exchange answered, kept at once; it moves neither the plan nor the ledger. Read so late that somebody
    has settled the order since, it changes nothing: what an end came to is sealed."""
    kept = Order.objects.filter(plan_id=order.plan_id, settled_at=None).update(
        order_id=state.order_id,
        status=state.status.value,
        answered_at=order.answered_at,
        sent_at=order.sent_at,
    )
    if not kept:
        log.warning(
            f"{order.symbol}: an answer was read after the order had been settled",
            plan=order.plan_id,
            order=state.order_id,
            status=state.status,
        )


class End(Struct, frozen=True):
    """What the plan's row says since this settlement."""

    state: Plan.State
    error: str


def settle(order: Order, proof: Proof, *, actor: str) -> End | None:
    """None: someone else has settled it. Apply and the resolver may both come here; one row decides. Where it is ours
    the order is what its row has become."""
    return together.run(lambda: _settle(order, proof, actor))


def _settle(order: Order, proof: Proof, actor: str) -> End | None:
    state, executed = proof.state, proof.state.executed_quantity
    seen = [SeenTrade(trade, order.client_order_id) for trade in proof.trades]
    pile = rows.Pile()
    with transaction.atomic():
        end = _end_of(order, executed)
        error = "" if executed else _why_nothing(order, state)
        told = settlement.told(state.status.value, executed, proof.trades)
        if not transitions.move(
            order.plan_id, come_from=IN_FLIGHT, to=end, actor=actor, error=error, told=told, pile=pile
        ):
            return None
        if not proof.stored:
            ledger.store(seen)
        fault_point("exit_stored")
        ledger.book(seen, kind=LedgerEntry.Kind.EXIT, actor=actor, plan_id=order.plan_id, pile=pile)
        _record_permits(order, pile)
        _charge(order, proof, pile)
        _release(order, pile)
        proved = {
            "order_id": state.order_id,
            "status": state.status.value,
            "executed_quantity": executed,
            "average_price": state.average_price,
            "realized_pnl": sum((trade.realized_pnl for trade in proof.trades), Decimal(0)),
            "commission": _commission(proof.trades),
            "settled_at": clock.now(),
            **_moments(order),
        }
        rows.change(Order, proved, where={"plan_id": order.plan_id}, pile=pile)
        pile.send(last=True)
    for name, value in proved.items():
        setattr(order, name, value)
    return End(end, error)


def _why_nothing(order: Order, state: OrderState) -> str:
    """Cancelled by us, or by the market."""
    asked = Inquiry.objects.filter(plan_id=order.plan_id, cancel_sent_at__isnull=False)
    ours = state.status is OrderStatus.CANCELED and asked.exists()
    return (ApplyReason.CANCELLED if ours else ApplyReason.REJECTED_MARKET).value


def _commission(trades: list[Trade]) -> dict[str, str]:
    paid = defaultdict[str, Decimal](Decimal)
    for trade in trades:
        paid[trade.commission_asset] += trade.commission
    return {asset: amounts.plain(amount) for asset, amount in paid.items()}


def _end_of(order: Order, executed: Decimal) -> Plan.State:
    if executed == 0:
        return State.REJECTED
    return State.FILLED if executed >= order.quantity else State.PARTIALLY_FILLED


def refuse(order: Order, refused: Refused, *, to: Plan.State, error: str, actor: str) -> bool:
    """Surely not executed: the lock is released, the plan ends, a new attempt needs new permits."""
    with transaction.atomic():
        told = settlement.told(REFUSED, Decimal(0))
        if not transitions.move(
            order.plan_id, come_from=IN_FLIGHT, to=to, actor=actor, error=error, told=told
        ):
            return False
        _record_permits(order)
        if to != State.ALREADY_DONE:  # flat is what the plan wanted: no failure
            usage.failed(plan_id=order.plan_id, symbol=order.symbol)
        _release(order)
        Order.objects.filter(plan_id=order.plan_id).update(
            status=REFUSED,
            executed_quantity=Decimal(0),
            error=error,
            error_code=refused.code,
            error_text=refused.text[:200],
            settled_at=clock.now(),
            sent_at=order.sent_at,
            answered_at=order.answered_at,
        )
    return True


def not_at_exchange(order: Order, *, actor: str, evidence: str) -> bool:
    """The exchange proved that it never had the order. False also where it has answered the order itself."""
    with transaction.atomic():
        error = ApplyReason.NOT_AT_EXCHANGE.value
        told = settlement.told(NOT_FOUND, Decimal(0))
        if not transitions.move(
            order.plan_id, come_from=IN_FLIGHT, to=State.NOT_AT_EXCHANGE, actor=actor, error=error, told=told
        ):
            return False
        _record_permits(order)
        usage.failed(plan_id=order.plan_id, symbol=order.symbol)
        _release(order)
        ended = Order.objects.filter(plan_id=order.plan_id, **NEVER_ANSWERED).update(
            status=NOT_FOUND,
            executed_quantity=Decimal(0),
            error=error,
            error_text=evidence[:200],
            settled_at=clock.now(),
        )
        if not ended:
            transaction.set_rollback(True)
    return bool(ended)


def unknown(order: Order, *, text: str, actor: str) -> bool:
    """Neither failed nor sent again: the symbol stays locked until there is proof (I5)."""
    with transaction.atomic():
        moved = transitions.move(
            order.plan_id,
            come_from=(State.INTENDED,),
            to=State.UNKNOWN,
            actor=actor,
            error=ApplyReason.UNKNOWN_OUTCOME.value,
        )
        if moved:  # it may stay so for hours, and the sweep must not call the pair expired
            _record_permits(order)
        Order.objects.filter(plan_id=order.plan_id, settled_at=None).update(
            error=ApplyReason.UNKNOWN_OUTCOME.value, error_text=text[:200], **_moments(order)
        )
    return moved


def _moments(order: Order) -> dict[str, dt.datetime]:
    """As far as the caller knows them. The resolver's copy may be from before apply wrote them down."""
    known = {"sent_at": order.sent_at, "answered_at": order.answered_at}
    return {name: at for name, at in known.items() if at is not None}


class Word(Struct, frozen=True):
    """What a person says became of an order whose fate nobody can prove."""

    filled: bool
    by: str
    reason: str
    evidence: dict[str, object]


def decide(order: Order, word: Word) -> bool:
    """A person's word instead of proof (I5). The ledger moves by the trades that were seen and by nothing else: what
    was executed beyond them shows as drift, which stops the symbol until somebody reconciles it (I11). False: it was
    settled meanwhile, or the exchange's answer to it came in, and it is not to be called never there."""
    to = State.FILLED if word.filled else State.NOT_AT_EXCHANGE
    error = (ApplyReason.RESOLVED_BY_PERSON if word.filled else ApplyReason.NOT_AT_EXCHANGE).value
    with transaction.atomic():
        before = Plan.objects.values_list("state", flat=True).get(plan_id=order.plan_id)
        seen = seen_trades(order) if word.filled else []
        trades = [each.trade for each in seen]
        executed = sum((trade.quantity for trade in trades), Decimal(0)) if seen or not word.filled else None
        told = settlement.told(BY_PERSON, executed, trades)
        if not transitions.move(
            order.plan_id, come_from=IN_FLIGHT, to=to, actor=word.by, error=error, told=told
        ):
            return False
        ledger.book(seen, kind=LedgerEntry.Kind.EXIT, actor=word.by, plan_id=order.plan_id)
        _record_permits(order)
        _charge_word(order, seen, filled=word.filled)
        _release(order)
        stands = {} if word.filled else NEVER_ANSWERED
        ended = Order.objects.filter(plan_id=order.plan_id, **stands).update(
            status=BY_PERSON,
            executed_quantity=executed,
            realized_pnl=sum((trade.realized_pnl for trade in trades), Decimal(0)) if seen else None,
            commission=_commission(trades),
            error=error,
            error_text=f"{word.by}: {word.reason}"[:200],
            settled_at=clock.now(),
        )
        if not ended:
            transaction.set_rollback(True)
            return False
        audit.record(
            kind="order_resolved",
            actor=word.by,
            plan_id=order.plan_id,
            symbol=order.symbol,
            reason=word.reason,
            data={
                "before": before,
                "after": to.value,
                "booked": amounts.plain(executed or Decimal(0)),
                **word.evidence,
            },
        )
    return True


def seen_trades(order: Order) -> list[SeenTrade]:
    """Of an order that is not settled: what the stream told, and what the resolver read."""
    stored = Fill.objects.filter(account=settings.ACCOUNT, client_order_id=order.client_order_id)
    return [SeenTrade(ledger.trade_of(fill), fill.client_order_id) for fill in stored.order_by("trade_id")]


def _charge_word(order: Order, seen: list[SeenTrade], *, filled: bool) -> None:
    """What a person calls filled is charged in full: no trade may be missing from the limits that was made."""
    if not filled:
        usage.failed(plan_id=order.plan_id, symbol=order.symbol)
        return
    traded = sum((each.trade.quantity * each.trade.price for each in seen), Decimal(0))
    permit = payloads.read(order.governor_permit.encode(), gate=payloads.GOVERNOR, all_fields=False)
    notional = max(traded, permit.notional or Decimal(0))
    usage.executed(plan_id=order.plan_id, symbol=order.symbol, quantity=order.quantity, notional=notional)


def _charge(order: Order, proof: Proof, pile: rows.Pile) -> None:
    """The Governor's limits are charged with what was traded, never with what was permitted."""
    quantity = sum((trade.quantity for trade in proof.trades), Decimal(0))
    if not quantity:
        usage.failed(plan_id=order.plan_id, symbol=order.symbol, pile=pile)
        return
    notional = sum((trade.quantity * trade.price for trade in proof.trades), Decimal(0))
    usage.executed(
        plan_id=order.plan_id, symbol=order.symbol, quantity=quantity, notional=notional, pile=pile
    )


def _release(order: Order, pile: rows.Pile | None = None) -> None:
    mine = {"account": settings.ACCOUNT, "symbol": order.symbol, "plan_id": order.plan_id}
    rows.remove(SymbolLock, where=mine, pile=pile)


def record_unsent(client: Client, plan_id: str) -> None:
    """A pair that was spent and came to no order: only the receipt has it, for minutes. Without this its rows
    would end as expired, and nothing would show who spent them."""
    governor, p33 = client.hmget(settings.KEYS.receipt(plan_id), "governor", "p33")
    if governor is None or p33 is None:
        return
    try:
        _record_pair(plan_id, governor, p33)
    except payloads.Malformed:
        return  # a receipt that somebody bent; what was spent is not known


def _record_permits(order: Order, pile: rows.Pile | None = None) -> None:
    """Both permits stand in the order in full; here their own rows learn that they are spent."""
    _record_pair(order.plan_id, order.governor_permit.encode(), order.p33_permit.encode(), pile)


def _record_pair(plan_id: str, governor: bytes, p33: bytes, pile: rows.Pile | None = None) -> None:
    records.record_spent(plan_id, {payloads.GOVERNOR: governor, payloads.P33: p33}, pile=pile)
