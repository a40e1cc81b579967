"""Which plans are meant: one meaning of symbol, state, reason and source, for the page and for plan_list."""

from __future__ import annotations

from django.db.models import Q, QuerySet

from apply.models import Plan
from quantum.reasons import ApplyReason, BrainReason, GateReason, GovernorReason

BEGINS = ("permit_timeout_or_missing", "permit_denied")
"""What may stand before a gate's reason in an error."""
_GOOD = {BrainReason.SANITY_CHECKS_PASSED, GovernorReason.APPROVED}
REASONS = tuple(
    sorted(
        {str(each) for kind in (GateReason, ApplyReason, BrainReason, GovernorReason) for each in kind}
        - {str(good) for good in _GOOD}
    )
)


def of(*, symbol: str = "", state: str = "", reason: str = "", source: str = "") -> QuerySet[Plan]:
    """Newest first. A reason is a plan's own or its gate's, with or without how it came to it."""
    plans = Plan.objects.all()
    if symbol:
        plans = plans.filter(symbol=symbol.strip().upper())
    if state:
        plans = plans.filter(state=state)
    if source:
        plans = plans.filter(source=source)
    if reason:
        told = [reason, *(f"{begin}:{reason}" for begin in BEGINS)]
        plans = plans.filter(Q(gate_reason=reason) | Q(error__in=told))
    return plans
