"""One position through a row of klines, as a scorer would have closed it. Pure; exact to the last digit.

A decision is made at a kline's close and filled at that close, with the fee and without slippage. Sizes are
those of the product: the same function rounds them down and refuses them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from msgspec import Struct

from apply.acting.sizing import Size, size
from apply.exits.held import Held
from apply.exits.market import KLINES_MIN, NoMarket, measure
from apply.exits.score import NoScore, Score, Scorer, View
from quantum.exchange.types import Kline, SymbolRules
from quantum.plan import STEPS, Action

KLINES_SEEN = 98
"""As many as the exit brain has: what it asks for, without the one that still moves."""


class Trade(Struct, frozen=True):
    """What is held at the start, and on what terms."""

    symbol: str
    amount: Decimal
    """Signed; entered at the close of the first kline that leaves enough behind it."""
    risk_pct: Decimal
    fee_pct: Decimal
    rules: SymbolRules


class Exit(Struct, frozen=True):
    at_ms: int
    price: Decimal
    quantity: Decimal
    action: Action
    reason: str


@dataclass(slots=True)
class Result:
    scorer: str
    profit: Decimal = Decimal(0)
    """After all fees. What is left at the end is closed there."""
    fees: Decimal = Decimal(0)
    drawdown: Decimal = Decimal(0)
    """The deepest fall from the best so far, open profit counted at closes; before the entry that is 0."""
    in_trade_s: int = 0
    exits: list[Exit] = field(default_factory=list)
    blocked: dict[str, int] = field(default_factory=dict)
    """Exits that would have been refused, by the reason of apply's own rule of sizes."""
    unscored: int = 0
    """Closes at which the scorer could say nothing."""
    worth: list[Decimal] = field(default_factory=list)
    """Profit and loss at every close from the entry on, realised and open."""


class TooShort(Exception):
    """Not enough klines for one decision."""


def run(scorer: Scorer, klines: Sequence[Kline], trade: Trade) -> Result:
    if len(klines) <= KLINES_MIN:
        raise TooShort(f"{len(klines)} klines; {KLINES_MIN} come before the entry and one after it")
    account = _Account(trade, klines[KLINES_MIN - 1])
    result = account.result = Result(scorer=scorer.name)
    account.mark(account.entry.closed)
    for at in range(KLINES_MIN, len(klines)):
        kline = klines[at]
        if account.amount:
            result.in_trade_s = (kline.close_ms - account.entry.close_ms) // 1000
            score = _score(scorer, klines[max(at + 1 - KLINES_SEEN, 0) : at + 1], account)
            if isinstance(score, NoScore):
                result.unscored += 1
            elif account.held.is_due(score) and score.crossing is not None:
                account.held.note(score.crossing)
                account.close_by(score, kline)
        if at == len(klines) - 1:
            account.close(abs(account.amount), kline.closed)
        account.mark(kline.closed)
    result.profit, result.fees = account.wallet, account.fees
    return result


def _score(scorer: Scorer, klines: Sequence[Kline], account: _Account) -> Score | NoScore:
    newest = klines[-1]
    market = measure(klines, now_ms=newest.close_ms + 1)
    if isinstance(market, NoMarket):
        return NoScore(market.why)
    view = View(
        symbol=account.trade.symbol,
        amount=account.amount,
        entry_price=account.entry.closed,
        mark_price=newest.closed,
        klines=klines,
        at_ms=newest.close_ms + 1,
        age_s=Decimal(newest.close_ms - account.entry.close_ms) / 1000,
        market=market,
        risk=account.entry.closed * account.trade.risk_pct / 100,
        stop_locked=account.held.stop_locked,
    )
    return scorer.score(view)


class _Account:
    def __init__(self, trade: Trade, entry: Kline) -> None:
        self.trade, self.entry = trade, entry
        self.amount = trade.amount
        self.wallet = self.fees = self.best = Decimal(0)
        self.held = Held.of(amount=trade.amount, entry_price=entry.closed)
        self.result = Result(scorer="")
        self._pay(abs(trade.amount), entry.closed)

    def close_by(self, score: Score, kline: Kline) -> None:
        allowed = size(
            step=STEPS[score.action],
            position=self.amount,
            safe_quantity=abs(self.amount),
            rules=self.trade.rules,
        )
        if not isinstance(allowed, Size):
            self.result.blocked[allowed.value] = self.result.blocked.get(allowed.value, 0) + 1
            return
        self.result.exits.append(
            Exit(kline.close_ms, kline.closed, allowed.quantity, score.action, score.reason)
        )
        self.close(allowed.quantity, kline.closed)

    def close(self, quantity: Decimal, price: Decimal) -> None:
        side = 1 if self.amount > 0 else -1
        self.wallet += side * quantity * (price - self.entry.closed)
        self.amount -= side * quantity
        self._pay(quantity, price)

    def mark(self, price: Decimal) -> None:
        worth = self.wallet + self.amount * (price - self.entry.closed)
        self.best = max(self.best, worth)
        self.result.drawdown = max(self.result.drawdown, self.best - worth)
        self.result.worth.append(worth)

    def _pay(self, quantity: Decimal, price: Decimal) -> None:
        fee = quantity * price * self.trade.fee_pct / 100
        self.fees += fee
        self.wallet -= fee
