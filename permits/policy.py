"""The Governor's rules. Pure: facts in, a verdict out."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from quantum.plan import ExitPlan
from quantum.reasons import GovernorReason


@dataclass(frozen=True, slots=True)
class Policy:
    mode: str
    allowlist: frozenset[str]
    plan_ttl_s: Decimal


@dataclass(frozen=True, slots=True)
class Verdict:
    reason: GovernorReason
    rule: dict[str, Decimal | str]
    """A denial names both numbers: what was compared, and with what."""

    @property
    def approved(self) -> bool:
        return self.reason is GovernorReason.APPROVED


def evaluate(plan: ExitPlan, policy: Policy, *, trading_active: bool | None, now_s: Decimal) -> Verdict:
    """Rules in their order. A risk score is not among them: it never blocks what reduces risk."""
    if plan.mode not in ("", policy.mode):
        return Verdict(GovernorReason.MODE, {"plan_mode": plan.mode[:20], "mode": policy.mode})
    if plan.symbol not in policy.allowlist:
        return Verdict(
            GovernorReason.NOT_IN_ALLOWLIST, {"symbol": plan.symbol, "allowed": len_text(policy.allowlist)}
        )
    if trading_active is None:
        return Verdict(GovernorReason.INPUTS_UNAVAILABLE, {"missing": "trading state"})
    if not trading_active:
        return Verdict(GovernorReason.HALTED, {"state": "HALTED"})
    expiry = plan.expiry_s(ttl_s=policy.plan_ttl_s)
    if now_s >= expiry:
        return Verdict(GovernorReason.STALE_PLAN, {"expired_at": expiry, "now": now_s})
    return Verdict(GovernorReason.APPROVED, {})


def len_text(symbols: frozenset[str]) -> str:
    return f"{len(symbols)} symbols"
