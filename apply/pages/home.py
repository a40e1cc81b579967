"""Home: everything worked out here, so that the template only lays it out. The whole page and the part that is fetched
again come from the same template; what somebody may not see is not in it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import NoReverseMatch, reverse
from django.utils.safestring import SafeString

from apply.glance import glance, hour
from apply.glance.glance import Glance, Trouble
from apply.glance.hour import Hour, Spread
from apply.pages.views import standing
from positions.pages import sides
from positions.reconcile.reconcile import Line
from quantum import advice, amounts, charts, facts, live
from quantum.charts import Chart
from quantum.live import Part

SHAPES = (
    "permits.view_tradingstate",
    "permits.view_hold",
    "permits.view_approval",
    "permits.view_permit",
    "positions.view_incident",
    "positions.view_balance",
    "quantum.view_auditevent",
    "apply.view_plan",
    "apply.break_glass",
)
"""Permissions that shape the part. The template is given these and no others, so that whoever holds the same ones may
share it."""
WAIT_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
GATES = {"governor": "Governor", "p33": "P3.3"}
NO_ANSWER = "unknown"


def part(request: HttpRequest) -> Part:
    may = {name: request.user.has_perm(name) for name in SHAPES}
    shape = "".join("1" if allowed else "0" for allowed in may.values())
    return live.shared(f"home:{shape}", lambda: _written(may))


def fragment(request: HttpRequest, **_: object) -> HttpResponse:
    return live.answer(part(request))


def _written(may: dict[str, bool]) -> str:
    found = glance.look(of_the_hour=hour.NOT_LOOKED_AT)
    of_the_hour = hour.kept_as("home", lambda: _hour(hour.kept()))
    return render_to_string("apply/glance.html", {**shown(found, may=may), **of_the_hour})


def shown(found: Glance, *, may: dict[str, bool]) -> dict[str, Any]:
    now = found.running
    troubles = [each for each in found.troubles if may.get(each.needs, not each.needs)]
    return {
        "may": {name.partition(".")[2]: allowed for name, allowed in may.items()},
        "flows": found.flows,
        "verdict": found.verdict,
        "troubles": [_trouble(each) for each in troubles],
        "hidden": len(found.troubles) - len(troubles),
        "state": found.state,
        "active": found.active,
        "state_age": facts.age(found.state.since) if found.state else "",
        "at": facts.moment(found.at),
        "running": now,
        "consumers": [_consumer(each) for each in now.consumers] if now else [],
        "lines": [_line(symbol, line) for symbol, line in now.lines.items()] if now else [],
        "results": [
            {
                "plan": row,
                "age": facts.age(row.ended_at) if row.ended_at else "",
                "standing": standing(row),
                "link": facts.plan_link(row.plan_id),
            }
            for row in found.results
        ],
    }


def where(each: Trouble) -> str:
    """The address where one acts. Somebody froze a symbol that is none (A/B): it has no page, and home must open."""
    return _address(*each.page) if each.page else ""


def _address(name: str, *about: str) -> str:
    try:
        return reverse(f"admin:{name}", args=about)
    except NoReverseMatch:
        return ""


def _trouble(each: Trouble) -> dict[str, Any]:
    return {
        "row": each,
        "chip": facts.chip("stops exits" if each.stops else "look", tone="bad" if each.stops else "warn"),
        "address": where(each),
    }


def _consumer(each: Any) -> dict[str, Any]:
    state, works = each.health.state, each.health.works
    tone = "bad" if not works else "warn" if each.health.restarting else "good"
    lag = each.backlog.lag if each.backlog else None
    return {
        "name": each.health.name,
        "alive": facts.chip("alive" if state == "ok" else state.lower(), tone=tone),
        "seen": str(each.health),
        "in_hand": each.backlog.pending if each.backlog else "—",
        "unread": "—" if each.backlog is None else NO_ANSWER if lag is None else lag,
        "restarts": max(0, each.health.starts - 1),
    }


def _line(symbol: str, line: Line | None) -> dict[str, Any]:
    """Cells that are ready: with twenty symbols this table was half of what the template cost."""
    named = {"symbol": symbol, "page": _address("positions_reconcile_symbol", symbol)}
    if line is None:
        unknown = {"state": facts.chip(NO_ANSWER, tone="warn"), "exchange": NO_ANSWER}
        return {**named, **unknown, "ledger": "", "apart": "", "band": "", "age": ""}
    age, tone = f"{max(line.age_s, Decimal(0)):.1f} s", facts.tone_of_age(line.age_s)
    return {
        **named,
        "state": facts.chip(line.state.value.replace("_", " "), tone=sides.tone(line)),
        "exchange": amounts.plain(line.exchange),
        "ledger": "never entered" if line.ledger is None else amounts.plain(line.ledger),
        "apart": sides.signed(sides.apart(line)),
        "band": sides.band(line),
        "tolerance": amounts.plain(line.tolerance),
        "age": age if tone == "good" else facts.chip(age, tone=tone),
    }


def _hour(of: Hour) -> dict[str, Any]:
    return {
        "done": of.done,
        "refused": of.refused,
        "unknown": of.unknown,
        "causes": [{"cause": cause, "n": n, "advice": advice.of(cause)} for cause, n in of.causes],
        "decisions": _picture(_decisions(of)),
        "wait": of.wait.as_data(),
        "waits": _picture(_waits(of.wait)),
        "order": of.order.as_data(),
        "limit_ms": settings.APPLY_PERMIT_WAIT_MS,
        "gates": [
            {
                "name": GATES.get(gate, gate),
                "granted": granted,
                "denied": denied,
                "share": f"{100 * granted / (granted + denied):.0f} %",
            }
            for gate, (granted, denied) in of.gates.items()
        ],
    }


def _picture(chart: Chart) -> SafeString:
    return render_to_string("quantum/chart.html", {"chart": chart})


def _decisions(of: Hour) -> Chart:
    stacks = [[("good", each.done), ("bad", each.refused), ("warn", each.unknown)] for each in of.minutes]
    last = len(stacks) - 1
    labels = ["" for _ in stacks]
    labels[last // 4], labels[last // 2], labels[3 * last // 4] = "−45 min", "−30 min", "−15 min"
    says = f"Exits by minute: {of.done} done, {of.refused} refused, {of.unknown} unknown in the last hour"
    return charts.columns(stacks, labels=labels, says=says)


def _waits(wait: Spread) -> Chart:
    limit = settings.APPLY_PERMIT_WAIT_MS
    steps = [*(step for step in WAIT_STEPS if step < limit), limit]
    counted = [0] * (len(steps) + 1)
    for value, n in wait.counts.items():
        counted[next((at for at, step in enumerate(steps) if value <= step), len(steps))] += n
    p50, p95 = wait.percentile(50), wait.percentile(95)
    told = f"half within {p50} ms, 95 % within {p95} ms, {wait.over(limit)} over {limit} ms"
    return charts.columns(
        [[("bar" if at < len(steps) else "bad", n)] for at, n in enumerate(counted)],
        labels=[*(f"{step}" for step in steps), ">"],
        says=f"Wait for both permits of {wait.n} plans: {told}"
        if wait.n
        else "No plan waited in the last hour",
        limit_after=len(steps),
        limit=f"{limit} ms",
    )
