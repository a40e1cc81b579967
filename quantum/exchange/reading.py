"""The port through which positions, orders and trades are read."""

from __future__ import annotations

from typing import Protocol

from quantum.exchange.types import AlgoOrder, Income, Kline, OrderState, PositionsRead, SymbolRules, Trade


class ReadFailed(Exception):
    """A question that got no usable answer. Never the same as "zero" or "not there" (I12)."""

    def __init__(self, text: str, *, code: int | None = None, retry_at_ms: int | None = None):
        super().__init__(text)
        self.code = code
        self.retry_at_ms = retry_at_ms


class Reader(Protocol):
    """Every method raises ReadFailed when the answer is missing, partial or senseless."""

    def now_ms(self) -> int:
        """The exchange's clock as we know it: our clock plus the measured offset. No call."""
        ...

    def sync_clock(self) -> int:
        """Measure the offset to the exchange's clock once more; returns it in milliseconds."""
        ...

    def sweeps_wait_until_ms(self) -> int | None:
        """Until when a sweep that is not urgent should wait, to leave weight to what is. No call."""
        ...

    def hedge_mode(self) -> bool: ...

    def symbol_rules(self) -> dict[str, SymbolRules]:
        """All symbols in one call; the caller caches."""
        ...

    def positions(self) -> PositionsRead:
        """All symbols in one call."""
        ...

    def order(self, *, symbol: str, client_order_id: str) -> OrderState | None:
        """None means -2013, which early on proves nothing (see the resolver)."""
        ...

    def order_by_id(self, *, symbol: str, order_id: int) -> OrderState | None: ...

    def trades_of_order(self, *, symbol: str, order_id: int) -> list[Trade]: ...

    def trades_since(self, *, symbol: str, since_ms: int) -> list[Trade]:
        """Every trade of the symbol from since_ms on, oldest first, paged to the end."""
        ...

    def open_orders(self) -> list[OrderState]: ...

    def open_algo_orders(self) -> list[AlgoOrder]:
        """Conditional orders that still wait for their price, of all symbols in one call."""
        ...

    def income(self, since_ms: int) -> list[Income]:
        """Every booking of all symbols from since_ms on, oldest first, paged to the end.

        The exchange remembers three months: an older since_ms is ReadFailed.
        """
        ...

    def klines(self, *, symbol: str, interval: str, limit: int) -> list[Kline]:
        """The newest ones, oldest first and without a gap; the last one is still moving."""
        ...


class History(Protocol):
    """What happened at the exchange, by its own lists: for whoever compares ours with them. Raises ReadFailed."""

    def now_ms(self) -> int: ...

    def orders_since(self, *, symbol: str, since_ms: int) -> list[OrderState]:
        """Every order of the symbol made from since_ms on, whoever made it, oldest first, paged to the end.

        The exchange remembers three months, and of orders that ended without a fill three days: an older since_ms
        is ReadFailed.
        """
        ...

    def trades_since(self, *, symbol: str, since_ms: int) -> list[Trade]: ...
