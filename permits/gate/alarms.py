"""A permit that no gate of ours can have made for this plan: told once, where its block is recorded."""

from __future__ import annotations

from prometheus_client import Counter

from permits.gate.outcome import Blocked
from quantum import audit
from quantum.log import log
from quantum.models import AuditEvent
from quantum.plan import ExitPlan
from quantum.reasons import GateReason

KIND = "permit_forged"
ALARMS = Counter(
    "quantum_permit_alarms_total", "Permits found that no gate can have made for their plan", ["reason"]
)
FORGED = frozenset(
    {
        GateReason.MALFORMED_GOVERNOR,
        GateReason.MALFORMED_P33,
        GateReason.SYMBOL_MISMATCH,
        GateReason.DIGEST_MISMATCH,
        GateReason.MODE_MISMATCH,
        GateReason.ACCOUNT_MISMATCH,
        GateReason.BAD_SIGNATURE,
        GateReason.NO_EXPIRY,
    }
)


def is_forged(blocked: Blocked) -> bool:
    """A permit that says of itself that it was consumed is a replay; a receipt that says so is not."""
    replayed = blocked.reason is GateReason.ALREADY_CONSUMED and bool(blocked.accused)
    return replayed or blocked.reason in FORGED


def sound_if_forged(plan: ExitPlan, blocked: Blocked, *, actor: str) -> None:
    """Before the block itself is recorded: a death in between tells it when the entry comes again."""
    if not is_forged(blocked):
        return
    if AuditEvent.objects.filter(plan_id=plan.plan_id, kind=KIND).exists():
        return
    gate = blocked.accused or _gate_of(blocked.reason)
    audit.record(
        kind=KIND,
        actor=actor,
        plan_id=plan.plan_id,
        symbol=plan.symbol,
        reason=blocked.reason.value,
        data={"gate": gate, "claimed": blocked.claimed},
    )
    ALARMS.labels(reason=blocked.reason.value).inc()
    log.warning(
        "[PERMIT_ALARM] a permit that no gate made for this plan",
        plan=plan.plan_id,
        reason=blocked.reason.value,
        gate=gate,
        claimed=blocked.claimed,
    )


def _gate_of(reason: GateReason) -> str:
    """What the script itself refused carries no bytes to name; its reason names the gate, if one alone."""
    return {GateReason.MALFORMED_GOVERNOR: "governor", GateReason.MALFORMED_P33: "p33"}.get(reason, "")
