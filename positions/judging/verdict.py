"""The Brain's judgement: may this much be closed, do ledger and exchange agree? Pure."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct

from positions.judging import difference
from positions.judging.difference import Kind
from quantum import amounts
from quantum.reasons import BrainReason

CLOCK_S_MAX = Decimal(60)
"""A movement later than this was stamped by a clock that has been set back since: it must not deny until then."""


class Observed(Struct, frozen=True):
    """What the exchange said. amount None: it could not be read, which is never the same as flat (I12)."""

    amount: Decimal | None
    age_s: Decimal
    observed_at: Decimal
    resting: Decimal = Decimal(0)
    """How much of it reduce-only orders of others, which rest in the book, will close."""


class Ledger(Struct, frozen=True):
    """What our own record says. amount None: the symbol was never entered."""

    amount: Decimal | None
    moved_ms: int
    locked_by: str
    hold: str
    since_exit_s: Decimal | None


class Bounds(Struct, frozen=True):
    lot_step: Decimal
    market_step: Decimal
    market_min: Decimal
    market_max: Decimal
    tolerance_pct: Decimal
    stale_after_s: Decimal
    cooldown_s: Decimal


class Verdict(Struct, frozen=True):
    reason: BrainReason
    safe_quantity: Decimal
    compared: dict[str, Decimal | str]

    @property
    def allowed(self) -> bool:
        return self.reason is BrainReason.SANITY_CHECKS_PASSED


def evaluate(*, percent: int, observed: Observed, ledger: Ledger, bounds: Bounds) -> Verdict:
    """Checks in order; the first that fails answers, with the numbers it compared."""
    refusal = _not_now(observed, ledger, bounds) or _disagreement(observed, ledger, bounds)
    if refusal is not None:
        return refusal
    exchange, ours = observed.amount or Decimal(0), ledger.amount or Decimal(0)
    smaller = min(abs(exchange), abs(ours))
    safe = amounts.floor_to_step(smaller * percent / 100, bounds.market_step)
    left = amounts.floor_to_step(max(abs(exchange) - observed.resting, Decimal(0)), bounds.market_step)
    safe = min(safe, bounds.market_max, left)
    if safe < bounds.market_min or safe <= 0:
        resting = {"resting": observed.resting} if observed.resting else {}
        return _deny(BrainReason.BELOW_MIN_QUANTITY, quantity=safe, minimum=bounds.market_min, **resting)
    compared: dict[str, Decimal | str] = {"exchange_amt": exchange, "ledger_amt": ours}
    return Verdict(BrainReason.SANITY_CHECKS_PASSED, safe, compared)


def _not_now(observed: Observed, ledger: Ledger, bounds: Bounds) -> Verdict | None:
    if ledger.hold:
        return _deny(BrainReason.HOLD_ACTIVE, hold=ledger.hold)
    if ledger.locked_by:
        return _deny(BrainReason.ORDER_IN_FLIGHT, locked_by=ledger.locked_by)
    if ledger.since_exit_s is not None and ledger.since_exit_s < bounds.cooldown_s:
        return _deny(
            BrainReason.COOLDOWN_IN_FLIGHT, since_exit_s=ledger.since_exit_s, cooldown_s=bounds.cooldown_s
        )
    if observed.amount is None:
        return _deny(BrainReason.NO_EXCHANGE_SNAPSHOT, exchange_amt="never read")
    if observed.age_s > bounds.stale_after_s:
        return _deny(BrainReason.STALE_EXCHANGE_STATE, age_s=observed.age_s, limit_s=bounds.stale_after_s)
    moved_at = Decimal(ledger.moved_ms) / 1000
    if Decimal(0) < moved_at - observed.observed_at <= CLOCK_S_MAX:
        # Two numbers of two moments: that they agree says nothing.
        return _deny(
            BrainReason.STALE_EXCHANGE_STATE, observed_at=observed.observed_at, ledger_moved_at=moved_at
        )
    return None


def _disagreement(observed: Observed, ledger: Ledger, bounds: Bounds) -> Verdict | None:
    exchange, ours = observed.amount, ledger.amount
    if exchange is None:
        return _deny(BrainReason.POSITION_UNREADABLE, exchange_amt="unreadable")
    found = difference.between(
        exchange=exchange, ledger=ours, lot_step=bounds.lot_step, tolerance_pct=bounds.tolerance_pct
    )
    if ours is None:
        return _deny(BrainReason.LEDGER_MISSING, exchange_amt=exchange, ledger_amt="missing")
    if found is not None:
        return _deny(
            BrainReason.SIDE_MISMATCH if found.kind is Kind.SIDE else BrainReason.QTY_MISMATCH,
            exchange_amt=exchange,
            ledger_amt=ours,
            diff=found.diff,
            tolerance=found.tolerance,
        )
    if exchange == 0:
        return _deny(BrainReason.NO_POSITION, exchange_amt=exchange, ledger_amt=ours)
    return None


def _deny(reason: BrainReason, **compared: Decimal | str) -> Verdict:
    return Verdict(reason, Decimal(0), compared)
