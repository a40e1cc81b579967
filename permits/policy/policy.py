"""The Governor's rules. Pure: a policy and facts in, a verdict out.

Every limit stands per symbol and in total, each in its own unit: permits, USD, coins of one symbol, seconds.
A quantity has no total: coins of two symbols do not add up to anything (decision 012).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Protocol

from msgspec import Struct, field

from quantum.reasons import GovernorReason

TOTAL = "total"


class Limits(Struct, frozen=True):
    """Of one scope: a symbol, or all of them together. None is no limit, and asks for no input."""

    permits_per_5min: int | None = None
    permits_per_hour: int | None = None
    notional_per_day_usd: Decimal | None = None
    quantity_per_day: Decimal | None = None
    cooldown_s: Decimal | None = None
    failures_in_a_row: int | None = None
    circuit_open_s: Decimal = Decimal(5)
    approval_above_usd: Decimal | None = None

    @property
    def need_size(self) -> bool:
        sized = (self.notional_per_day_usd, self.quantity_per_day, self.approval_above_usd)
        return any(limit is not None for limit in sized)


class LimitSet(Struct, frozen=True):
    total: Limits = Limits()
    each: Limits = Limits()
    symbols: Mapping[str, Limits] = field(default_factory=dict)
    approval_symbols: frozenset[str] = frozenset()

    def of(self, symbol: str) -> Limits:
        return self.symbols.get(symbol, self.each)


class Policy(Struct, frozen=True):
    mode: str
    allowlist: frozenset[str]
    plan_ttl_s: Decimal
    version: int = 0
    limits: LimitSet = LimitSet()
    shadow: LimitSet | None = None
    """Evaluated and recorded beside the limits; never blocks."""

    def needs_size(self, symbol: str) -> bool:
        """Of the limits alone: no shadow rule makes a decision wait for a read."""
        return self.limits.total.need_size or self.limits.of(symbol).need_size


class Asked(Protocol):
    """Of a plan, what the rules look at: the plan itself, or what was kept of it."""

    @property
    def symbol(self) -> str: ...

    @property
    def mode(self) -> str: ...

    def expiry_s(self, *, ttl_s: Decimal) -> Decimal: ...


class Use(Struct, frozen=True):
    """What one scope has used of its limits: executed, or reserved by a permit that may still be."""

    permits_5min: int = 0
    permits_hour: int = 0
    notional_day: Decimal = Decimal(0)
    quantity_day: Decimal = Decimal(0)
    since_exit_s: Decimal | None = None
    failures_in_a_row: int = 0
    since_failure_s: Decimal | None = None
    in_flight: int = 0
    """Reservations that live, without the plan's own."""


class Facts(Struct, frozen=True):
    now_s: Decimal
    trading_active: bool | None
    quantity: Decimal | None = None
    notional: Decimal | None = None
    missing: str = ""
    """Why the size is not known, where it is not."""
    of_symbol: Use = Use()
    in_total: Use = Use()
    approved: bool = False
    """People have said yes to this very plan."""


class Verdict(Struct, frozen=True):
    reason: GovernorReason
    rule: dict[str, Decimal | str]
    """A denial names both numbers: what was compared, and with what."""

    @property
    def approved(self) -> bool:
        return self.reason is GovernorReason.APPROVED


def evaluate(plan: Asked, policy: Policy, facts: Facts) -> Verdict:
    """Rules in their order. A risk score is not among them: it never blocks what reduces risk."""
    if plan.mode not in ("", policy.mode):
        return Verdict(GovernorReason.MODE, {"plan_mode": plan.mode[:20], "mode": policy.mode})
    if plan.symbol not in policy.allowlist:
        allowed = f"{len(policy.allowlist)} symbols"
        return Verdict(GovernorReason.NOT_IN_ALLOWLIST, {"symbol": plan.symbol, "allowed": allowed})
    if facts.trading_active is None:
        return Verdict(GovernorReason.INPUTS_UNAVAILABLE, {"missing": "trading state"})
    if not facts.trading_active:
        return Verdict(GovernorReason.HALTED, {"state": "HALTED"})
    expiry = plan.expiry_s(ttl_s=policy.plan_ttl_s)
    if facts.now_s >= expiry:
        return Verdict(GovernorReason.STALE_PLAN, {"expired_at": expiry, "now": facts.now_s})
    return within(plan.symbol, policy.limits, facts)


def within(symbol: str, limits: LimitSet, facts: Facts) -> Verdict:
    """The limits alone, each for the symbol and then in total; also for shadow rules and replays."""
    scopes = (
        _Scope(symbol, limits.of(symbol), facts.of_symbol, symbol in limits.approval_symbols),
        _Scope(TOTAL, limits.total, facts.in_total),
    )
    for rule in RULES:
        for scope in scopes:
            denied = rule(scope, facts)
            if denied is not None:
                return denied
    return Verdict(GovernorReason.APPROVED, {})


# ---- one function per rule


class _Scope(Struct, frozen=True):
    name: str
    limits: Limits
    use: Use
    approval: bool = False


_Rule = Callable[[_Scope, Facts], Verdict | None]


def _burst(scope: _Scope, _: Facts) -> Verdict | None:
    limit, used = scope.limits.permits_per_5min, scope.use.permits_5min
    if limit is None or used + 1 <= limit:
        return None
    return _deny(GovernorReason.BURST_LIMIT, scope, unit="permits in 5 min", limit=limit, used=used)


def _hourly(scope: _Scope, _: Facts) -> Verdict | None:
    limit, used = scope.limits.permits_per_hour, scope.use.permits_hour
    if limit is None or used + 1 <= limit:
        return None
    return _deny(GovernorReason.HOURLY_LIMIT, scope, unit="permits in 1 h", limit=limit, used=used)


def _daily_notional(scope: _Scope, facts: Facts) -> Verdict | None:
    limit, used = scope.limits.notional_per_day_usd, scope.use.notional_day
    if limit is None:
        return None
    if facts.notional is None:
        return _unknown(scope, facts)
    if used + facts.notional <= limit:
        return None
    reason = GovernorReason.DAILY_NOTIONAL_LIMIT
    return _deny(reason, scope, unit="USD in 24 h", limit=limit, used=used, asked=facts.notional)


def _daily_quantity(scope: _Scope, facts: Facts) -> Verdict | None:
    limit, used = scope.limits.quantity_per_day, scope.use.quantity_day
    if limit is None:
        return None
    if facts.quantity is None:
        return _unknown(scope, facts)
    if used + facts.quantity <= limit:
        return None
    reason = GovernorReason.DAILY_QUANTITY_LIMIT
    return _deny(reason, scope, unit="coins in 24 h", limit=limit, used=used, asked=facts.quantity)


def _cooldown(scope: _Scope, _: Facts) -> Verdict | None:
    """An exit that a living permit may still become counts as one of this moment."""
    limit, since = scope.limits.cooldown_s, scope.use.since_exit_s
    if not limit:
        return None
    if scope.use.in_flight:
        return _deny(GovernorReason.COOLDOWN, scope, unit="s", limit=limit, in_flight=scope.use.in_flight)
    if since is None or since >= limit:
        return None
    return _deny(GovernorReason.COOLDOWN, scope, unit="s", limit=limit, used=since)


def _circuit(scope: _Scope, _: Facts) -> Verdict | None:
    """Open after failures in a row; then half open: one probe at a time, which closes or reopens it."""
    limit, use = scope.limits.failures_in_a_row, scope.use
    if limit is None or use.failures_in_a_row < limit:
        return None
    open_s, since_s = scope.limits.circuit_open_s, use.since_failure_s
    numbers: dict[str, Decimal | int] = {"limit": limit, "used": use.failures_in_a_row, "open_s": open_s}
    if since_s is not None and since_s < open_s:
        return _deny(GovernorReason.CIRCUIT_OPEN, scope, unit="failures in a row", **numbers, since_s=since_s)
    if use.in_flight:
        return _deny(
            GovernorReason.CIRCUIT_OPEN, scope, unit="failures in a row", **numbers, probes=use.in_flight
        )
    return None


def _approval(scope: _Scope, facts: Facts) -> Verdict | None:
    if facts.approved:
        return None
    reason = GovernorReason.AWAITING_APPROVAL
    if scope.approval:
        return Verdict(reason, {"scope": scope.name, "rule": "every exit of this symbol"})
    limit = scope.limits.approval_above_usd
    if limit is None:
        return None
    if facts.notional is None:
        return _unknown(scope, facts)
    if facts.notional <= limit:
        return None
    return _deny(reason, scope, unit="USD", limit=limit, asked=facts.notional)


RULES: tuple[_Rule, ...] = (
    _burst,
    _hourly,
    _daily_notional,
    _daily_quantity,
    _cooldown,
    _circuit,
    _approval,
)
OF_USE = frozenset(
    {
        GovernorReason.BURST_LIMIT,
        GovernorReason.HOURLY_LIMIT,
        GovernorReason.DAILY_NOTIONAL_LIMIT,
        GovernorReason.DAILY_QUANTITY_LIMIT,
        GovernorReason.COOLDOWN,
        GovernorReason.CIRCUIT_OPEN,
    }
)
"""Denials that rest on what was used: read anew before one is signed."""


def _deny(reason: GovernorReason, scope: _Scope, *, unit: str, **numbers: Decimal | int) -> Verdict:
    compared: dict[str, Decimal | str] = {name: Decimal(value) for name, value in numbers.items()}
    return Verdict(reason, {"scope": scope.name, "unit": unit, **compared})


def _unknown(scope: _Scope, facts: Facts) -> Verdict:
    missing = facts.missing or "position and mark price"
    return Verdict(GovernorReason.INPUTS_UNAVAILABLE, {"scope": scope.name, "missing": missing})
