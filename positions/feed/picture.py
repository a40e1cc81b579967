"""What the exchange holds, as we know it: the last whole read, and what the stream told since. No I/O.

A read knows every symbol and is a moment old; the stream tells at once, and only what changed. Whichever is the
newer counts, symbol by symbol. Their order is by the exchange's clock, of which ours is a measure: where that leaves a
doubt, the answer is another read and never a guess.
"""

from __future__ import annotations

import threading
from decimal import Decimal

from msgspec import Struct

from quantum import clock
from quantum.exchange.events import AccountUpdate, ChangedPosition, PositionSide
from quantum.exchange.types import Position, PositionsRead

CLOCKS_APART_MS = 2000
"""So far may our measure of the exchange's clock be off. An older message was certainly before the read."""
TOLD_WITHIN_MS = 2000
"""A movement that a read shows reaches us by the stream as well, within this time."""


class Heard(Struct, frozen=True):
    """What an update did to the picture."""

    changed: frozenset[str] = frozenset()
    doubtful: bool = False
    """Only a further read can say: it tells another amount than a read of about the same moment, or a position
    that no read has seen, and so without a mark price of now."""
    hedged: bool = False


class Known(Struct, frozen=True):
    """One symbol. as_of_ms is the exchange's time: every movement before it is inside the amount."""

    position: Position | None
    as_of_ms: int
    source: str
    again_ms: int = 0
    """Only a read asked for from then on says more: a word of the stream and the read cannot be put in order."""

    @property
    def amount(self) -> Decimal:
        return self.position.amount if self.position else Decimal(0)


class _Told(Struct, frozen=True):
    position: Position
    as_of_ms: int
    heard_boot_s: float


class _Doubt(Struct, frozen=True):
    """A word of the stream about word_ms, which the read of read_ms may have in it or not."""

    word_ms: int
    read_ms: int


class _Untold(Struct, frozen=True):
    """A movement that a read showed: it lies between the read before and this one."""

    since_ms: int
    seen_ms: int


class Picture:
    """Written by the feed and by its ear, read by the Brain: each from a thread of its own."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._read: PositionsRead | None = None
        self._read_boot_s = 0.0
        self._told: dict[str, _Told] = {}
        self._untold: dict[str, _Untold] = {}
        self._doubts: dict[str, _Doubt] = {}
        self._expected: set[str] | None = set()
        """Symbols that the next read may show otherwise without our having been told; None: all of them."""

    # ---- reading it

    @property
    def read(self) -> PositionsRead | None:
        """The last whole read, without what the stream told since."""
        return self._read

    def age_s(self) -> float:
        return clock.boot_s() - self._read_boot_s

    def of(self, symbol: str) -> Known | None:
        """None: never read, which is not the same as flat (I12)."""
        with self._guard:
            if self._read is None:
                return None
            told = self._told.get(symbol)
            if told:
                return Known(told.position, max(told.as_of_ms, self._read.asked_ms), "stream")
            position, asked_ms = self._read.positions.get(symbol), self._read.asked_ms
            doubt = self._doubts.get(symbol)
            if doubt:
                return Known(position, min(asked_ms, doubt.word_ms - 1), "rest", again_ms=doubt.read_ms + 1)
            return Known(position, asked_ms, "rest")

    @property
    def doubtful(self) -> bool:
        return bool(self._doubts)

    def symbols(self) -> set[str]:
        with self._guard:
            return {*(self._read.positions if self._read else ()), *self._told}

    # ---- writing it

    def take(self, read: PositionsRead, *, asked_boot_s: float) -> None:
        with self._guard:
            before = self._read
            known = {
                symbol: self._amount(symbol) for symbol in {*read.positions, *self._told, *_held(before)}
            }
            # What had been heard when the read was asked for is inside it, wherever the clocks stand.
            heard = self._told
            self._told = {
                name: told
                for name, told in heard.items()
                if told.as_of_ms > read.asked_ms and told.heard_boot_s >= asked_boot_s
            }
            # What was heard after that, of about that moment, is in it or not: nobody can say.
            self._doubts = {
                name: _Doubt(told.as_of_ms, read.asked_ms)
                for name, told in heard.items()
                if name not in self._told
                and told.heard_boot_s >= asked_boot_s
                and read.asked_ms - told.as_of_ms < CLOCKS_APART_MS
                and read.amount(name) != told.position.amount
            }
            self._read, self._read_boot_s = read, asked_boot_s
            expected, self._expected = self._expected, set(self._doubts)
            if before is None or expected is None:
                return
            for symbol, amount in known.items():
                if symbol not in expected and symbol not in self._doubts and self._amount(symbol) != amount:
                    self._untold.setdefault(symbol, _Untold(before.asked_ms, read.asked_ms))

    def hear(self, update: AccountUpdate) -> Heard:
        """Nothing before the first read: a picture of some symbols would look like one of all."""
        with self._guard:
            if any(row.position_side is not PositionSide.BOTH for row in update.positions):
                return Heard(hedged=True)
            changed, doubtful = set(), False
            for row in update.positions:
                self._untold.pop(row.symbol, None)
                if self._is_newer(row.symbol, update.transaction_ms):
                    doubtful |= self._position(row.symbol) is None and row.amount != 0
                    changed |= self._tell(row, update.transaction_ms)
                elif self._is_doubtful(row, update.transaction_ms):
                    doubtful = True
                    self._doubts[row.symbol] = _Doubt(update.transaction_ms, self._asked_ms())
                    if self._expected is not None:
                        self._expected.add(row.symbol)
            return Heard(frozenset(changed), doubtful)

    def missed(self) -> None:
        """The stream was not heard for a while: what the next read shows, it need not have told."""
        with self._guard:
            self._untold.clear()
            self._expected = None

    def untold_since_ms(self, *, now_ms: int) -> int | None:
        """The stream is deaf to something: it kept a movement to itself since then. Told once."""
        with self._guard:
            late = [each.since_ms for each in self._untold.values() if now_ms - each.seen_ms > TOLD_WITHIN_MS]
            if late:
                self._untold.clear()
            return min(late, default=None)

    # ---- under the guard

    def _position(self, symbol: str) -> Position | None:
        told = self._told.get(symbol)
        return told.position if told else self._read.positions.get(symbol) if self._read else None

    def _amount(self, symbol: str) -> Decimal:
        position = self._position(symbol)
        return position.amount if position else Decimal(0)

    def _asked_ms(self) -> int:
        return self._read.asked_ms if self._read else 0

    def _is_newer(self, symbol: str, at_ms: int) -> bool:
        """Two of one millisecond: the exchange sends them in the order in which they happened."""
        told = self._told.get(symbol)
        if told:
            return at_ms >= told.as_of_ms
        return self._read is not None and at_ms > self._read.asked_ms

    def _is_doubtful(self, row: ChangedPosition, at_ms: int) -> bool:
        """It cannot be told whether the read has it; nobody knows an older one to be of another moment."""
        if self._read is None or row.symbol in self._told:
            return False
        return row.amount != self._amount(row.symbol) and self._read.asked_ms - at_ms < CLOCKS_APART_MS

    def _tell(self, row: ChangedPosition, at_ms: int) -> set[str]:
        before = self._position(row.symbol)
        amount_before = before.amount if before else Decimal(0)
        now = Position(
            symbol=row.symbol,
            amount=row.amount,
            entry_price=row.entry_price,
            # The stream tells no mark price. What a position was opened at just now is a price of the market too.
            mark_price=before.mark_price if before else row.entry_price,
            unrealized_pnl=row.unrealized_pnl,
            updated_ms=at_ms,
        )
        self._doubts.pop(row.symbol, None)
        self._told[row.symbol] = _Told(now, at_ms, clock.boot_s())
        return {row.symbol} if amount_before != row.amount else set()


def _held(read: PositionsRead | None) -> set[str]:
    return set(read.positions) if read else set()
