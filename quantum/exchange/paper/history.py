"""What was: trades, bookings and candles, page by page."""

from __future__ import annotations

from quantum.exchange.paper import rows
from quantum.exchange.paper.call import Call, Params, limit_of, symbols_of, whole
from quantum.exchange.paper.candles import INTERVALS_MS, klines_of
from quantum.exchange.paper.errors import ApiError
from quantum.exchange.paper.orders import required

TRADES_DEFAULT = ORDERS_DEFAULT = 500
INCOME_DEFAULT = 100
KLINES_DEFAULT, KLINES_MAX = 500, 1500
PAGE_MAX = 1000
WEEK_MS = 7 * 24 * 3600 * 1000
INCOME_KEPT_MS = 90 * 24 * 3600 * 1000


def user_trades(call: Call) -> object:
    """fromId goes with neither time; without any of them the newest of the last seven days."""
    (symbol,) = symbols_of(call, required(call.params, "symbol"))
    call.venue.mark(symbol=symbol, now_ms=call.now_ms)
    limit = limit_of(call, default=TRADES_DEFAULT, most=PAGE_MAX)
    where, newest = ["symbol = ?"], None
    asked: list[object] = [symbol]
    by_time = "startTime" in call.params or "endTime" in call.params
    if "orderId" in call.params:
        where.append("order_id = ?")
        asked.append(whole(call, "orderId"))
    if "fromId" in call.params:
        if by_time:
            raise ApiError(-1128)
        where.append("trade_id >= ?")
        asked.append(whole(call, "fromId"))
    else:
        start_ms, end_ms = _window(call)
        where.append("time_ms BETWEEN ? AND ?")
        asked += [start_ms, end_ms]
        newest = None if "startTime" in call.params else limit
    found = call.venue.store.trades(where=" AND ".join(where), values=asked, newest=newest, limit=limit)
    return [rows.trade_json(row) for row in found]


def all_orders(call: Call) -> object:
    """Of every state. From an id on, or of a span of time; without either the newest of the last seven days."""
    (symbol,) = symbols_of(call, required(call.params, "symbol"))
    call.venue.mark(symbol=symbol, now_ms=call.now_ms)
    limit = limit_of(call, default=ORDERS_DEFAULT, most=PAGE_MAX)
    where, newest = ["symbol = ?"], None
    asked: list[object] = [symbol]
    if "orderId" in call.params:
        where.append("order_id >= ?")
        asked.append(whole(call, "orderId"))
    else:
        start_ms, end_ms = _window(call)
        where.append("time_ms BETWEEN ? AND ?")
        asked += [start_ms, end_ms]
        newest = None if "startTime" in call.params else limit
    found = call.venue.store.orders(where=" AND ".join(where), values=asked, newest=newest, limit=limit)
    return [{**rows.order_json(order), "time": order.time_ms} for order in found]


def income(call: Call) -> object:
    """All symbols where none is named; without times those of the last seven days."""
    limit = limit_of(call, default=INCOME_DEFAULT, most=PAGE_MAX)
    start_ms, end_ms = _window(call, longest_ms=INCOME_KEPT_MS)
    where = ["time_ms BETWEEN ? AND ?"]
    asked: list[object] = [max(start_ms, call.now_ms - INCOME_KEPT_MS), end_ms]
    for name, column in (("symbol", "symbol"), ("incomeType", "kind")):
        if name in call.params:
            where.append(f"{column} = ?")
            asked.append(call.params[name])
    page = whole(call, "page") if "page" in call.params else 1
    skip = (max(page, 1) - 1) * limit
    found = call.venue.store.income(where=" AND ".join(where), values=asked, limit=limit, skip=skip)
    return [rows.income_json(booking) for booking in found]


def klines(call: Call) -> object:
    (symbol,) = symbols_of(call, required(call.params, "symbol"))
    interval_ms = INTERVALS_MS.get(required(call.params, "interval"))
    if interval_ms is None:
        raise ApiError(-1120)
    limit = limit_of(call, default=KLINES_DEFAULT, most=KLINES_MAX)
    call.venue.mark(symbol=symbol, now_ms=call.now_ms)
    end_ms = min(whole(call, "endTime") if "endTime" in call.params else call.now_ms, call.now_ms)
    first_ms = end_ms // interval_ms * interval_ms - (limit - 1) * interval_ms
    if "startTime" in call.params:
        start_ms = whole(call, "startTime")
        first_ms = -(-start_ms // interval_ms) * interval_ms
    candles = call.venue.market.candles[symbol]
    return klines_of(candles, first_ms=first_ms, end_ms=end_ms, interval_ms=interval_ms, limit=limit)


def klines_weight(params: Params) -> int:
    text = params.get("limit", "")
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else KLINES_DEFAULT
    return 1 if limit < 100 else 2 if limit < 500 else 5 if limit <= 1000 else 10


def _window(call: Call, *, longest_ms: int = WEEK_MS) -> tuple[int, int]:
    end_ms = whole(call, "endTime") if "endTime" in call.params else call.now_ms
    start_ms = whole(call, "startTime") if "startTime" in call.params else end_ms - WEEK_MS
    if "endTime" not in call.params:
        end_ms = start_ms + WEEK_MS if "startTime" in call.params else call.now_ms
    if not 0 <= end_ms - start_ms <= longest_ms:
        raise ApiError(-1128)
    return start_ms, end_ms
