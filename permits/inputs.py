"""What the Governor's limits need to know of a plan's size: position and mark price, from the feed's snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_UP, Decimal

from django.conf import settings

from quantum import amounts, clock
from quantum.plan import ExitPlan
from quantum.redis import Client

_QUANTITY, _USD = Decimal("1E-12"), Decimal("1E-8")
_FIELDS = ("position_amt", "mark_price", "seen_epoch", "ts_epoch")


@dataclass(frozen=True, slots=True)
class Size:
    """The most a plan can close. None where it cannot be known, and `missing` says why."""

    quantity: Decimal | None = None
    notional: Decimal | None = None
    missing: str = ""


def size_of(plan: ExitPlan, *, client: Client) -> Size:
    """One read. Old or unreadable is not a size (I12); flat is one, of zero."""
    raw = client.hmget(settings.KEYS.snapshot(plan.symbol), _FIELDS)
    amount, mark, seen, told = (
        None if one is None else amounts.parse(one.decode(errors="replace")) for one in raw
    )
    if amount is None:
        return Size(missing=f"no snapshot of {plan.symbol}")
    at_s = seen if seen is not None else told
    # Both ways: a time that lies ahead would stay fresh for ever.
    age_s = None if at_s is None else abs(Decimal(clock.now_ms()) / 1000 - at_s)
    if age_s is None or age_s > settings.P33_STALE_THRESHOLD_SEC:
        limit_s = settings.P33_STALE_THRESHOLD_SEC
        return Size(missing=f"snapshot of {plan.symbol} is {age_s} s old, the limit is {limit_s} s")
    percent = plan.step.percent if plan.step else 0
    quantity = (abs(amount) * percent / 100).quantize(_QUANTITY, rounding=ROUND_UP)
    if not quantity:
        return Size(quantity=Decimal(0), notional=Decimal(0))
    if mark is None or mark <= 0:
        return Size(quantity=quantity, missing=f"no mark price of {plan.symbol}")
    return Size(quantity=quantity, notional=(quantity * mark).quantize(_USD, rounding=ROUND_UP))
