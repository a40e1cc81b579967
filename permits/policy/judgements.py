"""The Governor's decisions with what they rested on, as rows: written beside the path, read by replays.

What the shadow rules say is worked out here too, when the permit is long out: they cost a decision nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from operator import attrgetter
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from permits.models import Judgement
from permits.policy import policy
from permits.policy.policy import Facts, Policy, Use, Verdict
from quantum import amounts, clock, rows
from quantum.plan import ExitPlan

POLICY_AND_USAGE, APPROVALS = "policy and usage", "approvals"
"""What a Governor says that it could not know, so that it denied whatever the rules say."""
BATCH = 1_000
"""Of one turn: nobody waits for the table."""
NOT_READ = "the size: no limit that held then had it read"


class Kept(Struct, frozen=True):
    """A plan, as far as the rules look at it, and what the Governor knew of it."""

    symbol: str
    mode: str
    expires_s: Decimal
    facts: Facts
    unknown: str
    """Of the two: what it was; empty: nothing."""

    def expiry_s(self, *, ttl_s: Decimal) -> Decimal:  # noqa: ARG002  as it was then, whatever the setting says now
        return self.expires_s


def row(plan: ExitPlan, rules: Policy, facts: Facts, verdict: Verdict) -> Judgement:
    shadow = _shadow(plan, rules, facts) if verdict.approved else None
    inputs: dict[str, Any] = {
        "mode": plan.mode[:20],
        "expires_s": amounts.plain(plan.expiry_s(ttl_s=rules.plan_ttl_s)),
        **_written(facts),
    }
    if "scope" not in verdict.rule and verdict.rule.get("missing") in (POLICY_AND_USAGE, APPROVALS):
        inputs["unknown"] = verdict.rule["missing"]
    return rows.new(
        Judgement,
        plan_id=plan.plan_id,
        symbol=plan.symbol,
        at=clock.from_ms(int(facts.now_s * 1000)),
        policy_version=rules.version,
        reason=verdict.reason.value,
        inputs=inputs,
        shadow=shadow.reason.value if shadow else "",
        shadow_rule=_texts(shadow) if shadow else {},
    )


def _shadow(plan: ExitPlan, rules: Policy, facts: Facts) -> Verdict | None:
    """What they would have denied of a grant."""
    if rules.shadow is None:
        return None
    found = policy.within(plan.symbol, rules.shadow, told(facts))
    return None if found.approved else found


def told(facts: Facts) -> Facts:
    """Where no rule asked for the size, a rule that does now is told so."""
    read = facts.missing or facts.quantity is not None
    return facts if read else replace(facts, missing=NOT_READ)


def _texts(verdict: Verdict) -> dict[str, str]:
    """Numbers in their exact decimal text: JSON has no other exact ones."""
    return {
        name: amounts.plain(value) if isinstance(value, Decimal) else value
        for name, value in verdict.rule.items()
    }


# ---- facts as JSON: what is as usual is left out


Values = Callable[[Any], tuple[Any, ...]]


def _parts(usual: Facts | Use) -> tuple[tuple[str, ...], Values, tuple[Any, ...]]:
    """Names of the parts, what takes their values out, and the usual ones."""
    names = usual.__struct_fields__
    values = attrgetter(*names)
    return names, values, values(usual)


_OF_FACTS, _OF_USE = _parts(Facts(now_s=Decimal("NaN"), trading_active=None)), _parts(Use())
"""No moment is usual."""


def _written(said: Facts | Use) -> dict[str, Any]:
    names, values, usual = _OF_FACTS if isinstance(said, Facts) else _OF_USE
    found: dict[str, Any] = {}
    for name, value, as_usual in zip(names, values(said), usual, strict=True):
        if value == as_usual:
            continue
        if isinstance(value, Use):
            found[name] = _written(value)
        else:
            found[name] = amounts.plain(value) if isinstance(value, Decimal) else value
    return found


_COUNTS = ("permits_5min", "permits_hour", "failures_in_a_row", "in_flight")


def _use(said: dict[str, Any]) -> Use:
    values: dict[str, Any] = {
        name: value if name in _COUNTS else Decimal(value) for name, value in said.items()
    }
    return Use(**values)


def read(row: Judgement) -> Kept:
    said: dict[str, Any] = row.inputs
    facts = Facts(
        now_s=Decimal(said["now_s"]),
        trading_active=said.get("trading_active"),
        quantity=_decimal(said.get("quantity")),
        notional=_decimal(said.get("notional")),
        missing=said.get("missing", ""),
        of_symbol=_use(said.get("of_symbol", {})),
        in_total=_use(said.get("in_total", {})),
        approved=said.get("approved", False),
    )
    return Kept(row.symbol, said["mode"], Decimal(said["expires_s"]), facts, said.get("unknown", ""))


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


# ---- rows that nobody replays any more


def forget(*, before: dt.datetime, kept: int) -> int:
    """Of the oldest, those that are older and that no replay of the last `kept` plans reads. How many went."""
    newest = Judgement.objects.order_by("-id").values_list("id", flat=True)
    beyond = newest[kept : kept + 1].first()
    if beyond is None:
        return 0
    oldest = Judgement.objects.filter(id__lte=beyond).order_by("id").values_list("id", "at")[:BATCH]
    now = clock.now()
    # What a clock that was ahead wrote is as old as its neighbours: it must not stand in their way for a year.
    old = [number for number, at in oldest if not before <= at <= now]
    return Judgement.objects.filter(id__in=old).delete()[0]
