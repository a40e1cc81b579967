"""Strict reading of the exchange's JSON into the plain values of types.py.

Anything missing, of the wrong type or senseless is Malformed: a caller turns that
into "unknown", never into zero. Numbers become Decimal from their own text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import NoReturn, TypeVar

from quantum.exchange.types import (
    AlgoOrder,
    AssetBalance,
    Income,
    Kline,
    MarkPrice,
    OrderState,
    OrderStatus,
    Position,
    Side,
    SymbolRules,
    Trade,
)

T = TypeVar("T")
MAGNITUDE_MAX = Decimal("1e15")
PLACES_MAX = 30
WHOLE_MAX = 2**63 - 1
TEXT_CHARS_MAX = 200
_PLAIN_NUMBER = re.compile(r"[-+]?[0-9]{1,40}(\.[0-9]{0,40})?([eE][-+]?[0-9]{1,3})?")
_SMALL_NUMBER = re.compile(r"[-+]?[0-9]{1,15}(\.[0-9]{0,30})?")
"""Its length alone keeps it within MAGNITUDE_MAX and PLACES_MAX: nearly every number of every message."""


class Malformed(ValueError):
    """The answer is not what the exchange documents. The text names the field, not the value."""


def parsed(body: bytes) -> object:
    """The JSON in body; NaN, floats and endless nesting never get through."""
    with suppress(ValueError, ArithmeticError, RecursionError):  # Decimal gives up on 1e99999999999999999999
        text = body.decode(json.detect_encoding(body), "surrogatepass")  # as json.loads does
        value: object = _DECODER.decode(text)
        return value
    # Raised out here so that the parser's error, which holds the whole text, is left behind.
    raise Malformed("not JSON")


def as_object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise Malformed("not an object")
    return value


def as_rows(value: object) -> list[dict[str, object]]:
    if not isinstance(value, list):
        raise Malformed("not a list")
    return [as_object(row) for row in value]


def error_of(value: object) -> tuple[int, str] | None:
    """(code, msg) where value is an error object. HTTP 200 may carry one as well."""
    if not isinstance(value, dict):
        return None
    code = value.get("code")
    if isinstance(code, bool) or not isinstance(code, int) or code >= 0:
        return None
    msg = value.get("msg")
    return code, msg if isinstance(msg, str) else ""


def order_state(row: dict[str, object]) -> OrderState:
    return OrderState(
        symbol=text(row, "symbol"),
        order_id=whole(row, "orderId"),
        client_order_id=text(row, "clientOrderId"),
        status=status(row),
        side=side(row),
        quantity=unsigned(row, "origQty"),
        executed_quantity=unsigned(row, "executedQty"),
        average_price=unsigned(row, "avgPrice"),
        reduce_only=flag(row, "reduceOnly"),
        updated_ms=whole(row, "updateTime"),
    )


def trade(row: dict[str, object]) -> Trade:
    return Trade(
        trade_id=whole(row, "id"),
        order_id=whole(row, "orderId"),
        symbol=text(row, "symbol"),
        side=side(row),
        quantity=unsigned(row, "qty"),
        price=unsigned(row, "price"),
        realized_pnl=number(row, "realizedPnl"),
        commission=number(row, "commission"),
        commission_asset=text(row, "commissionAsset"),
        time_ms=whole(row, "time"),
    )


def position(row: dict[str, object]) -> Position:
    """One row of positionRisk. Hedge mode has no place in one signed amount: it is refused."""
    if text(row, "positionSide") != "BOTH":
        raise Malformed("positionSide is not BOTH (hedge mode)")
    return Position(
        symbol=text(row, "symbol"),
        amount=number(row, "positionAmt"),
        entry_price=unsigned(row, "entryPrice"),
        mark_price=unsigned(row, "markPrice"),
        unrealized_pnl=number(row, "unRealizedProfit"),
        updated_ms=whole(row, "updateTime"),
    )


def rules_by_symbol(rows: list[dict[str, object]]) -> dict[str, SymbolRules]:
    """A symbol whose filters we cannot read is left out: unknown, and nobody else's trouble.

    Where none can be read the answer itself makes no sense.
    """
    found: dict[str, SymbolRules] = {}
    for row in rows:
        with suppress(Malformed):
            rules = symbol_rules(row)
            found[rules.symbol] = rules
    if rows and not found:
        raise Malformed("not one symbol has filters we can read")
    return found


def symbol_rules(row: dict[str, object]) -> SymbolRules:
    filters = {text(one, "filterType"): one for one in as_rows(row.get("filters"))}
    try:
        lot, market = filters["LOT_SIZE"], filters["MARKET_LOT_SIZE"]
        price, notional = filters["PRICE_FILTER"], filters["MIN_NOTIONAL"]
    except KeyError as missing:
        raise Malformed(f"filter {missing} is missing") from None
    return SymbolRules(
        symbol=text(row, "symbol"),
        lot_step=unsigned(lot, "stepSize"),
        lot_min=unsigned(lot, "minQty"),
        lot_max=unsigned(lot, "maxQty"),
        market_step=unsigned(market, "stepSize"),
        market_min=unsigned(market, "minQty"),
        market_max=unsigned(market, "maxQty"),
        price_tick=unsigned(price, "tickSize"),
        min_notional=unsigned(notional, "notional"),
    )


def algo_order(row: dict[str, object]) -> AlgoOrder:
    return AlgoOrder(
        symbol=text(row, "symbol"),
        algo_id=whole(row, "algoId"),
        client_algo_id=text(row, "clientAlgoId"),
        status=text(row, "algoStatus"),
        side=side(row),
        quantity=unsigned(row, "quantity"),
        trigger_price=unsigned(row, "triggerPrice"),
        reduce_only=flag(row, "reduceOnly"),
    )


def income(row: dict[str, object]) -> Income:
    symbol = row.get("symbol")
    booked = row.get("tranId")
    return Income(
        kind=text(row, "incomeType"),
        symbol="" if symbol == "" else text(row, "symbol"),
        amount=number(row, "income"),
        asset=text(row, "asset"),
        transaction_id=text(row, "tranId") if isinstance(booked, str) else str(whole(row, "tranId")),
        time_ms=whole(row, "time"),
        trade_id=_trade_id(row),
    )


_KLINE = ("open_time", "open", "high", "low", "close", "volume", "close_time")


def klines(value: object) -> list[Kline]:
    """Rows without names, told apart by their place."""
    if not isinstance(value, list):
        raise Malformed("not a list")
    return [_kline(row) for row in value]


def _kline(cells: object) -> Kline:
    if not isinstance(cells, list) or len(cells) < len(_KLINE):
        raise Malformed("a kline is no list of its values")
    row: dict[str, object] = dict(zip(_KLINE, cells, strict=False))
    found = Kline(
        open_ms=whole(row, "open_time"),
        opened=number(row, "open"),
        high=number(row, "high"),
        low=number(row, "low"),
        closed=number(row, "close"),
        close_ms=whole(row, "close_time"),
    )
    if not found.is_sensible:
        raise Malformed("the prices of a kline contradict each other")
    return found


def _trade_id(row: dict[str, object]) -> int | None:
    """A number or the text of one; empty where no trade was."""
    value = row.get("tradeId")
    if value is None or value == "":
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    return whole(row, "tradeId")


def asset_balance(row: dict[str, object]) -> AssetBalance:
    return AssetBalance(
        asset=text(row, "asset"),
        wallet=number(row, "balance"),
        available=number(row, "availableBalance"),
    )


def mark_price(row: dict[str, object]) -> MarkPrice:
    return MarkPrice(
        symbol=text(row, "symbol"),
        price=unsigned(row, "markPrice"),
        funding_rate=number(row, "lastFundingRate"),
        next_funding_ms=whole(row, "nextFundingTime"),
        time_ms=whole(row, "time"),
    )


def weight_limit_1m(info: dict[str, object]) -> int | None:
    """How much request weight a minute may cost, of exchangeInfo. None: it does not say."""
    for row in as_rows(info.get("rateLimits", [])):
        kind, interval = row.get("rateLimitType"), row.get("interval")
        if (kind, interval, row.get("intervalNum")) == ("REQUEST_WEIGHT", "MINUTE", 1):
            return whole(row, "limit")
    return None


def listen_key(row: dict[str, object]) -> str:
    found = text(row, "listenKey")
    if not found.isascii() or not found.isalnum():
        raise Malformed("listenKey has characters of no listen key")
    return found


def whole(row: dict[str, object], name: str) -> int:
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= WHOLE_MAX:
        raise Malformed(f"{name} is not a whole number")
    return value


def flag(row: dict[str, object], name: str) -> bool:
    value = row.get(name)
    if not isinstance(value, bool):
        raise Malformed(f"{name} is not true or false")
    return value


def text(row: dict[str, object], name: str) -> str:
    """Any script a symbol may be written in; no control characters, no half of a surrogate pair."""
    value = row.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= TEXT_CHARS_MAX or not value.isprintable():
        raise Malformed(f"{name} is not text")
    return value


def number(row: dict[str, object], name: str) -> Decimal:
    value = row.get(name)
    if type(value) is str and _SMALL_NUMBER.fullmatch(value):
        return Decimal(value)
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise Malformed(f"{name} is not a number")
    if isinstance(value, str) and not _PLAIN_NUMBER.fullmatch(value):
        raise Malformed(f"{name} is not a number")
    found = Decimal(value)
    # copy_abs and adjusted() are exact; abs() would round to the context, and overflow in it.
    if not found.is_finite() or found.copy_abs() > MAGNITUDE_MAX or _places(found) > PLACES_MAX:
        raise Malformed(f"{name} is out of all bounds")
    return found


def unsigned(row: dict[str, object], name: str) -> Decimal:
    found = number(row, name)
    if found < 0:
        raise Malformed(f"{name} is negative")
    return found


def optional(row: dict[str, object], name: str, read: Callable[[dict[str, object], str], T]) -> T | None:
    """None where the field is left out or null; a value that is there must still make sense."""
    return None if row.get(name) is None else read(row, name)


def side(row: dict[str, object], name: str = "side") -> Side:
    try:
        return Side(text(row, name))
    except ValueError:
        raise Malformed(f"{name} is neither BUY nor SELL") from None


def status(row: dict[str, object], name: str = "status") -> OrderStatus:
    try:
        return OrderStatus(text(row, name))
    except ValueError:
        raise Malformed(f"{name} is not one we know") from None


def _places(found: Decimal) -> int:
    exponent = found.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0


def _no_constant(_word: str) -> NoReturn:
    raise ValueError("NaN or Infinity")


_DECODER = json.JSONDecoder(parse_float=Decimal, parse_constant=_no_constant)
"""Made once: json.loads with arguments makes one for every message."""
