"""Why a plan closed nothing: the reason, the numbers that were compared, what it means, and where one acts. The page of
a plan and plan_show tell the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.conf import settings
from msgspec import Struct, field

from apply.glance import ways
from apply.models import Plan
from apply.operators import retry
from apply.plans import blocked, timeline
from apply.plans.timeline import Timeline
from permits.models import Approval, Permit
from permits.pages import story
from positions.models import SymbolLock
from quantum import advice
from quantum.advice import Advice
from quantum.plan import STEPS
from quantum.reasons import ApplyReason, BrainReason, GateReason

State = Plan.State
DID_NOT_CLOSE = (*blocked.REFUSED, State.UNKNOWN, State.SKIPPED)
_P33_STANDS_IN_THE_WAY = {str(each) for each in BrainReason} | {GateReason.HOLD.value}
_DENIED = (GateReason.GOVERNOR_DENIED, GateReason.P33_DENIED)
NOT_THERE, NO_END = -2, -1


class Way(Struct, frozen=True, kw_only=True):
    """One thing to do about it, and where."""

    words: str
    page: tuple[str, ...] = ()
    """Name of the admin's page, and what it is about."""
    asked: Mapping[str, str] = field(default_factory=dict)
    place: str = ""
    """On that page; without a page, on the plan's own."""
    needs: str = ""
    """The permission that it takes."""
    command: str = ""


class Stopped(Struct, frozen=True):
    reason: str
    gate: str
    """Whose answer it was; empty where no gate said no."""
    advice: Advice | None
    compared: list[tuple[str, str]]
    ways: list[Way]


def of(found: Timeline) -> Stopped | None:
    """None: it closed something, or nothing has become of it yet."""
    plan = found.plan
    if plan.state not in DID_NOT_CLOSE:
        return None
    denied = _denial(found)
    reason = denied.reason if denied else plan.gate_reason or plan.error.rpartition(":")[2]
    reason = reason or _of_state(plan)
    gate = denied.gate if denied else ""
    return Stopped(
        reason=reason,
        gate=gate,
        advice=advice.of(reason, gate=gate),
        compared=_sides(denied.raw) if denied else list(_numbers(found)),
        ways=list(_ways(found, reason)),
    )


def _denial(found: Timeline) -> Permit | None:
    """Of the gate that the wait ended on; the other one's no, if it has one, stands beside it."""
    plan = found.plan
    token = plan.error.rpartition(":")[2]
    if token not in _DENIED:
        return None
    gate = token.removesuffix("_denied")
    return next((each for each in found.permits if each.gate == gate and not each.verdict), None)


BESIDE = {"observed at", "safe close qty"}
"""Of a denial they decide nothing; they stand with the permit."""


def _sides(raw: str) -> list[tuple[str, str]]:
    return [(name, value) for name, value in story.numbers(raw) if name not in BESIDE]


def _of_state(plan: Plan) -> str:
    same = {State.UNKNOWN.value: ApplyReason.UNKNOWN_OUTCOME, State.EXPIRED.value: GateReason.EXPIRED_PLAN}
    found = same.get(plan.state, plan.state)
    return str(found)


def _numbers(found: Timeline) -> Iterator[tuple[str, str]]:
    """Where no gate compared anything: what the wait, the clock or the exchange said."""
    plan, order = found.plan, found.order
    if plan.wait_ms is not None:
        yield "waited", f"{plan.wait_ms} ms of {settings.APPLY_PERMIT_WAIT_MS} ms"
    for name, ttl in (("Governor's permit", plan.gov_ttl), ("P3.3's permit", plan.p33_ttl)):
        if ttl is not None and order is None:
            yield name, {NOT_THERE: "not there", NO_END: "without an end"}.get(ttl, f"{ttl} s left")
    if plan.ended_at is not None and plan.ended_at > plan.expires_at:
        late_ms = (plan.ended_at - plan.expires_at).total_seconds() * 1000
        yield "past its life by", f"{late_ms:.0f} ms"
    if order is not None:
        if order.error_code is not None:
            yield "exchange's code", str(order.error_code)
        if order.error_text:
            yield "exchange's words", order.error_text


# ---- what to do


def _ways(found: Timeline, reason: str) -> Iterator[Way]:
    plan = found.plan
    for kind in ways.OF_REASON.get(reason, ()):
        yield from _MAKES[kind](found)
    if plan.state == State.BLOCKED and plan.action in STEPS:
        gate = "p33" if reason in _P33_STANDS_IN_THE_WAY or "p33" in plan.error else "governor"
        yield Way(
            words=f"Break glass for {plan.symbol}",
            page=("apply_break_glass",),
            asked={"symbol": plan.symbol, "action": plan.action, "gate": gate},
            needs="apply.break_glass",
            command=f"break_glass {plan.symbol} --action {plan.action} --gate {gate} --dry-run",
        )


def _again(found: Timeline) -> Iterator[Way]:
    if may_try_again(found):
        command = f"plan_retry {found.plan.plan_id} --reason '...'"
        yield Way(words="Try this plan again", place="retry", needs="apply.propose", command=command)


def may_try_again(found: Timeline) -> bool:
    return not found.next_attempt and not retry.refusal(found.plan)


def _propose(found: Timeline) -> Iterator[Way]:
    plan = found.plan
    yield Way(
        words="Propose again",
        page=("apply_proposal_propose",),
        asked={"symbol": plan.symbol, "action": plan.action, "kill_score": plan.kill_score},
        needs="apply.propose",
        command=f"propose {plan.symbol} {plan.action}",
    )


def _reconcile(found: Timeline) -> Iterator[Way]:
    symbol = found.plan.symbol
    words = f"Look at {symbol} at the exchange and in the ledger"
    needs = "positions.view_incident"
    yield Way(
        words=words, page=("positions_reconcile_symbol", symbol), needs=needs, command=f"reconcile {symbol}"
    )


def _state(_found: Timeline) -> Iterator[Way]:
    yield Way(
        words="See who halted, and why",
        page=("permits_tradingstate_changelist",),
        needs="permits.view_tradingstate",
        command="trading_state",
    )


def _policy(_found: Timeline) -> Iterator[Way]:
    yield Way(
        words="See the limits",
        page=("permits_policyversion_changelist",),
        needs="permits.view_policyversion",
        command="policy_show",
    )


def _permits(found: Timeline) -> Iterator[Way]:
    plan_id = found.plan.plan_id
    yield Way(
        words="See its permits as they stand",
        page=("permits_permit_change", plan_id),
        needs="permits.view_permit",
        command=f"permit_show {plan_id}",
    )


def _consumers(_found: Timeline) -> Iterator[Way]:
    yield Way(words="See whether the consumers live", page=("index",), place="glance-roles", command="doctor")


def _holder(found: Timeline) -> Iterator[Way]:
    lock = SymbolLock.objects.filter(account=found.plan.account, symbol=found.plan.symbol).first()
    if lock is not None:
        yield Way(
            words="Open the plan that holds the symbol",
            page=("apply_plan_change", lock.plan_id),
            needs="apply.view_plan",
            command=f"plan_show {lock.plan_id}",
        )


def _answer(found: Timeline) -> Iterator[Way]:
    asked = Approval.objects.filter(asked_plan_id=found.plan.plan_id).first()
    asked = asked or Approval.objects.filter(symbol=found.plan.symbol, state=Approval.State.WAITING).first()
    if asked is not None:
        yield Way(
            words="Say yes or no to it",
            page=("permits_approval_change", str(asked.pk)),
            needs="permits.view_approval",
            command=f"approve {asked.pk} --reason '...'",
        )


def _exchange(found: Timeline) -> Iterator[Way]:
    unknown = found.plan.state == State.UNKNOWN
    command = f"order_resolve {found.plan.plan_id}" if unknown else ""
    yield Way(words="Read what the exchange answered", place="exchange-title", command=command)


def _symbol(found: Timeline) -> Iterator[Way]:
    symbol = found.plan.symbol
    yield Way(
        words=f"See the plans of {symbol}",
        page=("apply_plan_changelist",),
        asked={"symbol": symbol},
        needs="apply.view_plan",
        command=f"plan_list --symbol {symbol}",
    )


_MAKES = {
    ways.AGAIN: _again,
    ways.PROPOSE: _propose,
    ways.RECONCILE: _reconcile,
    ways.STATE: _state,
    ways.POLICY: _policy,
    ways.PERMITS: _permits,
    ways.CONSUMERS: _consumers,
    ways.HOLDER: _holder,
    ways.ANSWER: _answer,
    ways.EXCHANGE: _exchange,
    ways.SYMBOL: _symbol,
}


def as_data(stopped: Stopped | None) -> dict[str, Any] | None:
    if stopped is None:
        return None
    return {
        "reason": stopped.reason,
        "gate": stopped.gate,
        "means": stopped.advice.means if stopped.advice else "",
        "next": stopped.advice.next if stopped.advice else "",
        "compared": dict(stopped.compared),
        "commands": [way.command for way in stopped.ways if way.command],
    }


def whole(found: Timeline) -> dict[str, Any]:
    """Everything that is known of a plan, for --json and for the page's raw view."""
    told = {"blocked": blocked.as_data(found.plan), "stopped": as_data(of(found))}
    return timeline.as_data(found) | told
