"""The operator as a third issuer: for which gates and sizes the policy lets an operator sign.

Absent, unreadable or without a size for the symbol is: not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from django.conf import settings

from permits import payloads
from permits.models import PolicyVersion
from quantum import amounts, clock
from quantum.redis import Client

RULE = "operator"
CACHE_S = 1.0


class RuleMalformed(Exception):
    """The text says what is wrong with the rule, for the person who sets it."""


@dataclass(frozen=True, slots=True)
class OperatorRule:
    """`{"gates": ["governor", "p33"], "max_notional": "50000", "max_quantity": {"BTCUSDT": "1.5"}}`"""

    gates: frozenset[str]
    max_notional: Decimal | None
    max_quantity: Mapping[str, Decimal]

    def refusal(self, *, symbol: str, quantity: Decimal, price: Decimal | None) -> str | None:
        """Why this size is not an operator's to sign, with both numbers. Every limit that is given holds,
        and one at least must be given for the symbol."""
        most = self.max_quantity.get(symbol)
        if most is None and self.max_notional is None:
            return f"the policy names no size of {symbol} for operators"
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


def current() -> OperatorRule | None:
    """From the newest policy. None: operators sign for no gate."""
    rules = PolicyVersion.objects.order_by("-version").values_list("rules", flat=True).first()
    if not isinstance(rules, dict) or RULE not in rules:
        return None
    try:
        return parse(rules[RULE])
    except RuleMalformed:
        return None


def price_of(client: Client, symbol: str) -> Decimal | None:
    """The mark price of p33's snapshot, where that is fresh."""
    mark, read_at = client.hmget(settings.KEYS.snapshot(symbol), "mark_price", "ts_epoch")
    price, read_s = (amounts.parse((text or b"").decode(errors="replace")) for text in (mark, read_at))
    if price is None or read_s is None or price <= 0:
        return None
    age_s = Decimal(clock.now_ms()) / 1000 - read_s
    return price if age_s <= settings.P33_STALE_THRESHOLD_SEC else None


class Operators:
    """The rule as the gate asks for it: at most a second old, and read only for an operator's permit."""

    def __init__(self, *, client: Client, read: Callable[[], OperatorRule | None] = current) -> None:
        self._client = client
        self._read = read
        self._known: OperatorRule | None = None
        self._read_s: float | None = None

    def refusal(self, *, gates: Iterable[str], symbol: str, quantity: Decimal | None) -> str | None:
        """None: the policy lets an operator sign this. Without a quantity only the gates are asked for."""
        rule = self._rule()
        if rule is None:
            return "the policy has no rule for operators"
        for gate in gates:
            if gate not in rule.gates:
                return f"the policy does not let operators sign for {gate}"
        if quantity is None:
            return None
        price = price_of(self._client, symbol) if rule.max_notional is not None else None
        return rule.refusal(symbol=symbol, quantity=quantity, price=price)

    def _rule(self) -> OperatorRule | None:
        now_s = clock.boot_s()
        if self._read_s is None or now_s - self._read_s >= CACHE_S:
            self._known, self._read_s = self._read(), now_s
        return self._known
