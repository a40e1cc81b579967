"""Our records against the exchange's own lists of orders and trades, which nobody here can write."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict

from django.conf import settings
from django.db.models import Min
from msgspec import Struct

from apply.models import Order
from apply.proof_report import races
from apply.proof_report.report import Part, Span
from positions.judging import difference
from positions.judging.difference import Origin
from positions.models import Fill, LedgerEntry
from quantum import amounts, clock
from quantum.exchange.reading import History, ReadFailed
from quantum.exchange.types import OrderState, Trade
from quantum.plan import plan_of_order

YOUNG = dt.timedelta(seconds=10)
"""A trade so young may still be on its way to us; those of an order that was settled are not."""
SKEW = dt.timedelta(seconds=2)
_COMPARED = ("client_order_id", "side", "quantity", "executed_quantity", "settled_at")


class Told(Struct, frozen=True):
    """What the exchange says of one symbol. Asked before our rows are read: an intent is there before its order is."""

    orders: list[OrderState]
    trades: list[Trade]
    asked_at: dt.datetime


def of_exchange(span: Span, history: History | None, why_not: str = "") -> Part:
    part = Part("exchange", "Against the exchange's own lists")
    if history is None:
        part.doubts.append(why_not or "the exchange was not asked")
        return part
    entered = dict(
        LedgerEntry.objects.filter(account=settings.ACCOUNT)
        .order_by()
        .values_list("symbol")
        .annotate(first=Min("at"))
    )
    n: Counter[str] = Counter()
    orders = Order.objects.filter(intended_at__range=span.both).order_by()
    traded = orders.values_list("symbol", flat=True).distinct()
    for symbol in sorted({*entered, *settings.APPLY_ALLOWLIST, *traded}):
        try:
            told = _ask(history, symbol, span)
        except ReadFailed as failed:
            part.doubts.append(f"{symbol}: {failed}")
            continue
        n["symbols"] += 1
        n["orders"] += len(told.orders)
        n["trades"] += len(told.trades)
        n["orders of ours"] += _orders(part, symbol, told, span)
        n["orders of declared bots"] += sum(_origin(each) is Origin.DECLARED for each in told.orders)
        if symbol in entered:
            _fills(part, symbol, told, max(span.since, entered[symbol]))
    for name in ("symbols", "orders", "orders of ours", "orders of declared bots", "trades"):
        part.figure(name, n[name], of=n[name])
    part.figure("found", part.wrongs, of=n["orders"] + n["trades"])
    return part


def _ask(history: History, symbol: str, span: Span) -> Told:
    since_ms, asked_ms = _ms(span.since), history.now_ms()
    until_ms = _ms(span.until)
    made = history.orders_since(symbol=symbol, since_ms=since_ms)
    trades = history.trades_since(symbol=symbol, since_ms=since_ms)
    return Told(
        orders=[each for each in made if each.updated_ms <= until_ms],
        trades=[each for each in trades if each.time_ms <= until_ms],
        asked_at=min(span.until, clock.from_ms(asked_ms)),
    )


def _orders(part: Part, symbol: str, told: Told, span: Span) -> int:
    """How many are ours."""
    ours = [each for each in told.orders if _origin(each) is Origin.OURS]
    ids = [each.client_order_id for each in ours]
    rows = Order.objects.filter(client_order_id__in=ids).order_by()
    known = {row.client_order_id: row for row in rows.only(*_COMPARED)}
    # Those whose row says another time: no other part has looked at them, and the exchange lists them now.
    races.unpermitted(part, rows.exclude(intended_at__range=span.both))
    by_plan: dict[str, set[int]] = defaultdict(set)
    for each in ours:
        plan_id = plan_of_order(each.client_order_id) or ""
        by_plan[plan_id].add(each.order_id)
        if each.client_order_id not in known:
            text = f"{_said(each)}: it bears our prefix, and no order row knows it"
            part.wrong("order_unknown_to_us", text, plan_id=plan_id, symbol=symbol)
            continue
        if other := _differs(each, known[each.client_order_id]):
            text = f"{_said(each)}, executed {amounts.plain(each.executed_quantity)}: our row {other}"
            part.wrong("order_differs_at_exchange", text, plan_id=plan_id, symbol=symbol)
    for plan_id, numbers in by_plan.items():
        if plan_id and len(numbers) > 1:
            text = f"plan {plan_id} has the orders {', '.join(map(str, sorted(numbers)))} at the exchange"
            part.wrong("two_orders_of_a_plan", text, plan_id=plan_id, symbol=symbol)
    for each in told.orders:
        if _origin(each) is Origin.MANUAL:
            part.wrong(
                "order_by_hand", f"{_said(each)}: by hand, or of a bot that is not declared", symbol=symbol
            )
        elif _origin(each) is Origin.EXCHANGE:
            part.wrong("order_by_exchange", f"{_said(each)}: by the exchange itself", symbol=symbol)
    _not_there(part, symbol, {each.client_order_id for each in ours}, told, span)
    return len(ours)


def _differs(each: OrderState, row: Order) -> str:
    """What it executed is compared once both sides have ended."""
    if (each.side.value, each.quantity) != (row.side, row.quantity):
        return f"says {row.side} {amounts.plain(row.quantity)}"
    executed = row.executed_quantity
    ended = each.status.terminal and row.settled_at is not None and executed is not None
    if ended and executed != each.executed_quantity:
        return f"says that it executed {amounts.plain(executed)}"
    return ""


def _not_there(part: Part, symbol: str, there: set[str], told: Told, span: Span) -> None:
    """What executed is remembered for three months; what ended without a fill is forgotten after days."""
    mine = Order.objects.filter(symbol=symbol, intended_at__range=(span.since + SKEW, told.asked_at - YOUNG))
    rows = mine.order_by().values_list("plan_id", "client_order_id", "executed_quantity")
    for plan_id, client_id, executed in rows:
        if executed and client_id not in there:
            text = f"{symbol}: {client_id} counts as executed, and the exchange does not list it"
            part.wrong("order_not_at_exchange", text, plan_id=plan_id, symbol=symbol)


def _fills(part: Part, symbol: str, told: Told, since: dt.datetime) -> None:
    by_order = {each.order_id: each.client_order_id for each in told.orders}
    mine = Fill.objects.filter(account=settings.ACCOUNT, symbol=symbol, at__gte=since).order_by()
    fills = {
        trade_id: (at, cid) for trade_id, at, cid in mine.values_list("trade_id", "at", "client_order_id")
    }
    settled = set(
        Order.objects.filter(client_order_id__in=by_order.values(), settled_at__isnull=False).values_list(
            "client_order_id", flat=True
        )
    )
    since_ms, due_ms = _ms(since), _ms(clock.now() - YOUNG)
    for trade in told.trades:
        client_id = by_order.get(trade.order_id, "")
        due = trade.time_ms <= due_ms or client_id in settled
        if since_ms < trade.time_ms and due and trade.trade_id not in fills:
            text = (
                f"{symbol}: trade {trade.trade_id} of order {client_id or trade.order_id}, {trade.side} "
                f"{amounts.plain(trade.quantity)}, is at the exchange and in no fill of ours"
            )
            part.wrong("fill_missing", text, plan_id=plan_of_order(client_id) or "", symbol=symbol)
    there = {trade.trade_id for trade in told.trades}
    for trade_id, (at, client_id) in fills.items():
        if at <= told.asked_at - SKEW and trade_id not in there:
            text = f"{symbol}: fill {trade_id} is in our books, and the exchange lists no such trade"
            part.wrong("fill_not_at_exchange", text, plan_id=plan_of_order(client_id) or "", symbol=symbol)


def _origin(order: OrderState) -> Origin:
    return difference.origin(order.client_order_id, sources=settings.LEDGER_SOURCES)


def _said(order: OrderState) -> str:
    return (
        f"{order.symbol}: order {order.order_id} ({order.client_order_id}), {order.side} "
        f"{amounts.plain(order.quantity)}, {order.status}"
    )


def _ms(at: dt.datetime) -> int:
    return int(at.timestamp() * 1000)
