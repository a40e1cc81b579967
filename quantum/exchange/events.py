"""Strict reading of the user stream's messages into typed values. Pure: text in, one value or Malformed out.

Fields that the exchange leaves out at times (commission, realised profit, prices of trailing orders)
may be missing; a field that is there must make sense. A kind nobody told us of is named, not guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from quantum.exchange import answers
from quantum.exchange.answers import Malformed
from quantum.exchange.types import OrderStatus, Side, Trade

MESSAGE_CHARS_MAX = 1_000_000
ROWS_MAX = 2000
Row = dict[str, object]


class Execution(StrEnum):
    """What this message is about; the order's own state is its status."""

    NEW = "NEW"
    CANCELED = "CANCELED"
    CALCULATED = "CALCULATED"
    """A liquidation's execution."""
    EXPIRED = "EXPIRED"
    TRADE = "TRADE"
    AMENDMENT = "AMENDMENT"


class PositionSide(StrEnum):
    """BOTH is one-way mode; the other two exist in hedge mode only, which we refuse elsewhere."""

    BOTH = "BOTH"
    LONG = "LONG"
    SHORT = "SHORT"


class ExchangeClose(StrEnum):
    """Why the exchange itself closed a position: told by the client id it gives its own orders."""

    LIQUIDATION = "liquidation"
    ADL = "adl"
    SETTLEMENT = "settlement"
    DELIVERY = "delivery"


EXCHANGE_ORDER_PREFIXES: Final[Mapping[str, ExchangeClose]] = MappingProxyType(
    {
        "autoclose-": ExchangeClose.LIQUIDATION,
        "adl_autoclose": ExchangeClose.ADL,
        "settlement_autoclose-": ExchangeClose.SETTLEMENT,
        "delivery_autoclose-": ExchangeClose.DELIVERY,
    }
)


def closed_by_exchange(client_order_id: str) -> ExchangeClose | None:
    """None for everybody else's orders."""
    for prefix, close in EXCHANGE_ORDER_PREFIXES.items():
        if client_order_id.startswith(prefix):
            return close
    return None


class OrderUpdate(Struct, frozen=True):
    """Something happened to an order. Comes in any order, twice, or not at all: dedupe on trade_id."""

    event_ms: int
    transaction_ms: int
    symbol: str
    client_order_id: str
    order_id: int
    side: Side
    position_side: PositionSide
    order_type: str
    execution: Execution
    status: OrderStatus
    quantity: Decimal
    last_quantity: Decimal
    cumulative_quantity: Decimal
    last_price: Decimal
    average_price: Decimal
    reduce_only: bool
    trade_id: int
    """Zero where nothing was executed."""
    realized_pnl: Decimal | None
    commission: Decimal | None
    commission_asset: str | None

    @property
    def is_execution(self) -> bool:
        return self.trade_id > 0 and self.last_quantity > 0

    @property
    def trade(self) -> Trade | None:
        """The execution, complete. None with is_execution: numbers are missing, ask for its trades."""
        if not self.is_execution or self.realized_pnl is None:
            return None
        if self.commission is None or self.commission_asset is None:
            return None
        return Trade(
            trade_id=self.trade_id,
            order_id=self.order_id,
            symbol=self.symbol,
            side=self.side,
            quantity=self.last_quantity,
            price=self.last_price,
            realized_pnl=self.realized_pnl,
            commission=self.commission,
            commission_asset=self.commission_asset,
            time_ms=self.transaction_ms,
        )


class ChangedBalance(Struct, frozen=True):
    asset: str
    wallet: Decimal
    change: Decimal | None
    """Without profit and commission: transfers and funding."""


class ChangedPosition(Struct, frozen=True):
    symbol: str
    position_side: PositionSide
    amount: Decimal
    """Absolute and signed, as of this message."""
    entry_price: Decimal
    unrealized_pnl: Decimal


class AccountUpdate(Struct, frozen=True):
    """What changed, in absolute amounts. A symbol that is not in it did not change: it is not flat."""

    event_ms: int
    transaction_ms: int
    reason: str
    """The exchange's word: ORDER, FUNDING_FEE, INSURANCE_CLEAR, ADJUSTMENT, DEPOSIT ..."""
    balances: tuple[ChangedBalance, ...]
    positions: tuple[ChangedPosition, ...]


class AlgoUpdate(Struct, frozen=True):
    """A conditional order (stop, take profit, trailing) changed."""

    event_ms: int
    transaction_ms: int
    symbol: str
    client_algo_id: str
    algo_id: int
    side: Side
    position_side: PositionSide
    order_type: str
    status: str
    quantity: Decimal
    reduce_only: bool
    close_position: bool
    order_id: int | None
    """The order it became, once triggered."""


class MarginCall(Struct, frozen=True):
    event_ms: int
    symbols: tuple[str, ...]


class ListenKeyExpired(Struct, frozen=True):
    """Nothing more will come on this line. Its key is not kept: it is a secret."""

    event_ms: int


class IgnoredEvent(Struct, frozen=True):
    """Known, and of no meaning here: it moves no position and no money."""

    event_ms: int
    name: str


class UnknownEvent(Struct, frozen=True):
    """A kind this version does not know. It may mean anything: worth a look by REST."""

    event_ms: int
    name: str


Event = OrderUpdate | AccountUpdate | AlgoUpdate | MarginCall | ListenKeyExpired | IgnoredEvent | UnknownEvent
IGNORED: Final = frozenset(
    {
        "TRADE_LITE",  # an execution's forerunner; its ORDER_TRADE_UPDATE says more, a moment later
        "ACCOUNT_CONFIG_UPDATE",
        "CONDITIONAL_ORDER_TRIGGER_REJECT",
        "STRATEGY_UPDATE",
        "GRID_UPDATE",
        "forceOrder",
    }
)


def read_event(message: str | bytes) -> Event:
    """The one way in. Raises Malformed, and nothing else, whatever the message is."""
    if len(message) > MESSAGE_CHARS_MAX:
        raise Malformed("the message is too long")
    raw = message.encode("utf-8", "replace") if isinstance(message, str) else message
    body = answers.as_object(answers.parsed(raw))
    if "data" in body and "e" not in body:  # the form of a combined stream
        body = answers.as_object(body["data"])
    name = answers.text(body, "e")
    reader = READERS.get(name)
    if reader is not None:
        return reader(body)
    # A stranger's message owes us no time.
    event_ms = answers.optional(body, "E", answers.whole) or 0
    return IgnoredEvent(event_ms, name) if name in IGNORED else UnknownEvent(event_ms, name)


def _order_update(body: Row) -> OrderUpdate:
    row = answers.as_object(body.get("o"))
    return OrderUpdate(
        event_ms=answers.whole(body, "E"),
        transaction_ms=answers.whole(row, "T"),
        symbol=answers.text(row, "s"),
        client_order_id=answers.text(row, "c"),
        order_id=answers.whole(row, "i"),
        side=answers.side(row, "S"),
        position_side=_position_side(row),
        order_type=answers.text(row, "o"),
        execution=_execution(row),
        status=answers.status(row, "X"),
        quantity=answers.unsigned(row, "q"),
        last_quantity=answers.unsigned(row, "l"),
        cumulative_quantity=answers.unsigned(row, "z"),
        last_price=answers.unsigned(row, "L"),
        average_price=answers.unsigned(row, "ap"),
        reduce_only=answers.flag(row, "R"),
        trade_id=answers.whole(row, "t"),
        realized_pnl=answers.optional(row, "rp", answers.number),
        commission=answers.optional(row, "n", answers.number),
        commission_asset=answers.optional(row, "N", answers.text),
    )


def _account_update(body: Row) -> AccountUpdate:
    account = answers.as_object(body.get("a"))
    return AccountUpdate(
        event_ms=answers.whole(body, "E"),
        transaction_ms=answers.whole(body, "T"),
        reason=answers.text(account, "m"),
        balances=tuple(_changed_balance(row) for row in _rows(account, "B")),
        positions=tuple(_changed_position(row) for row in _rows(account, "P")),
    )


def _changed_balance(row: Row) -> ChangedBalance:
    return ChangedBalance(
        asset=answers.text(row, "a"),
        wallet=answers.number(row, "wb"),
        change=answers.optional(row, "bc", answers.number),
    )


def _changed_position(row: Row) -> ChangedPosition:
    return ChangedPosition(
        symbol=answers.text(row, "s"),
        position_side=_position_side(row),
        amount=answers.number(row, "pa"),
        entry_price=answers.unsigned(row, "ep"),
        unrealized_pnl=answers.number(row, "up"),
    )


def _algo_update(body: Row) -> AlgoUpdate:
    row = answers.as_object(body.get("o"))
    return AlgoUpdate(
        event_ms=answers.whole(body, "E"),
        transaction_ms=answers.whole(body, "T"),
        symbol=answers.text(row, "s"),
        client_algo_id=answers.text(row, "caid"),
        algo_id=answers.whole(row, "aid"),
        side=answers.side(row, "S"),
        position_side=_position_side(row),
        order_type=answers.text(row, "o"),
        status=answers.text(row, "X"),
        quantity=answers.unsigned(row, "q"),
        reduce_only=answers.flag(row, "R"),
        close_position=answers.flag(row, "cp"),
        order_id=_order_id_in_text(row, "ai"),
    )


def _margin_call(body: Row) -> MarginCall:
    symbols = tuple(answers.text(row, "s") for row in _rows(body, "p"))
    return MarginCall(event_ms=answers.whole(body, "E"), symbols=symbols)


def _listen_key_expired(body: Row) -> ListenKeyExpired:
    return ListenKeyExpired(event_ms=answers.whole(body, "E"))


READERS: Final[Mapping[str, Callable[[Row], Event]]] = MappingProxyType(
    {
        "ORDER_TRADE_UPDATE": _order_update,
        "ACCOUNT_UPDATE": _account_update,
        "ALGO_UPDATE": _algo_update,
        "MARGIN_CALL": _margin_call,
        "listenKeyExpired": _listen_key_expired,
    }
)


def _rows(row: Row, name: str) -> list[Row]:
    found = answers.as_rows(row[name]) if row.get(name) is not None else []
    if len(found) > ROWS_MAX:
        raise Malformed(f"{name} has too many rows")
    return found


def _position_side(row: Row) -> PositionSide:
    try:
        return PositionSide(answers.text(row, "ps"))
    except ValueError:
        raise Malformed("ps is not a position side") from None


def _execution(row: Row) -> Execution:
    try:
        return Execution(answers.text(row, "x"))
    except ValueError:
        raise Malformed("x is not an execution type we know") from None


def _order_id_in_text(row: Row, name: str) -> int | None:
    value = row.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not value.isascii() or not value.isdigit() or len(value) > 19:
        raise Malformed(f"{name} is not an order id")
    return int(value)
