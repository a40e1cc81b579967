"""What the rest of the house knows of the exchange: plain, exact values.

Nothing here knows HTTP, python-binance or the paper exchange. Quantities and
prices are Decimal and signed where a side is meant; times are milliseconds.
"""

from __future__ import annotations

from decimal import Decimal
from enum import IntEnum, StrEnum

from msgspec import Struct


class Side(StrEnum):
    BUY = "BUY"
    SELL = "SELL"


class SymbolRules(Struct, frozen=True):
    """The filters of one symbol. LOT_SIZE and MARKET_LOT_SIZE are different things."""

    symbol: str
    lot_step: Decimal
    lot_min: Decimal
    lot_max: Decimal
    market_step: Decimal
    market_min: Decimal
    market_max: Decimal
    price_tick: Decimal
    min_notional: Decimal


class Position(Struct, frozen=True):
    symbol: str
    amount: Decimal
    """Signed: long is positive, short negative, flat zero."""
    entry_price: Decimal
    mark_price: Decimal
    unrealized_pnl: Decimal
    updated_ms: int


class PositionsRead(Struct, frozen=True):
    """One complete all-symbol answer. A symbol that is not in it is flat.

    An answer that failed or came in part never becomes one of these: the
    reader raises ReadFailed, and unreadable is not zero.
    """

    positions: dict[str, Position]
    asked_ms: int
    """Exchange time when the question left us: the answer is at least this new."""

    def amount(self, symbol: str) -> Decimal:
        held = self.positions.get(symbol)
        return held.amount if held else Decimal(0)


class Trade(Struct, frozen=True):
    """One execution. trade_id is unique per symbol; everything of the ledger hangs on it."""

    trade_id: int
    order_id: int
    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal
    realized_pnl: Decimal
    commission: Decimal
    commission_asset: str
    time_ms: int

    @property
    def signed_quantity(self) -> Decimal:
        return self.quantity if self.side is Side.BUY else -self.quantity


class Income(Struct, frozen=True):
    """One booking on the account: FUNDING_FEE, COMMISSION, REALIZED_PNL, TRANSFER ..."""

    kind: str
    symbol: str
    """Empty where the booking belongs to no symbol."""
    amount: Decimal
    asset: str
    transaction_id: str
    """Unique among bookings of one kind only: a trade's profit and its commission may share one."""
    time_ms: int
    trade_id: int | None = None
    """Of COMMISSION and REALIZED_PNL. Unique per symbol, as in Trade."""

    @property
    def identity(self) -> tuple[str, ...]:
        """What tells one booking from every other: never transaction_id alone."""
        return self.kind, self.transaction_id, self.symbol, self.asset, str(self.trade_id)


class AssetBalance(Struct, frozen=True):
    asset: str
    wallet: Decimal
    available: Decimal


class MarkPrice(Struct, frozen=True):
    symbol: str
    price: Decimal
    funding_rate: Decimal
    next_funding_ms: int
    time_ms: int


class Kline(Struct, frozen=True):
    """The prices of one span of time. The newest one the exchange tells is still moving."""

    open_ms: int
    opened: Decimal
    high: Decimal
    low: Decimal
    closed: Decimal
    close_ms: int
    """Its last millisecond: the next one opens right after it."""

    @property
    def is_sensible(self) -> bool:
        """A comparison with NaN raises, so that is asked first."""
        prices = (self.low, self.opened, self.closed, self.high)
        if not all(price.is_finite() for price in prices) or self.close_ms <= self.open_ms:
            return False
        return 0 < self.low <= min(self.opened, self.closed) <= max(self.opened, self.closed) <= self.high


class OrderStatus(StrEnum):
    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    EXPIRED_IN_MATCH = "EXPIRED_IN_MATCH"
    REJECTED = "REJECTED"
    NEW_INSURANCE = "NEW_INSURANCE"
    """A liquidation that the insurance fund takes over; NEW_ADL: other traders do."""
    NEW_ADL = "NEW_ADL"

    @property
    def terminal(self) -> bool:
        return self not in (
            OrderStatus.NEW,
            OrderStatus.PARTIALLY_FILLED,
            OrderStatus.NEW_INSURANCE,
            OrderStatus.NEW_ADL,
        )


class OrderState(Struct, frozen=True):
    """An order as the exchange knows it. Carries no trades: the ledger never moves on this."""

    symbol: str
    order_id: int
    client_order_id: str
    status: OrderStatus
    side: Side
    quantity: Decimal
    executed_quantity: Decimal
    average_price: Decimal
    reduce_only: bool
    updated_ms: int


class AlgoOrder(Struct, frozen=True):
    """A conditional order that rests. It is no order yet: once triggered it becomes one, with an id of its own."""

    symbol: str
    algo_id: int
    client_algo_id: str
    status: str
    side: Side
    quantity: Decimal
    trigger_price: Decimal
    reduce_only: bool


class OrderRequest(Struct, frozen=True):
    """One reduce-only MARKET order. timestamp_ms is the intent's own time, pinned.

    The exchange refuses a request whose timestamp is older than recvWindow, so a
    sender that froze between intent and send cannot fire late.
    """

    symbol: str
    side: Side
    quantity: Decimal
    client_order_id: str
    timestamp_ms: int


class RefusalKind(StrEnum):
    """Why an order surely did not execute, named by what must happen next."""

    BACK_OFF = "back_off"
    CLOCK = "clock"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    REQUEST = "request"
    ACCOUNT = "account"
    MARKET = "market"


class LocalCode(IntEnum):
    """Codes of our own, where no exchange spoke: the order surely never left this machine.

    Binance's codes start at -1000 and HTTP's at 100, so these collide with neither.
    Zero is avoided: python-binance uses it for "an answer without a code", which is unknown.
    """

    UNREACHABLE = -1
    """No connection came about (refused, no route, no name, TLS not trusted)."""
    BACKING_OFF = -2
    """The exchange told us to be silent until a time that has not come yet."""
    UNSENDABLE = -3
    """The request would not survive the wire (a client id that breaks the signature)."""


class Answered(Struct, frozen=True):
    order: OrderState


class Refused(Struct, frozen=True):
    kind: RefusalKind
    code: int
    """Binance's code; the HTTP status where it gave none; or a LocalCode."""
    text: str
    retry_at_ms: int | None = None
    """When a back-off names a time (418, Retry-After): nothing may be sent before it."""


class FateUnknown(Struct, frozen=True):
    """The order may or may not exist. It is looked up, and never sent again (I5)."""

    text: str
    code: int | None = None


SendOutcome = Answered | Refused | FateUnknown
