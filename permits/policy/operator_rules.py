"""The operator as a third issuer: whether the policy lets an operator sign for a gate and a size.

To be asked by the gate before it spends and by whoever signs. Absent or unreadable is: not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal

from django.conf import settings

from permits.models import PolicyVersion
from permits.policy import inputs
from permits.policy.mandate import RULE, OperatorRule, RuleMalformed, parse
from quantum import amounts, clock
from quantum.redis import Client

CACHE_S = 1.0


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
    said = client.hmget(settings.KEYS.snapshot(symbol), "mark_price", "seen_epoch", "ts_epoch")
    price, seen_s, told_s = (amounts.parse((text or b"").decode(errors="replace")) for text in said)
    age_s = inputs.age_of(seen_s, told_s)
    if price is None or age_s is None or price <= 0:
        return None
    return price if age_s <= settings.P33_STALE_THRESHOLD_SEC else None


class Operators:
    """The rule as the gate asks for it: at most a second old, and read only for an operator's permit."""

    def __init__(self, *, client: Client, read: Callable[[], OperatorRule | None] = current) -> None:
        self._client = client
        self._read = read
        self._known: OperatorRule | None = None
        self._read_s: float | None = None

    def refusal(self, *, gates: Iterable[str], symbol: str, quantity: Decimal | None) -> str | None:
        """None: the policy lets an operator sign this. Without a quantity: some quantity of the symbol."""
        rule = self._rule()
        if rule is None:
            return "the policy has no rule for operators"
        for gate in gates:
            if gate not in rule.gates:
                return f"the policy does not let operators sign for {gate}"
        if quantity is None:
            return rule.no_size(symbol=symbol)
        price = price_of(self._client, symbol) if rule.max_notional is not None else None
        return rule.refusal(symbol=symbol, quantity=quantity, price=price)

    def _rule(self) -> OperatorRule | None:
        now_s = clock.boot_s()
        if self._read_s is None or now_s - self._read_s >= CACHE_S:
            self._known, self._read_s = self._read(), now_s
        return self._known
