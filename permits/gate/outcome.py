"""How a wait for both permits ends, and the lines that tell it."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct

from permits.desk import payloads
from quantum.log import log
from quantum.plan import ExitPlan
from quantum.reasons import GateReason


class SpentPair(Struct, frozen=True):
    """Both permits, spent by this very attempt. The only thing apply.orders accepts."""

    plan: ExitPlan
    token: str
    governor: payloads.Permit
    p33: payloads.Permit
    consumed_ms: int
    consumed_boot_s: float
    wait_ms: int
    found_ms: dict[str, int]
    """When each permit was first seen: for the log."""

    @property
    def safe_quantity(self) -> Decimal:
        return safe_quantity_of(self.governor, self.p33)

    @property
    def by_operator(self) -> bool:
        """One verified operator's permit is enough: it is the signature that says a person is at the wheel."""
        return self.governor.by_operator or self.p33.by_operator

    @property
    def hold_id(self) -> int | None:
        return payloads.named_hold(self.governor, self.p33)


class Verified(Struct, frozen=True):
    """In dry_run: a pair that could have been spent now, and was not. No order can be made of it."""

    plan: ExitPlan
    governor: payloads.Permit
    p33: payloads.Permit
    wait_ms: int
    found_ms: dict[str, int]

    @property
    def safe_quantity(self) -> Decimal:
        return safe_quantity_of(self.governor, self.p33)


def safe_quantity_of(governor: payloads.Permit, p33: payloads.Permit) -> Decimal:
    """The most that this pair lets be closed."""
    if p33.quantity is None:
        raise ValueError("a pair always has a safe quantity")
    # What the Governor held of its limits, where it had to know the size, or what an operator in its place was
    # shown: a position that has grown since must not be closed beyond it. One without a size (0) limits nothing.
    return min(p33.quantity, governor.quantity or p33.quantity)


class Blocked(Struct, frozen=True):
    """Nothing was spent. The gate's own reason stands in gate_reason where a gate said no."""

    reason: GateReason
    gov_ttl: int
    p33_ttl: int
    wait_ms: int = 0
    gate_reason: str = ""
    timed_out: bool = False
    accused: str = ""
    """The gate under whose key stood what was refused, and below which bytes: for the alarm."""
    claimed: str = ""

    @property
    def error(self) -> str:
        if self.reason in (GateReason.GOVERNOR_DENIED, GateReason.P33_DENIED):
            return f"permit_denied:{self.reason}"
        return f"permit_timeout_or_missing:{self.reason}" if self.timed_out else self.reason.value


def tell(plan: ExitPlan, outcome: SpentPair | Verified | Blocked) -> None:
    """The log lines of a wait. Told by the caller once the order is on its way: a line costs 50 us."""
    if isinstance(outcome, Blocked):
        _tell_block(plan, outcome)
        return
    for gate, name in ((payloads.GOVERNOR, "Governor"), (payloads.P33, "P3.3")):
        log.info(
            f"[PERMIT_WAIT] {name} permit found", plan=plan.plan_id, wait=f"{outcome.found_ms.get(gate, 0)}ms"
        )
    log.info(
        "[PERMIT_WAIT] OK",
        plan=plan.plan_id,
        wait_ms=outcome.wait_ms,
        safe_qty=f"{outcome.safe_quantity:f}",
        symbol=plan.symbol,
    )


def _tell_block(plan: ExitPlan, blocked: Blocked) -> None:
    log.warning(
        "[PERMIT_WAIT] BLOCK",
        plan=plan.plan_id,
        reason=blocked.reason.value,
        gov_ttl=blocked.gov_ttl,
        p33_ttl=blocked.p33_ttl,
        wait_ms=blocked.wait_ms,
        symbol=plan.symbol,
        gate_reason=blocked.gate_reason,
    )
