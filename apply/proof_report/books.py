"""The ledger against the fills that moved it, entry by entry, and against what the orders say they executed."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal

from django.conf import settings
from django.db.models import Exists, OuterRef, Subquery

from apply.models import Order
from apply.proof_report.plans import GRACE
from apply.proof_report.report import Part, Span
from positions.judging.difference import OWN_PREFIX
from positions.models import Balance, Fill, LedgerEntry
from quantum import amounts, clock

Kind = LedgerEntry.Kind
_COLUMNS = ("symbol", "id", "kind", "delta", "balance", "plan_id", "fill__side", "fill__quantity")


def of_ledger(span: Span) -> Part:
    part = Part("ledger", "Ledger against fills")
    fills = Fill.objects.filter(account=settings.ACCOUNT, at__range=span.both).order_by()
    entry = LedgerEntry.objects.filter(fill=OuterRef("pk"))
    lost = fills.filter(~Exists(entry), booked=True)
    for symbol, trade_id in lost.values_list("symbol", "trade_id"):
        text = f"{symbol}: trade {trade_id} counts as booked, and no entry of the ledger is of it"
        part.wrong("fill_not_in_ledger", text, symbol=symbol)
    waiting = fills.filter(booked=False, client_order_id__startswith=OWN_PREFIX)
    for symbol, trade_id in waiting.filter(recorded_at__lt=clock.now() - GRACE).values_list(
        "symbol", "trade_id"
    ):
        part.wrong("fill_not_booked", f"{symbol}: trade {trade_id} of ours was never booked", symbol=symbol)
    entries, exited = _entries(part, span)
    settled = _executed(part, span, exited)
    _balances(part)
    part.figure("entries", entries, of=entries)
    n = fills.count()
    part.figure("fills", n, of=n)
    part.figure("settled orders", settled, of=settled)
    part.figure("found", part.wrongs, of=entries + settled)
    return part


def _entries(part: Part, span: Span) -> tuple[int, dict[str, Decimal]]:
    """Each one moves by its fill and stands on the one before it. Per plan what its entries closed."""
    n, before = 0, dict[str, Decimal]()
    exited: dict[str, Decimal] = defaultdict(Decimal)
    mine = LedgerEntry.objects.filter(account=settings.ACCOUNT, recorded_at__gte=span.since)
    rows = mine.order_by("symbol", "id").values_list(*_COLUMNS)
    for symbol, number, kind, delta, balance, plan_id, side, quantity in rows.iterator():
        n += 1
        stood = before.get(symbol)
        if stood is not None and stood + delta != balance:
            text = f"{symbol}: entry {number} makes {_plain(stood)} and {_plain(delta)} to {_plain(balance)}"
            part.wrong("ledger_chain_broken", text, plan_id=plan_id, symbol=symbol)
        before[symbol] = balance
        if quantity is not None and delta != (quantity if side == "BUY" else -quantity):
            text = f"{symbol}: entry {number} moves {_plain(delta)}, its fill was {side} {_plain(quantity)}"
            part.wrong("entry_is_not_its_fill", text, plan_id=plan_id, symbol=symbol)
        if kind == Kind.EXIT:
            exited[plan_id] += abs(delta)
    return n, exited


def _executed(part: Part, span: Span, exited: dict[str, Decimal]) -> int:
    n = 0
    orders = Order.objects.filter(intended_at__range=span.both, settled_at__isnull=False).order_by()
    for plan_id, symbol, executed in orders.values_list("plan_id", "symbol", "executed_quantity").iterator():
        n += 1
        booked = exited.get(plan_id, Decimal(0))
        if (executed or 0) != booked:
            text = f"plan {plan_id} executed {_plain(executed or Decimal(0))}, its ledger entries are {_plain(booked)}"
            part.wrong("executed_not_in_ledger", text, plan_id=plan_id, symbol=symbol)
    return n


def _balances(part: Part) -> None:
    """The running sum and the last entry are written together: one question sees both at one moment."""
    # A range of one symbol, read from its end by its index. Asked by equality the planner expects an entry of it among
    # the newest few and walks back from the last of all: for a symbol that has rested, through the whole table.
    ours = LedgerEntry.objects.filter(
        account=OuterRef("account"), symbol__gte=OuterRef("symbol"), symbol__lte=OuterRef("symbol")
    )
    last = ours.order_by("-symbol", "-id")
    mine = Balance.objects.filter(account=settings.ACCOUNT).annotate(
        last=Subquery(last.values("balance")[:1])
    )
    found = list(mine.values_list("symbol", "amount", "last"))
    for symbol, amount, balance in found:
        if balance is not None and amount != balance:
            text = f"{symbol}: the balance is {_plain(amount)}, the last entry says {_plain(balance)}"
            part.wrong("balance_is_not_the_ledger", text, symbol=symbol)
    part.figure("symbols", len(found), of=len(found))


def _plain(amount: Decimal) -> str:
    return amounts.plain(amount)
