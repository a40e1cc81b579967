"""What people are alerted of: the troubles that home and `status` show, and exits that stay blocked. Each has a key
that stays the same while its numbers change, and a time that it may last before anybody is told."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from django.conf import settings
from msgspec import Struct

from apply.glance.glance import NEEDED, Glance, Trouble
from apply.models import Plan
from apply.plans import blocked
from quantum import clock, metrics

AFTER_S = {
    "halted": 0.0,
    "redis": 10.0,
    "not_armed": 15.0,
    "role": 15.0,
    "ailing": 15.0,
    "restarting": 0.0,
    "feed": 20.0,
    "hold": 60.0,
    "incident": 30.0,
    "unknown_order": 30.0,
    "waiting": 0.0,
    "audit": 0.0,
    "in_hand": 15.0,
    "behind": 15.0,
    "dead_letters": 0.0,
}
"""A deploy takes a role away for some seconds, and a plan in hand is usual: nobody is woken for those."""
TOLD_BY_REDIS = ("not_armed", "role", "ailing", "restarting", "feed", "in_hand", "behind", "dead_letters")
BEHIND_MOST = 10
"""Plans that a group may have left unread for a moment."""


class Condition(Struct, frozen=True, kw_only=True):
    key: str
    text: str
    after_s: float
    why: str = ""
    critical: bool = False
    since: dt.datetime | None = None
    """Where the records know it; else it counts from when it was first seen."""
    escalates_after_s: float | None = None
    plan_id: str = ""
    command: str = ""


def of(found: Glance, times: blocked.BlockedTimes) -> list[Condition]:
    drifting = {incident.symbol for incident in found.incidents}
    told = [
        _of_trouble(each)
        for each in found.troubles
        # The Brain freezes what drifts: that is one thing to wake somebody for, not two.
        if not (each.kind == "hold" and each.about in drifting)
    ]
    return [*told, *_behind(found), *_blocked(times)]


def kind(key: str) -> str:
    return key.partition(":")[0]


def _of_trouble(each: Trouble) -> Condition:
    return Condition(
        key=f"{each.kind}:{each.about}"[:120],
        text=each.text,
        why=each.why,
        critical=each.stops,
        after_s=AFTER_S[each.kind],
        plan_id=each.about if each.kind == "unknown_order" else "",
        command=each.command,
    )


def _behind(found: Glance) -> Iterator[Condition]:
    for each in found.running.consumers if found.running else ():
        if each.health.name in NEEDED and each.backlog and (each.backlog.lag or 0) > BEHIND_MOST:
            yield Condition(
                key=f"behind:{each.health.name}",
                text=f"{each.health.name} is behind",
                why=f"more than {BEHIND_MOST} plans unread",
                after_s=AFTER_S["behind"],
                command="doctor",
            )


def _blocked(times: blocked.BlockedTimes) -> Iterator[Condition]:
    """One for each symbol of ours, by its oldest cause; a stranger's plans cannot make an alert each."""
    longest: dict[str, tuple[float, str, str]] = {}
    for (symbol, cause), seconds in times.seconds().items():
        label = metrics.symbol_label(symbol)
        longest[label] = max(longest.get(label, (0.0, "", "")), (seconds, cause, symbol))
    for label, (seconds, cause, symbol) in longest.items():
        since = clock.now() - dt.timedelta(seconds=seconds)
        newest = Plan.objects.filter(symbol=symbol, state__in=blocked.REFUSED).order_by("-id")
        plan_id = newest.values_list("plan_id", flat=True).first() or ""
        yield Condition(
            key=f"exit_blocked:{label}",
            text=f"{label}: exits are blocked",
            why=f"{cause}, since {since:%Y-%m-%d %H:%M:%S} UTC",
            since=since,
            after_s=float(settings.ALERT_BLOCKED_AFTER_SEC),
            escalates_after_s=float(settings.ALERT_ESCALATE_AFTER_SEC),
            plan_id=plan_id,
            command=f"plan_show {plan_id}",
        )
