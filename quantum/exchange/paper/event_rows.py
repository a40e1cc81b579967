"""The JSON of the user stream's events: single letters, decimals as text."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from quantum.exchange.paper.algo import AlgoStep, algo_event
from quantum.exchange.paper.book import EIGHT_PLACES, ZERO
from quantum.exchange.paper.changes import Fill, LeverageStep, OrderStep, Step, WalletStep
from quantum.exchange.paper.rows import eight, plain

Event = Mapping[str, object]


def events_of(step: Step) -> list[dict[str, object]]:
    """A fill's short note comes first and its order update last, as seen on the exchange."""
    if isinstance(step, WalletStep):
        return [_account_update(step.reason, step.change, step.balance, [], step.at_ms)]
    if isinstance(step, LeverageStep):
        return [leverage_update(symbol=step.symbol, leverage=step.leverage, at_ms=step.at_ms)]
    if isinstance(step, AlgoStep):
        return [algo_event(step)]
    if step.fill is None:
        return [_order_update(step)]
    moved = [_position(step.fill)]
    events = [
        _account_update("ORDER", ZERO, step.fill.account.balance, moved, step.at_ms),
        _order_update(step),
    ]
    return events if step.execution == "CALCULATED" else [_trade_lite(step, step.fill), *events]


def leverage_update(*, symbol: str, leverage: int, at_ms: int) -> dict[str, object]:
    return {**_head("ACCOUNT_CONFIG_UPDATE", at_ms), "ac": {"s": symbol, "l": leverage}}


def listen_key_expired(*, listen_key: str, at_ms: int) -> dict[str, object]:
    return {"e": "listenKeyExpired", "E": at_ms, "listenKey": listen_key}


def _head(name: str, at_ms: int) -> dict[str, object]:
    return {"e": name, "E": at_ms, "T": at_ms}


def _order_update(step: OrderStep) -> dict[str, object]:
    order, trade = step.order, step.fill.trade if step.fill else None
    average = order.quote / order.executed if order.executed else ZERO
    row = {
        "s": order.symbol,
        "c": order.client_id,
        "S": order.side,
        "o": order.type,
        "f": order.time_in_force,
        "q": plain(order.quantity),
        "p": plain(order.price),
        "ap": _short(average),
        "sp": "0",
        "x": step.execution,
        "X": order.status,
        "i": order.order_id,
        "l": plain(trade.quantity) if trade else "0",
        "z": plain(order.executed),
        "L": plain(trade.price) if trade else "0",
        "n": eight(trade.commission) if trade else "0",
        "N": "USDT",
        "T": step.at_ms,
        "t": trade.trade_id if trade else 0,
        "b": "0",
        "a": "0",
        "m": False,
        "R": order.reduce_only,
        "wt": "CONTRACT_PRICE",
        "ot": order.type,
        "ps": "BOTH",
        "cp": False,
        "rp": eight(trade.realized) if trade else "0",
        "pP": False,
        "si": 0,
        "ss": 0,
        "V": "NONE",
        "pm": "NONE",
        "gtd": 0,
    }
    return {**_head("ORDER_TRADE_UPDATE", step.at_ms), "o": row}


def _trade_lite(step: OrderStep, fill: Fill) -> dict[str, object]:
    order, trade = step.order, fill.trade
    return {
        **_head("TRADE_LITE", step.at_ms),
        "s": order.symbol,
        "q": plain(order.quantity),
        "p": plain(order.price),
        "m": False,
        "c": order.client_id,
        "S": order.side,
        "L": plain(trade.price),
        "l": plain(trade.quantity),
        "t": trade.trade_id,
        "i": order.order_id,
    }


def _account_update(
    reason: str, change: Decimal, balance: Decimal, positions: list[dict[str, object]], at_ms: int
) -> dict[str, object]:
    wallet = {"a": "USDT", "wb": eight(balance), "cw": eight(balance), "bc": _short(change)}
    return {**_head("ACCOUNT_UPDATE", at_ms), "a": {"m": reason, "B": [wallet], "P": positions}}


def _position(fill: Fill) -> dict[str, object]:
    """Absolute, and of the symbol that changed only."""
    holding, price = fill.account.holding, fill.trade.price
    return {
        "s": fill.trade.symbol,
        "pa": plain(holding.amount),
        "ep": plain(holding.entry_price),
        "bep": plain(holding.entry_price),
        "cr": eight(fill.account.realized),
        "up": eight(holding.unrealized(price=price)),
        "mt": "cross",
        "iw": "0",
        "ps": "BOTH",
    }


def _short(value: Decimal) -> str:
    return format(value.quantize(EIGHT_PLACES), "f") if value else "0"
