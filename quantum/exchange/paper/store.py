"""The paper exchange's memory: one SQLite file that survives kill -9, one commit per order.

WAL with synchronous=NORMAL: a commit needs no fsync, and only a power cut could lose the
last ones. The exclusive lock keeps a second exchange off the same file. Conditions in SQL are written in this
package; whatever a request says goes in as a value.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from quantum.exchange.paper.book import Holding

SCHEMA = """
CREATE TABLE IF NOT EXISTS holdings (
    symbol TEXT PRIMARY KEY, amount TEXT NOT NULL, entry_price TEXT NOT NULL,
    mark_price TEXT NOT NULL, update_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS orders (
    order_id INTEGER PRIMARY KEY, client_id TEXT NOT NULL UNIQUE, symbol TEXT NOT NULL,
    side TEXT NOT NULL, type TEXT NOT NULL, time_in_force TEXT NOT NULL, status TEXT NOT NULL,
    price TEXT NOT NULL, quantity TEXT NOT NULL, executed TEXT NOT NULL, quote TEXT NOT NULL,
    reduce_only INTEGER NOT NULL, time_ms INTEGER NOT NULL, update_ms INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS orders_open ON orders (symbol) WHERE status IN ('NEW', 'PARTIALLY_FILLED');
CREATE TABLE IF NOT EXISTS trades (
    trade_id INTEGER PRIMARY KEY, order_id INTEGER NOT NULL, symbol TEXT NOT NULL, side TEXT NOT NULL,
    quantity TEXT NOT NULL, price TEXT NOT NULL, realized TEXT NOT NULL, commission TEXT NOT NULL,
    time_ms INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS trades_symbol ON trades (symbol, trade_id);
CREATE INDEX IF NOT EXISTS trades_order ON trades (order_id);
CREATE TABLE IF NOT EXISTS received (
    seq INTEGER PRIMARY KEY, received_us INTEGER NOT NULL, source TEXT NOT NULL,
    client_id TEXT NOT NULL, symbol TEXT NOT NULL, params TEXT NOT NULL,
    verdict TEXT NOT NULL, code INTEGER, order_id INTEGER);
CREATE TABLE IF NOT EXISTS algo_orders (algo_id INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS bookings (
    tran_id INTEGER PRIMARY KEY, kind TEXT NOT NULL, symbol TEXT NOT NULL, amount TEXT NOT NULL,
    time_ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
FIRST_ORDER_ID = 8_000_000_001
FIRST_TRADE_ID = 500_000_001
INCOME = """
SELECT 'COMMISSION' AS kind, symbol, '-' || commission AS amount, time_ms, trade_id AS tran_id, trade_id
  FROM trades
UNION ALL SELECT 'REALIZED_PNL', symbol, realized, time_ms, trade_id, trade_id FROM trades
  WHERE CAST(realized AS REAL) <> 0
UNION ALL SELECT kind, symbol, amount, time_ms, tran_id, NULL FROM bookings
"""
"""Every booking on the wallet. A trade's two share one transaction id: unique per kind is all it promises."""


class StoredOrder(Struct, frozen=True):
    order_id: int
    client_id: str
    symbol: str
    side: str
    type: str
    time_in_force: str
    status: str
    price: Decimal
    quantity: Decimal
    executed: Decimal
    quote: Decimal
    reduce_only: bool
    time_ms: int
    update_ms: int

    @property
    def open(self) -> bool:
        return self.status in ("NEW", "PARTIALLY_FILLED")


class StoredTrade(Struct, frozen=True):
    trade_id: int
    order_id: int
    symbol: str
    side: str
    quantity: Decimal
    price: Decimal
    realized: Decimal
    commission: Decimal
    time_ms: int


class Booking(Struct, frozen=True):
    kind: str
    symbol: str
    amount: Decimal
    time_ms: int
    tran_id: int
    trade_id: int | None


class Received(Struct, frozen=True):
    """One order request as it came in, whatever became of it."""

    received_us: int
    source: str
    client_id: str
    symbol: str
    params: str
    verdict: str = "accepted"
    code: int | None = None
    order_id: int | None = None

    def as_refused(self, *, code: int) -> Received:
        return replace(self, verdict="refused", code=code)


class Store:
    def __init__(self, *, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, timeout=1, cached_statements=256)
        self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(SCHEMA)
        self.next_order_id = self._next("orders", "order_id", FIRST_ORDER_ID)
        self.next_trade_id = self._next("trades", "trade_id", FIRST_TRADE_ID)

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def commit(self) -> Iterator[None]:
        """Everything inside is one transaction: an order, its trade and its position, or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def put_order(self, order: StoredOrder) -> None:
        values = (
            order.order_id, order.client_id, order.symbol, order.side, order.type, order.time_in_force,
            order.status, *map(_text, (order.price, order.quantity, order.executed, order.quote)),
            order.reduce_only, order.time_ms, order.update_ms,
        )  # fmt: skip
        self._db.execute(
            "INSERT INTO orders VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (order_id) DO UPDATE SET "
            "status=excluded.status, executed=excluded.executed, quote=excluded.quote, "
            "update_ms=excluded.update_ms",
            values,
        )
        self.next_order_id = max(self.next_order_id, order.order_id + 1)

    def put_trade(self, trade: StoredTrade) -> None:
        numbers = map(_text, (trade.quantity, trade.price, trade.realized, trade.commission))
        head = (trade.trade_id, trade.order_id, trade.symbol, trade.side)
        self._db.execute("INSERT INTO trades VALUES (?,?,?,?,?,?,?,?,?)", (*head, *numbers, trade.time_ms))
        self.next_trade_id = max(self.next_trade_id, trade.trade_id + 1)

    def put_holding(self, *, symbol: str, holding: Holding, mark_price: Decimal, update_ms: int) -> None:
        numbers = map(_text, (holding.amount, holding.entry_price, mark_price))
        self._db.execute("INSERT OR REPLACE INTO holdings VALUES (?,?,?,?,?)", (symbol, *numbers, update_ms))

    def put_received(self, received: Received) -> None:
        self._db.execute(
            "INSERT INTO received (received_us, source, client_id, symbol, params, verdict, code, order_id) "
            "VALUES (?,?,?,?,?,?,?,?)",
            (received.received_us, received.source, received.client_id, received.symbol, received.params,
             received.verdict, received.code, received.order_id),
        )  # fmt: skip

    def put_booking(self, *, kind: str, symbol: str, amount: Decimal, time_ms: int) -> None:
        """Money that moved without a trade; trades book themselves."""
        self._db.execute(
            "INSERT INTO bookings (kind, symbol, amount, time_ms) VALUES (?,?,?,?)",
            (kind, symbol, _text(amount), time_ms),
        )

    def income(self, *, where: str, values: Sequence[object], limit: int, skip: int = 0) -> list[Booking]:
        rows = self._db.execute(
            f"SELECT kind, symbol, amount, time_ms, tran_id, trade_id FROM ({INCOME}) WHERE {where} "
            "ORDER BY time_ms, tran_id, kind LIMIT ? OFFSET ?",
            (*values, limit, skip),
        )
        return [Booking(kind, symbol, Decimal(amount), *ids) for kind, symbol, amount, *ids in rows]

    def put_fact(self, *, name: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO facts VALUES (?,?)", (name, value))

    def put_algo_order(self, *, algo_id: int, text: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO algo_orders VALUES (?,?)", (algo_id, text))

    def algo_orders(self) -> list[str]:
        return [text for (text,) in self._db.execute("SELECT text FROM algo_orders ORDER BY algo_id")]

    def facts(self) -> dict[str, str]:
        return dict(self._db.execute("SELECT name, value FROM facts"))

    def holdings(self) -> dict[str, tuple[Holding, Decimal, int]]:
        """symbol -> holding, last mark price, last change."""
        rows = self._db.execute("SELECT symbol, amount, entry_price, mark_price, update_ms FROM holdings")
        return {
            symbol: (Holding(Decimal(amount), Decimal(entry)), Decimal(mark), update_ms)
            for symbol, amount, entry, mark, update_ms in rows
        }

    def order(
        self, *, symbol: str, order_id: int | None = None, client_id: str | None = None
    ) -> StoredOrder | None:
        column, value = ("order_id", order_id) if order_id is not None else ("client_id", client_id)
        rows = self._orders(f"symbol = ? AND {column} = ?", (symbol, value))
        return rows[0] if rows else None

    def client_id_used(self, client_id: str) -> bool:
        return bool(self._db.execute("SELECT 1 FROM orders WHERE client_id = ?", (client_id,)).fetchone())

    def open_orders(self, *, symbol: str | None = None) -> list[StoredOrder]:
        where = "status IN ('NEW', 'PARTIALLY_FILLED')"
        if symbol is None:
            return self._orders(f"{where} ORDER BY order_id", ())
        return self._orders(f"{where} AND symbol = ? ORDER BY order_id", (symbol,))

    def orders(
        self, *, where: str, values: Sequence[object], newest: int | None, limit: int
    ) -> list[StoredOrder]:
        """Ascending by id. newest: only the last so many of those that match."""
        order = "DESC" if newest else "ASC"
        found = self._orders(f"{where} ORDER BY order_id {order} LIMIT ?", (*values, newest or limit))
        return found[::-1] if newest else found

    def trades(
        self, *, where: str, values: Sequence[object], newest: int | None, limit: int
    ) -> list[StoredTrade]:
        """Rows ascending by id. newest: only the last so many of those that match."""
        order = "DESC" if newest else "ASC"
        rows = self._db.execute(
            f"SELECT * FROM trades WHERE {where} ORDER BY trade_id {order} LIMIT ?",
            (*values, newest or limit),
        ).fetchall()
        found = [_trade(*row) for row in rows]
        return found[::-1] if newest else found

    def received(self, *, after: int = 0) -> list[dict[str, object]]:
        rows = self._db.execute("SELECT * FROM received WHERE seq > ? ORDER BY seq", (after,))
        names = [column[0] for column in rows.description]
        return [dict(zip(names, row, strict=True)) for row in rows]

    def _orders(self, where: str, values: Sequence[object]) -> list[StoredOrder]:
        rows = self._db.execute(f"SELECT * FROM orders WHERE {where}", values)
        return [_order(*row) for row in rows]

    def _next(self, table: str, column: str, first: int) -> int:
        (highest,) = self._db.execute(f"SELECT MAX({column}) FROM {table}").fetchone()
        return first if highest is None else int(highest) + 1


def _text(value: Decimal) -> str:
    return format(value, "f")


def _trade(
    trade_id: int, order_id: int, symbol: str, side: str,
    quantity: str, price: str, realized: str, commission: str, time_ms: int,
) -> StoredTrade:  # fmt: skip
    numbers = Decimal(quantity), Decimal(price), Decimal(realized), Decimal(commission)
    return StoredTrade(trade_id, order_id, symbol, side, *numbers, time_ms=time_ms)


def _order(
    order_id: int, client_id: str, symbol: str, side: str, type_: str, time_in_force: str, status: str,
    price: str, quantity: str, executed: str, quote: str,
    reduce_only: int, time_ms: int, update_ms: int,
) -> StoredOrder:  # fmt: skip
    return StoredOrder(
        order_id=order_id, client_id=client_id, symbol=symbol, side=side, type=type_,
        time_in_force=time_in_force, status=status, price=Decimal(price), quantity=Decimal(quantity),
        executed=Decimal(executed), quote=Decimal(quote), reduce_only=bool(reduce_only),
        time_ms=time_ms, update_ms=update_ms,
    )  # fmt: skip
