"""How much, and which side: bounded by the permit and by the plan's share. Pure (I3)."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct

from quantum import amounts
from quantum.exchange.types import Side, SymbolRules
from quantum.plan import Step
from quantum.reasons import ApplyReason


class Size(Struct, frozen=True):
    side: Side
    quantity: Decimal


def size(*, step: Step, position: Decimal, safe_quantity: Decimal, rules: SymbolRules) -> Size | ApplyReason:
    """The closing side, and never more than the permit allows or the plan asks for."""
    if position == 0 or safe_quantity <= 0 or safe_quantity > abs(position):
        return ApplyReason.POSITION_CHANGED
    share = abs(position) * step.percent / 100
    quantity = amounts.floor_to_step(min(share, safe_quantity, rules.market_max), rules.market_step)
    if quantity < rules.market_min or quantity <= 0:
        return ApplyReason.BELOW_MIN
    return Size(side=Side.SELL if position > 0 else Side.BUY, quantity=quantity)
