"""What somebody needs at 3 a.m.: do exits flow, what is in the way and why, and what to do. For home and `status`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.conf import settings
from msgspec import Struct

from apply.glance import hour, rare, running
from apply.glance.hour import Hour
from apply.glance.running import Running
from apply.models import Plan
from permits.models import Hold, TradingState
from permits.state import trading
from positions.drift import incidents
from positions.models import Incident
from positions.reconcile import reconcile
from quantum import amounts, clock
from quantum.chain import standing
from quantum.models import Verification

NEEDED = ("governor", "p33", "apply")
"""Without one of these no exit can leave."""
OLD_IN_HAND_S = 5.0
SHOWN_MOST = 20
"""Of each kind of row; how many there are is told."""


class Trouble(Struct, frozen=True, kw_only=True):
    """Something in the way, in words, and where one acts."""

    kind: str
    text: str
    about: str = ""
    """With the kind, what it is whatever its numbers say now: the symbol, the role, the plan."""
    why: str = ""
    stops: bool = False
    """No exit at all can leave."""
    needs: str = ""
    """The permission to see it."""
    page: tuple[str, ...] = ()
    """Name of the page where one acts, and what it is about."""
    act: tuple[str, ...] = ()
    """Of the acts on call the one that ends it, and the row's number."""
    command: str = ""


@dataclass(frozen=True)
class Glance:
    at: dt.datetime
    state: TradingState | None
    active: bool
    running: Running | None
    holds: Sequence[Hold]
    incidents: Sequence[Incident]
    unknown: Sequence[Plan]
    """Plans whose order is of unknown fate, oldest first."""
    waiting: int
    """Questions for a person: approvals, corrections, break-glass."""
    hour: Hour
    results: Sequence[Plan]
    broken: Verification | None
    """What audit_verify found last, if it found the chain broken."""

    @cached_property
    def troubles(self) -> list[Trouble]:
        """Those that stop everything first."""
        return sorted([*_stops(self), *_cautions(self)], key=lambda each: not each.stops)

    @cached_property
    def flows(self) -> bool:
        return not any(each.stops for each in self.troubles)

    @property
    def verdict(self) -> str:
        """In five words. A halt of automatic plans leaves a person his way out, unless something else stops too."""
        if self.flows:
            return "Exits can leave"
        stops = [each for each in self.troubles if each.stops]
        spares = self.state is not None and self.state.scope == TradingState.Scope.AUTOMATIC
        halt_alone = not self.active and spares and len(stops) == 1
        return "No automatic exit can leave" if halt_alone else "No exit can leave"


def look(*, of_the_hour: Hour | None = None) -> Glance:
    """A bounded number of questions to the database, and one look at Redis. Raises DatabaseError."""
    row, now = trading.newest(), clock.now()
    state = trading.projected(row)
    there = rare.look(now)
    return Glance(
        at=now,
        state=row,
        active=state.active,
        running=running.look(state, symbols=sorted(reconcile.symbols())),
        holds=list(Hold.objects.filter(lifted_at=None)[:SHOWN_MOST]) if there.holds else [],
        incidents=list(incidents.standing()[:SHOWN_MOST]) if there.incidents else [],
        unknown=_unknown() if there.unknown else [],
        waiting=there.waiting,
        hour=of_the_hour or hour.look(),
        results=list(Plan.objects.exclude(ended_at=None)[:8]),
        broken=standing.broken() if there.broken else None,
    )


def _unknown() -> list[Plan]:
    in_flight = Plan.objects.filter(result_id="", state=Plan.State.UNKNOWN)
    return list(in_flight.order_by("created_at")[:SHOWN_MOST])


def _stops(found: Glance) -> Iterator[Trouble]:
    state, now = found.state, found.running
    if not found.active:
        scope = state.get_scope_display().lower() if state else "everything"
        yield Trouble(
            kind="halted",
            text=f"HALTED for {scope}",
            why=f"{state.by}: {state.reason}" if state else "no trading state was ever set",
            stops=True,
            needs="permits.view_tradingstate",
            page=("permits_tradingstate_changelist",),
            act=("resume",),
            command="trading_state resume --reason '...'",
        )
    if now is None:
        yield Trouble(
            kind="redis",
            text="Redis does not answer",
            why="no permit can be spent; what stands there is not known",
            stops=True,
            command="doctor",
        )
        return
    if found.active and not now.armed:
        yield Trouble(
            kind="not_armed",
            text="ACTIVE, but not armed in Redis",
            why="apply has not projected the state; that is HALTED",
            stops=True,
            needs="permits.view_tradingstate",
            command="doctor",
        )
    for each in now.consumers:
        if each.health.name in NEEDED and not each.health.alive:
            yield Trouble(
                kind="role",
                about=each.health.name,
                text=f"{each.health.name} is silent",
                why=f"{each.health}; no exit leaves without it",
                stops=True,
                command="doctor",
            )
        elif each.health.ailing:
            yield Trouble(
                kind="ailing",
                about=each.health.name,
                text=f"{each.health.name} cannot use the database",
                why=f"{each.health.ailing}; is it reachable, has its disk room?",
                stops=each.health.name in NEEDED,
                command="doctor",
            )
    ages = [line.age_s for line in now.lines.values() if line]
    if now.lines and all(abs(age_s) > settings.P33_STALE_THRESHOLD_SEC for age_s in ages):
        oldest = f"oldest read {max(ages):.0f} s ago" if ages else "nobody has read it"
        yield Trouble(
            kind="feed",
            text="The exchange is not seen",
            why=f"{oldest}: the Brain denies every exit",
            stops=True,
            needs="positions.view_balance",
            page=("positions_reconcile",),
            command="doctor",
        )


def _cautions(found: Glance) -> Iterator[Trouble]:
    if found.broken is not None:
        yield Trouble(
            kind="audit",
            text="The audit chain is broken",
            why=f"{found.broken.text}; keep a copy of the database as it is",
            needs="quantum.view_auditevent",
            page=("quantum_audit",),
            command="audit_verify",
        )
    for hold in found.holds:
        yield Trouble(
            kind="hold",
            about=hold.symbol,
            text=f"{hold.symbol} is frozen",
            why=f"{hold.by}: {hold.reason}",
            needs="permits.view_hold",
            page=("positions_reconcile_symbol", hold.symbol),
            act=("lift", str(hold.pk)),
            command=f"reconcile {hold.symbol}",
        )
    for incident in found.incidents:
        yield Trouble(
            kind="incident",
            about=f"{incident.symbol}/{incident.cause}",
            text=f"{incident.symbol}: exchange and ledger differ",
            why=f"exchange {amounts.plain(incident.exchange_amt)}, ledger "
            f"{'never entered' if incident.ledger_amt is None else amounts.plain(incident.ledger_amt)}, "
            f"probably {incident.get_cause_display()}"
            f"{f'; taken by {incident.acked_by}' if incident.acked_at else ''}",
            needs="positions.view_incident",
            page=("positions_reconcile_symbol", incident.symbol),
            act=() if incident.acked_at else ("ack", str(incident.pk)),
            command=f"reconcile {incident.symbol}",
        )
    for plan in found.unknown:
        yield Trouble(
            kind="unknown_order",
            about=plan.plan_id,
            text=f"{plan.symbol}: an order of unknown fate",
            why=f"plan {plan.plan_id}; the symbol is locked until the exchange proves it or a person decides",
            needs="apply.view_plan",
            page=("apply_plan_change", plan.plan_id),
            command=f"order_resolve {plan.plan_id}",
        )
    if found.waiting:
        yield Trouble(
            kind="waiting",
            text=f"{found.waiting} waiting for a person’s yes or no",
            needs="permits.view_approval",
            page=("permits_approval_changelist",),
            command="approve",
        )
    if found.running is not None:
        yield from _slow(found.running)


def _slow(now: Running) -> Iterator[Trouble]:
    for each in now.consumers:
        if each.health.name not in NEEDED and not each.health.alive:
            why = f"{each.health}; orders in flight are not looked up"
            yield Trouble(
                kind="role",
                about=each.health.name,
                text=f"{each.health.name} is silent",
                why=why,
                command="doctor",
            )
        if each.health.restarting:
            yield Trouble(
                kind="restarting",
                about=each.health.name,
                text=f"{each.health.name} keeps restarting",
                why=f"{each.health.starts} starts in an hour; its log says why it ended",
                command="doctor",
            )
        if each.backlog and each.backlog.oldest_pending_s > OLD_IN_HAND_S:
            yield Trouble(
                kind="in_hand",
                about=each.health.name,
                text=f"{each.health.name} has held a plan for {each.backlog.oldest_pending_s:.0f} s",
                why=f"{each.backlog.pending} in hand",
                command="doctor",
            )
    if now.dead_letters:
        text = f"{now.dead_letters} dead letters"
        yield Trouble(
            kind="dead_letters",
            text=text,
            why="entries that can never be handled lie parked",
            needs="apply.view_plan",
            page=("apply_dead_letters",),
            command="dead_letters",
        )


# ---- the same for a program


def as_data(found: Glance) -> dict[str, Any]:
    state, now = found.state, found.running
    return {
        "at": found.at.isoformat(),
        "mode": settings.APPLY_MODE,
        "account": settings.ACCOUNT,
        "verdict": found.verdict,
        "flows": found.flows,
        "troubles": [
            {"text": each.text, "why": each.why, "stops": each.stops, "command": each.command}
            for each in found.troubles
        ],
        "state": None
        if state is None
        else {
            "state": state.state,
            "scope": state.scope,
            "by": state.by,
            "reason": state.reason,
            "since": state.since.isoformat(),
        },
        "armed": now.armed if now else None,
        "last_hour": {
            "done": found.hour.done,
            "refused": found.hour.refused,
            "unknown": found.hour.unknown,
            "causes": dict(found.hour.causes),
            "wait": found.hour.wait.as_data(),
            "plan_to_order": found.hour.order.as_data(),
            "gates": {
                gate: {"granted": granted, "denied": denied}
                for gate, (granted, denied) in found.hour.gates.items()
            },
        },
        "consumers": [_consumer(each) for each in now.consumers] if now else None,
        "dead_letters": now.dead_letters if now else None,
        "symbols": {
            symbol: {"state": line.state.value, "age_s": f"{line.age_s:.1f}"} if line else None
            for symbol, line in now.lines.items()
        }
        if now
        else None,
        "waiting": found.waiting,
    }


def _consumer(each: running.Consumer) -> dict[str, Any]:
    return {
        "name": each.health.name,
        "alive": each.health.alive,
        "silent_s": each.health.silent_s,
        "starts_in_an_hour": each.health.starts,
        "in_hand": each.backlog.pending if each.backlog else None,
        "unread": each.backlog.lag if each.backlog else None,
    }
