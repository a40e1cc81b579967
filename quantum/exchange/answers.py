"""Strict reading of the exchange's JSON into the plain values of types.py.

Anything missing, of the wrong type or senseless is Malformed: a caller turns that
into "unknown", never into zero. Numbers become Decimal from their own text.
"""

from __future__ import annotations

import json
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import NoReturn

from quantum.exchange.types import OrderState, OrderStatus, Position, Side, SymbolRules, Trade

MAGNITUDE_MAX = Decimal("1e15")


class Malformed(ValueError):
    """The answer is not what the exchange documents. The text names the field, not the value."""


def parsed(body: bytes) -> object:
    """The JSON in body; NaN, floats and endless nesting never get through."""
    with suppress(ValueError, RecursionError):
        value: object = json.loads(body, parse_float=Decimal, parse_constant=_no_constant)
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
        symbol=_text(row, "symbol"),
        order_id=whole(row, "orderId"),
        client_order_id=_text(row, "clientOrderId"),
        status=_status(row),
        side=_side(row),
        quantity=_unsigned(row, "origQty"),
        executed_quantity=_unsigned(row, "executedQty"),
        average_price=_unsigned(row, "avgPrice"),
        reduce_only=flag(row, "reduceOnly"),
        updated_ms=whole(row, "updateTime"),
    )


def trade(row: dict[str, object]) -> Trade:
    return Trade(
        trade_id=whole(row, "id"),
        order_id=whole(row, "orderId"),
        symbol=_text(row, "symbol"),
        side=_side(row),
        quantity=_unsigned(row, "qty"),
        price=_unsigned(row, "price"),
        realized_pnl=_number(row, "realizedPnl"),
        commission=_number(row, "commission"),
        commission_asset=_text(row, "commissionAsset"),
        time_ms=whole(row, "time"),
    )


def position(row: dict[str, object]) -> Position:
    """One row of positionRisk. Hedge mode has no place in one signed amount: it is refused."""
    if _text(row, "positionSide") != "BOTH":
        raise Malformed("positionSide is not BOTH (hedge mode)")
    return Position(
        symbol=_text(row, "symbol"),
        amount=_number(row, "positionAmt"),
        entry_price=_unsigned(row, "entryPrice"),
        mark_price=_unsigned(row, "markPrice"),
        unrealized_pnl=_number(row, "unRealizedProfit"),
        updated_ms=whole(row, "updateTime"),
    )


def symbol_rules(row: dict[str, object]) -> SymbolRules:
    filters = {_text(one, "filterType"): one for one in as_rows(row.get("filters"))}
    try:
        lot, market = filters["LOT_SIZE"], filters["MARKET_LOT_SIZE"]
        price, notional = filters["PRICE_FILTER"], filters["MIN_NOTIONAL"]
    except KeyError as missing:
        raise Malformed(f"filter {missing} is missing") from None
    return SymbolRules(
        symbol=_text(row, "symbol"),
        lot_step=_unsigned(lot, "stepSize"),
        lot_min=_unsigned(lot, "minQty"),
        lot_max=_unsigned(lot, "maxQty"),
        market_step=_unsigned(market, "stepSize"),
        market_min=_unsigned(market, "minQty"),
        market_max=_unsigned(market, "maxQty"),
        price_tick=_unsigned(price, "tickSize"),
        min_notional=_unsigned(notional, "notional"),
    )


def whole(row: dict[str, object], name: str) -> int:
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Malformed(f"{name} is not a whole number")
    return value


def flag(row: dict[str, object], name: str) -> bool:
    value = row.get(name)
    if not isinstance(value, bool):
        raise Malformed(f"{name} is not true or false")
    return value


def _text(row: dict[str, object], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value:
        raise Malformed(f"{name} is not text")
    return value


def _number(row: dict[str, object], name: str) -> Decimal:
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise Malformed(f"{name} is not a number")
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise Malformed(f"{name} is not a number") from None
    if not number.is_finite() or abs(number) > MAGNITUDE_MAX:
        raise Malformed(f"{name} is out of all bounds")
    return number


def _unsigned(row: dict[str, object], name: str) -> Decimal:
    number = _number(row, name)
    if number < 0:
        raise Malformed(f"{name} is negative")
    return number


def _side(row: dict[str, object]) -> Side:
    try:
        return Side(_text(row, "side"))
    except ValueError:
        raise Malformed("side is neither BUY nor SELL") from None


def _status(row: dict[str, object]) -> OrderStatus:
    try:
        return OrderStatus(_text(row, "status"))
    except ValueError:
        raise Malformed("status is not one we know") from None


def _no_constant(_text: str) -> NoReturn:
    raise ValueError("NaN or Infinity")
