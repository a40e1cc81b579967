"""Positions, average entry and realised profit of one symbol. Pure and exact.

Rounding happens at two documented places only: the average entry price (when a position
grows) and the commission, both to 8 decimals as the exchange shows them. A position that
only shrinks keeps its entry price, so its realised profit is exact.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal

from msgspec import Struct

EIGHT_PLACES = Decimal("1e-8")
TAKER_FEE = Decimal("0.0005")
_EXACT = Context(prec=60)
ZERO = Decimal(0)


class Holding(Struct, frozen=True):
    amount: Decimal = ZERO
    """Signed: long is positive, short negative."""
    entry_price: Decimal = ZERO

    def unrealized(self, *, price: Decimal) -> Decimal:
        return _EXACT.multiply(self.amount, price - self.entry_price)


class Booked(Struct, frozen=True):
    holding: Holding
    realized: Decimal
    commission: Decimal


def book(*, holding: Holding, signed_quantity: Decimal, price: Decimal) -> Booked:
    """One fill: buys are positive. It may open, grow, shrink, close or flip the position."""
    before, after = holding.amount, _EXACT.add(holding.amount, signed_quantity)
    commission = _eight(_EXACT.multiply(abs(signed_quantity), _EXACT.multiply(price, TAKER_FEE)))
    closed = min(abs(before), abs(signed_quantity)) if before * signed_quantity < 0 else ZERO
    gain = price - holding.entry_price if before > 0 else holding.entry_price - price
    realized = _EXACT.multiply(closed, gain) if closed else ZERO
    if after == 0:
        entry = ZERO
    elif closed and before * after > 0:
        entry = holding.entry_price
    elif closed:
        entry = price
    else:
        cost = _EXACT.add(abs(before) * holding.entry_price, abs(signed_quantity) * price)
        entry = _eight(_EXACT.divide(cost, abs(after)))
    return Booked(Holding(after, entry), realized, commission)


def _eight(value: Decimal) -> Decimal:
    return value.quantize(EIGHT_PLACES, ROUND_HALF_EVEN, _EXACT)
