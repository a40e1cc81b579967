"""Incidents: opened once per symbol and cause, with a hold; resolved once, with how and why.

The database is the truth. Opening and resolving write rows and audit events in one transaction; a hold's key in
Redis follows from apply's projection within two seconds, and the intent and the Brain read the row itself.
"""

from __future__ import annotations

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from prometheus_client import Counter

from permits.models import Hold
from permits.state.freezing import DRIFT, freeze, thaw
from positions.judging.difference import Cause, Difference
from positions.models import Balance, Incident
from quantum import amounts, audit, clock, metrics
from quantum.fault import fault_point
from quantum.log import log

ACTOR = DRIFT
GIVEN_UP = (
    "never entered, and not on APPLY_ALLOWLIST any more: it is not compared, and nothing of it is executed"
)
OPENED = Counter("quantum_incidents_opened_total", "Incidents that were opened", ["symbol", "kind", "cause"])
RESOLVED = Counter("quantum_incidents_resolved_total", "Incidents that were resolved", ["symbol", "how"])


def standing(symbol: str | None = None) -> QuerySet[Incident]:
    """The open ones, oldest first."""
    rows = Incident.objects.filter(account=settings.ACCOUNT, state=Incident.State.OPEN).order_by("id")
    return rows if symbol is None else rows.filter(symbol=symbol)


def begin(*, symbol: str, found: Difference, cause: Cause, evidence: list[dict[str, str]]) -> Incident | None:
    """None: that one is open already, and is told by nobody twice; or the ledger is not any more what was compared.
    The balance is locked before it is asked, as a correction does: a correction that resolves what is open must not
    miss one that is being opened, with a hold that it lifts."""
    with transaction.atomic():
        row = Balance.objects.select_for_update().filter(account=settings.ACCOUNT, symbol=symbol).first()
        if (row.amount if row else None) != found.ledger:
            return None
        incident, made = Incident.objects.get_or_create(
            account=settings.ACCOUNT,
            symbol=symbol,
            cause=cause.value,
            state=Incident.State.OPEN,
            defaults={
                "kind": found.kind.value,
                "exchange_amt": found.exchange,
                "ledger_amt": found.ledger,
                "diff": found.diff,
                "tolerance": found.tolerance,
                "evidence": evidence,
            },
        )
        if not made:
            return None
        fault_point("incident_opened")
        _freeze(incident)
        data = {**numbers(found), "incident": incident.pk, "kind": incident.kind, "cause": incident.cause}
        audit.record(
            kind="incident_opened", actor=ACTOR, symbol=symbol, data={**data, "hold": incident.hold_id}
        )
    OPENED.labels(symbol=metrics.symbol_label(symbol), kind=incident.kind, cause=incident.cause).inc()
    log.error(f"{symbol}: ledger and exchange disagree", **data)
    return incident


def _freeze(incident: Incident) -> None:
    """A hold that a person placed is his to lift; one of another incident of this symbol is shared."""
    hold, placed = freeze(symbol=incident.symbol, by=ACTOR, reason=_why(incident))
    if placed or standing(incident.symbol).filter(hold_id=hold.pk).exists():
        Incident.objects.filter(pk=incident.pk).update(hold_id=hold.pk)
        incident.hold_id = hold.pk


def _why(incident: Incident) -> str:
    ledger = "never entered" if incident.ledger_amt is None else amounts.plain(incident.ledger_amt)
    return (
        f"drift, incident {incident.pk}, {incident.get_cause_display()}: exchange "
        f"{amounts.plain(incident.exchange_amt)}, ledger {ledger}, tolerance {amounts.plain(incident.tolerance)}"
    )


def resolve(*, symbol: str, by: str, how: Incident.How, reason: str) -> tuple[list[Incident], list[Hold]]:
    """Inside the caller's transaction: every open incident of the symbol, and the holds that they placed.

    The compare-and-set on `state` lets one of two resolvers tell of it.
    """
    ended, lifted = [], []
    for incident in standing(symbol):
        if how is Incident.How.ENDED and _is_only_out_of_sight(incident):
            reason = GIVEN_UP
            log.warning(
                f"{symbol}: incident ended without anybody entering it", incident=incident.pk, why=reason
            )
        changes = {"resolved_at": clock.now(), "resolved_by": by, "how": how, "reason": reason}
        if not standing().filter(pk=incident.pk).update(state=Incident.State.RESOLVED, **changes):
            continue
        ended.append(incident)
        hold = incident.hold_id and thaw(
            hold_id=incident.hold_id, by=by, reason=f"incident {incident.pk}: {reason}"[:400]
        )
        lifted += [hold] if hold else []
        audit.record(
            kind="incident_resolved",
            actor=by,
            symbol=symbol,
            reason=reason,
            data={"incident": incident.pk, "how": how.value, "cause": incident.cause},
        )
    return ended, lifted


def _is_only_out_of_sight(incident: Incident) -> bool:
    """Nobody compares a symbol without a ledger that may not be executed: that is not agreement."""
    return not Balance.objects.filter(account=settings.ACCOUNT, symbol=incident.symbol).exists()


def tell_resolved(ended: list[Incident], *, how: Incident.How) -> None:
    """After the transaction: what was rolled back must not be counted."""
    for incident in ended:
        RESOLVED.labels(symbol=metrics.symbol_label(incident.symbol), how=how.value).inc()
        log.info(f"{incident.symbol}: incident resolved", incident=incident.pk, how=how.value)


def ack(*, incident_id: int, by: str, reason: str) -> Incident | None:
    """Somebody looks at it; nothing else changes. None: it is not open. The first who took it keeps it."""
    with transaction.atomic():
        taken = (
            standing()
            .filter(pk=incident_id, acked_at=None)
            .update(acked_at=clock.now(), acked_by=by, acked_reason=reason)
        )
        incident = standing().filter(pk=incident_id).first()
        if taken and incident:
            audit.record(
                kind="incident_acked",
                actor=by,
                symbol=incident.symbol,
                reason=reason,
                data={"incident": incident.pk},
            )
    return incident


def numbers(found: Difference) -> dict[str, str]:
    return {
        "exchange_amt": amounts.plain(found.exchange),
        "ledger_amt": "missing" if found.ledger is None else amounts.plain(found.ledger),
        "diff": amounts.plain(found.diff),
        "tolerance": amounts.plain(found.tolerance),
    }
