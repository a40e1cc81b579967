"""What a policy leaves to operators: the gates they may sign for, and how much. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from msgspec import Struct

from permits.desk import payloads
from quantum import amounts

RULE = "operator"
"""The member of a policy's rules."""


class RuleMalformed(Exception):
    """The text says what is wrong with the rule, for the person who sets it."""


class OperatorRule(Struct, frozen=True):
    """`{"gates": ["governor", "p33"], "max_notional": "50000", "max_quantity": {"BTCUSDT": "1.5"}}`"""

    gates: frozenset[str]
    max_notional: Decimal | None
    max_quantity: Mapping[str, Decimal]

    def refusal(self, *, symbol: str, quantity: Decimal, price: Decimal | None) -> str | None:
        """Why this size is not an operator's to sign, with both numbers. Every limit that is given holds,
        and one at least must be given for the symbol."""
        unnamed = self.no_size(symbol=symbol)
        if unnamed is not None:
            return unnamed
        most = self.max_quantity.get(symbol)
        if most is not None and quantity > most:
            return f"quantity {amounts.plain(quantity)} is above the operators' {amounts.plain(most)}"
        if self.max_notional is None:
            return None
        if price is None:
            return f"no fresh price of {symbol}, so its notional is not known"
        notional = quantity * price
        if notional > self.max_notional:
            limit = amounts.plain(self.max_notional)
            return f"notional {amounts.plain(notional)} is above the operators' {limit}"
        return None

    def no_size(self, *, symbol: str) -> str | None:
        if symbol in self.max_quantity or self.max_notional is not None:
            return None
        return (
            f"the policy names no size of {symbol} for operators; see policy_set operator.max_notional, "
            f"or operator.max_quantity with --symbol {symbol}"
        )


def parse(value: object) -> OperatorRule:
    """Strict; for whoever stores a policy and for us who read it."""
    if not isinstance(value, dict) or set(value) - {"gates", "max_notional", "max_quantity"}:
        raise RuleMalformed("the operator rule has gates, max_notional and max_quantity, and nothing else")
    gates = value.get("gates", [])
    if not isinstance(gates, list) or not all(gate in (payloads.GOVERNOR, payloads.P33) for gate in gates):
        raise RuleMalformed("gates is a list of governor and p33")
    quantities = value.get("max_quantity", {})
    if not isinstance(quantities, dict):
        raise RuleMalformed("max_quantity names a quantity per symbol")
    notional = value.get("max_notional")
    return OperatorRule(
        gates=frozenset(gates),
        max_notional=None if notional is None else _positive(notional, "max_notional"),
        max_quantity={
            symbol: _positive(most, f"max_quantity of {symbol}") for symbol, most in quantities.items()
        },
    )


def _positive(value: object, name: str) -> Decimal:
    found = (
        amounts.parse(str(value)) if isinstance(value, (str, int)) and not isinstance(value, bool) else None
    )
    if found is None or found <= 0:
        raise RuleMalformed(f"{name} is a plain number above zero, as text")
    return found
