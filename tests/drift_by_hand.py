"""A sweep over reads that a test makes by hand: two numbers, and time that moves when it says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from unittest.mock import patch

from django.conf import settings

from positions.books import ledger
from positions.books.ledger import SeenTrade
from positions.drift.sweep import Sweep
from positions.models import Balance
from quantum import clock
from quantum.exchange.types import Position, PositionsRead, Side, SymbolRules, Trade

STEP = Decimal("0.001")
NOTHING = Decimal(0)


def rules(*symbols: str) -> dict[str, SymbolRules]:
    most = Decimal(1000)
    return {
        symbol: SymbolRules(symbol, STEP, STEP, most, STEP, STEP, most, Decimal("0.1"), Decimal(5))
        for symbol in symbols
    }


def reading(*, asked_ms: int, **amounts: str) -> PositionsRead:
    held = {
        symbol: Position(symbol, Decimal(amount), NOTHING, NOTHING, NOTHING, asked_ms)
        for symbol, amount in amounts.items()
    }
    return PositionsRead(positions=held, asked_ms=asked_ms)


def balance(amount: str, *, symbol: str = "BTCUSDT", moved_ms: int = 0) -> Balance:
    return Balance.objects.create(
        account=settings.ACCOUNT, symbol=symbol, amount=Decimal(amount), moved_ms=moved_ms, trades_from_ms=0
    )


def stranger(number: int, quantity: str, *, client_order_id: str, symbol: str = "BTCUSDT") -> SeenTrade:
    """A fill, positive bought, negative sold."""
    signed = Decimal(quantity)
    made = Trade(
        trade_id=number,
        order_id=number,
        symbol=symbol,
        side=Side.BUY if signed > 0 else Side.SELL,
        quantity=abs(signed),
        price=Decimal(100),
        realized_pnl=Decimal("1.25"),
        commission=Decimal("0.04"),
        commission_asset="USDT",
        time_ms=clock.now_ms(),
    )
    seen = SeenTrade(made, client_order_id)
    ledger.store([seen])
    return seen


class Watched:
    """A sweep, and the read it is shown: each look a second after the last."""

    def __init__(self) -> None:
        self.sweep = Sweep()
        self.boot_s = 1000.0
        self.asked_ms = clock.now_ms()

    @contextmanager
    def _at(self, seconds: float) -> Iterator[None]:
        self.boot_s += seconds
        self.asked_ms += int(seconds * 1000)
        with patch.object(clock, "boot_s", lambda: self.boot_s):
            yield

    def look(self, *, after_s: float = 1.0, again: bool = False, **amounts: str) -> None:
        """again: no new read came since the last look."""
        with self._at(after_s):
            asked_ms = self.asked_ms - (int(after_s * 1000) if again else 0)
            self.sweep.look(reading(asked_ms=asked_ms, **amounts), rules("BTCUSDT", "ETHUSDT"))

    def restart(self) -> None:
        self.sweep = Sweep()
