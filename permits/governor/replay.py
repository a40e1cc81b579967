"""What another policy would have decided about plans of the past, from what the Governor saw then. Changes nothing.

Each decision is made again by the same rules from the same inputs, so an unchanged policy says the same. Where the
other one stopped a plan that was let pass, or let one pass that was stopped, those behind it find less or more of their
limits used: by as much as two tallies differ, one of what was and one of what would have been.
"""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Iterable, Sequence
from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from permits.desk import payloads
from permits.desk.reserved import Reservation
from permits.governor.tally import DAY_MS, Charge, Tally
from permits.models import Approval, Judgement, Permit, PolicyVersion, Usage
from permits.policy import judgements, policies, policy
from permits.policy.judgements import Kept
from permits.policy.policy import TOTAL, Facts, Policy, Use, Verdict
from permits.policy.rules import Nonsense
from quantum.reasons import GovernorReason

MOST = 10_000
NOT_ENOUGH = "not_enough_recorded"


class Past(Struct, frozen=True):
    """One decision as it was, and what came of it."""

    plan_id: str
    symbol: str
    said: str
    kept: Kept | None
    """None: of a decision before inputs were kept, and it cannot be made again."""
    version: int = 0
    charge: Charge | None = None
    approved: bool = False
    """People had said yes to it, whether anybody asked or not."""

    @property
    def at_ms(self) -> int:
        return int(self.kept.facts.now_s * 1000) if self.kept else 0


class Replayed(Struct, frozen=True):
    past: Past
    reason: str
    rule: dict[str, Decimal | str]

    @property
    def known(self) -> bool:
        return self.reason != NOT_ENOUGH

    @property
    def differs(self) -> bool:
        return self.known and self.reason != self.past.said

    @property
    def stops(self) -> bool:
        return self.differs and self.past.said == GovernorReason.APPROVED

    @property
    def frees(self) -> bool:
        return self.differs and self.reason == GovernorReason.APPROVED


def replay(pasts: Iterable[Past], changed: Policy, *, charges: Sequence[Charge]) -> list[Replayed]:
    """In their order of time. `charges`: everything of their time and of the day before it."""
    was, would = _Course(charges), _Course(charges)
    return [_again(past, changed, was, would) for past in pasts]


class _Course:
    """What had been used at each moment: of what was charged, what was let pass here."""

    def __init__(self, charges: Sequence[Charge]) -> None:
        self._coming = deque(charges)
        self._stopped: set[str] = set()
        self._tally = Tally()

    def use(self, scope: str, past: Past) -> Use:
        while self._coming and self._coming[0].at_ms <= past.at_ms:
            charge = self._coming.popleft()
            if charge.plan_id not in self._stopped:
                self._tally.charge(charge)
        return self._tally.use(scope, now_ms=past.at_ms, without=past.plan_id)

    def passed(self, past: Past) -> None:
        """What came of it is charged when it was. What never was let pass is taken as filled at once, as asked."""
        facts, at_ms = past.kept.facts if past.kept else Facts(Decimal(0), None), past.at_ms
        quantity, notional = facts.quantity or Decimal(0), facts.notional or Decimal(0)
        if past.said != GovernorReason.APPROVED:
            self._tally.charge(Charge(past.plan_id, past.symbol, at_ms, quantity, notional))
        elif past.charge:
            self._tally.reserve(Reservation(past.plan_id, past.symbol, quantity, notional, at_ms, at_ms))

    def stopped(self, past: Past) -> None:
        self._stopped.add(past.plan_id)


def _again(past: Past, changed: Policy, was: _Course, would: _Course) -> Replayed:
    if past.kept is None:
        return Replayed(past, NOT_ENOUGH, {"missing": "its inputs: it was decided before they were kept"})
    facts = past.kept.facts
    facts = replace(
        facts,
        of_symbol=_moved(facts.of_symbol, was.use(past.symbol, past), would.use(past.symbol, past)),
        in_total=_moved(facts.in_total, was.use(TOTAL, past), would.use(TOTAL, past)),
    )
    found = _judged(past, past.kept, changed, facts)
    if past.said == GovernorReason.APPROVED:
        was.passed(past)
    if found.reason == GovernorReason.APPROVED or (not found.known and past.said == GovernorReason.APPROVED):
        would.passed(past)
    else:
        would.stopped(past)
    return found


def _moved(seen: Use, was: Use, would: Use) -> Use:
    """What was seen, less what would not have been there, more what would."""
    if was == would:
        return seen
    return Use(
        permits_5min=max(0, seen.permits_5min + would.permits_5min - was.permits_5min),
        permits_hour=max(0, seen.permits_hour + would.permits_hour - was.permits_hour),
        notional_day=max(Decimal(0), seen.notional_day + would.notional_day - was.notional_day),
        quantity_day=max(Decimal(0), seen.quantity_day + would.quantity_day - was.quantity_day),
        since_exit_s=seen.since_exit_s if was.since_exit_s == would.since_exit_s else would.since_exit_s,
        failures_in_a_row=max(0, seen.failures_in_a_row + would.failures_in_a_row - was.failures_in_a_row),
        since_failure_s=seen.since_failure_s
        if was.since_failure_s == would.since_failure_s
        else would.since_failure_s,
        in_flight=max(0, seen.in_flight + would.in_flight - was.in_flight),
    )


def _judged(past: Past, kept: Kept, changed: Policy, facts: Facts) -> Replayed:
    if kept.unknown == judgements.POLICY_AND_USAGE:
        return Replayed(past, past.said, {"missing": kept.unknown})
    verdict = policy.evaluate(kept, changed, judgements.told(facts))
    if verdict.reason is GovernorReason.AWAITING_APPROVAL:
        if kept.unknown:
            verdict = Verdict(GovernorReason.INPUTS_UNAVAILABLE, {"missing": kept.unknown})
        elif past.approved and past.said != GovernorReason.AWAITING_APPROVAL:
            verdict = policy.evaluate(kept, changed, replace(judgements.told(facts), approved=True))
    if verdict.rule.get("missing") == judgements.NOT_READ:
        return Replayed(past, NOT_ENOUGH, verdict.rule)
    return Replayed(past, verdict.reason.value, verdict.rule)


def agree(pasts: Iterable[Past]) -> tuple[int, int]:
    """How many of them, made again by the policy version of their time, say what was said; of how many."""
    known = [past for past in pasts if past.kept is not None]
    rows = PolicyVersion.objects.filter(version__in={past.version for past in known})
    versions: dict[int, Policy] = {}
    for row in rows:
        try:
            versions[row.version] = policies.of(row.rules, version=row.version)
        except Nonsense:
            continue
    same = [
        past
        for past in known
        if past.kept
        and past.version in versions
        and _judged(past, past.kept, versions[past.version], past.kept.facts).reason == past.said
    ]
    return len(same), len(known)


# ---- reading the past


class Recorded(Struct, frozen=True):
    pasts: list[Past]
    """Oldest first; those that cannot be made again come before all others."""
    charges: list[Charge]


def recent(last: int) -> Recorded:
    """The last plans that the Governor answered: what an operator signed in its place is not among them."""
    signed = Permit.objects.filter(gate=payloads.GOVERNOR, issuer__startswith=f"{payloads.GOVERNOR}@")
    columns = ("plan_id", "symbol", "reason", "digest")
    permits = {
        plan_id: (symbol, reason, digest)
        for plan_id, symbol, reason, digest in signed.order_by("-id")[: min(last, MOST)].values_list(*columns)
    }
    kept = {one.plan_id: one for one in Judgement.objects.filter(plan_id__in=permits)}
    charges = _charges(min((one.at for one in kept.values()), default=None))
    came_to = {charge.plan_id: charge for charge in charges}
    approved = set(
        Approval.objects.filter(plan_id__in=permits, state=Approval.State.APPROVED).values_list(
            "plan_id", "plan_digest"
        )
    )
    pasts = []
    for plan_id, (symbol, reason, digest) in permits.items():
        row = kept.get(plan_id)
        if row is None or row.reason != reason:  # of a second answer, whose inputs were not kept
            pasts.append(Past(plan_id, symbol, reason, None))
            continue
        yes = (plan_id, digest) in approved
        pasts.append(
            Past(plan_id, symbol, reason, judgements.read(row), row.policy_version, came_to.get(plan_id), yes)
        )
    return Recorded(sorted(pasts, key=lambda past: past.at_ms), charges)


def _charges(first: dt.datetime | None) -> list[Charge]:
    """In the order in which they came."""
    if first is None:
        return []
    since = first - dt.timedelta(milliseconds=DAY_MS)
    columns = ("plan_id", "symbol", "at", "quantity", "notional", "kind")
    rows = Usage.objects.filter(at__gt=since).order_by("at", "id").values_list(*columns)
    return [
        Charge(plan_id, symbol, int(at.timestamp() * 1000), quantity, notional, kind == Usage.Kind.FAILED)
        for plan_id, symbol, at, quantity, notional, kind in rows
    ]
