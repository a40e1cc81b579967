"""What each gate would say to an exit now, for a person who thinks of signing in its place. Nothing is decided here:
the gates judge by themselves, from what they read then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

from django.conf import settings
from msgspec import Struct

from permits.desk import payloads
from permits.governor import spent
from permits.policy import policy
from permits.policy.policy import TOTAL, Facts, Limits, Policy, Use
from permits.state import trading
from positions.books import ledger
from positions.judging import verdict
from positions.judging.verdict import Bounds, Observed
from positions.reconcile.reconcile import Line
from quantum import amounts, clock
from quantum.plan import ExitPlan

STEP = Decimal("0.00000001")
"""The exchange's own steps are not known here; they only make a quantity smaller."""


class Outlook(Struct, frozen=True):
    gate: str
    grants: bool
    reason: str
    compared: Mapping[str, str]
    """A denial's two numbers."""


def of(plan: ExitPlan, line: Line, rules: Policy, *, quantity: Decimal) -> list[Outlook]:
    notional = None if line.mark_price is None else quantity * line.mark_price
    return [_governor(plan, rules, quantity=quantity, notional=notional), _brain(plan, line)]


def used(symbol: str) -> tuple[Use, Use]:
    """Of the limits, by fills: of the symbol, and in total. What live permits have reserved is not in it."""
    found = spent.used()
    return found.get(symbol, Use()), found[TOTAL]


def limits(rules: Policy, symbol: str) -> list[str]:
    """Each limit that is set, with what is used of it."""
    of_symbol, in_total = used(symbol)
    scopes = ((symbol, rules.limits.of(symbol), of_symbol), (TOTAL, rules.limits.total, in_total))
    return [text for name, limit, use in scopes for text in _used_of(name, limit, use)]


def _used_of(name: str, limit: Limits, use: Use) -> Iterator[str]:
    pairs: tuple[tuple[Decimal | int, Decimal | int | None, str], ...] = (
        (use.permits_5min, limit.permits_per_5min, "exits in 5 min"),
        (use.permits_hour, limit.permits_per_hour, "exits in 1 h"),
        (use.notional_day, limit.notional_per_day_usd, "USD in 24 h"),
        (use.quantity_day, limit.quantity_per_day, "coins in 24 h"),
        (use.failures_in_a_row, limit.failures_in_a_row, "failures in a row"),
    )
    for said, most, unit in pairs:
        if most is not None:
            yield f"{name} {amounts.plain(Decimal(said))} of {amounts.plain(Decimal(most))} {unit}"


def _governor(plan: ExitPlan, rules: Policy, *, quantity: Decimal, notional: Decimal | None) -> Outlook:
    of_symbol, in_total = used(plan.symbol)
    facts = Facts(
        now_s=Decimal(clock.now_ms()) / 1000,
        trading_active=trading.current().active,
        quantity=quantity,
        notional=notional,
        missing="" if notional is not None else f"no mark price of {plan.symbol}",
        of_symbol=of_symbol,
        in_total=in_total,
    )
    found = policy.evaluate(plan, rules, facts)
    return Outlook(payloads.GOVERNOR, found.approved, found.reason.value, _texts(found.rule))


def _brain(plan: ExitPlan, line: Line) -> Outlook:
    observed = Observed(amount=line.exchange, age_s=line.age_s, observed_at=Decimal(line.asked_ms) / 1000)
    bounds = Bounds(
        lot_step=line.tolerance,
        market_step=STEP,
        market_min=STEP,
        market_max=abs(line.exchange) + 1,
        tolerance_pct=Decimal(0),  # the line's tolerance is the whole of it
        stale_after_s=settings.P33_STALE_THRESHOLD_SEC,
        cooldown_s=settings.P33_COOLDOWN_SEC,
    )
    percent = plan.step.percent if plan.step else 0
    found = verdict.evaluate(
        percent=percent, observed=observed, ledger=ledger.view(plan.symbol), bounds=bounds
    )
    compared = {} if found.allowed else found.compared
    return Outlook(payloads.P33, found.allowed, found.reason.value, _texts(compared))


def _texts(said: Mapping[str, Decimal | str]) -> dict[str, str]:
    return {
        name.replace("_", " "): amounts.plain(value) if isinstance(value, Decimal) else value
        for name, value in said.items()
    }
