"""What the exits earned and cost: per day as a picture, per symbol, and exit by exit."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from apply.models import Order
from positions.books import profit
from positions.books.profit import Books, Made, Paid
from quantum import amounts, charts, clock, facts, live
from quantum.charts import Chart

DAYS = (7, 30, 90)
EXITS_SHOWN = 20
KEPT_S = 5
LABELS_ABOUT = 6
QUOTES = ("USDT", "USDC", "FDUSD", "BUSD", "BTC")
"""In which a symbol's profit is counted, by the end of its name."""


def page(request: HttpRequest, *, context: dict[str, Any]) -> HttpResponse:
    symbol = request.GET.get("symbol", "").strip().upper()[:40]
    days = next((each for each in DAYS if str(each) == request.GET.get("days")), DAYS[0])
    return TemplateResponse(request, "apply/profit.html", {**context, **shown(symbol=symbol, days=days)})


def shown(*, symbol: str, days: int) -> dict[str, Any]:
    today = clock.now().date()
    span = [today - dt.timedelta(days=back) for back in reversed(range(days))]
    books = live.kept(
        f"profit:{days}:{symbol.encode().hex()}",
        lambda: profit.of(since=span[0], until=today, symbol=symbol),
        life_s=KEPT_S,
    )
    quotes = {quote_of(name) for _, name in books if name}
    each_day, all_of_it = profit.by_day(books, span), _sum(books)
    return {
        "title": "Profit",
        "symbol": symbol,
        "days": days,
        "choices": DAYS,
        "made": _told(all_of_it) if books else None,
        "quote": quotes.pop() if len(quotes) == 1 else "",
        "mixed": ", ".join(sorted(quotes)) if len(quotes) > 1 else "",
        "chart": _chart(each_day) if books and len(quotes) < 2 else None,
        "by_day": [
            {"day": f"{day:%Y-%m-%d}", **_told(made)}
            for day, made in reversed(each_day)
            if made.fills or made.funding
        ],
        "by_symbol": [{"symbol": name, **_told(made)} for name, made in profit.by_symbol(books)],
        "exits": [_exit(order) for order in _exits(span[0], symbol)],
        "exits_shown": EXITS_SHOWN,
    }


def quote_of(symbol: str) -> str:
    """What is not known by its end is counted by itself, and is added to nothing."""
    return next((quote for quote in QUOTES if symbol.endswith(quote)), symbol)


def _sum(books: Books) -> Made:
    total = Made()
    for made in books.values():
        total.add(made)
    return total


def _told(made: Made) -> dict[str, Any]:
    return {
        "fills": made.fills,
        "profit": amounts.plain(made.realized_pnl),
        "sign": "gain" if made.realized_pnl > 0 else "loss" if made.realized_pnl < 0 else "",
        "commission": listed(made.commission),
        "funding": listed(made.funding),
    }


def listed(paid: Paid) -> str:
    return (
        ", ".join(f"{amounts.plain(amount)} {asset}" for asset, amount in sorted(paid.items()) if amount)
        or "0"
    )


def _chart(days: Sequence[tuple[dt.date, Made]]) -> Chart:
    every = -(-len(days) // LABELS_ABOUT)
    labels = [f"{day:%d %b}" if place % every == every // 2 else "" for place, (day, _) in enumerate(days)]
    return charts.signed([made.realized_pnl for _, made in days], labels=labels, says=_says(days))


def _says(days: Sequence[tuple[dt.date, Made]]) -> str:
    ranked = sorted(((made.realized_pnl, day) for day, made in days), reverse=True)
    (best, best_on), (worst, worst_on) = ranked[0], ranked[-1]
    gained = sum(made.realized_pnl > 0 for _, made in days)
    lost = sum(made.realized_pnl < 0 for _, made in days)
    return (
        f"Realised profit by day, {len(days)} days: {gained} with a gain, {lost} with a loss; "
        f"best {amounts.plain(best)} on {best_on:%d %b}, worst {amounts.plain(worst)} on {worst_on:%d %b}"
    )


def _exits(since: dt.date, symbol: str) -> list[Order]:
    begin = dt.datetime.combine(since, dt.time(), tzinfo=dt.UTC)
    rows = Order.objects.filter(intended_at__gte=begin).exclude(realized_pnl=None)
    rows = rows.filter(symbol=symbol) if symbol else rows
    return list(rows.order_by("-intended_at")[:EXITS_SHOWN])


def _exit(order: Order) -> dict[str, Any]:
    profit_of = order.realized_pnl or Decimal(0)
    return {
        "row": order,
        "at": facts.moment(order.intended_at),
        "executed": facts.NOTHING
        if order.executed_quantity is None
        else amounts.plain(order.executed_quantity),
        "price": facts.NOTHING if order.average_price is None else amounts.plain(order.average_price),
        "profit": amounts.plain(profit_of),
        "sign": "gain" if profit_of > 0 else "loss" if profit_of < 0 else "",
        "commission": ", ".join(f"{amount} {asset}" for asset, amount in sorted(order.commission.items()))
        or "0",
        "plan": facts.plan_link(order.plan_id),
    }
