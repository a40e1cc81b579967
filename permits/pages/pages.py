"""What the page of a plan's permits shows, worked out here so that the template only lays it out."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.html import format_html
from django.utils.safestring import SafeString
from msgspec import Struct

from permits.desk.peek import Peek, Standing
from permits.models import Permit
from permits.pages import story
from permits.pages.forms import GrantForm, RevokeForm
from permits.pages.story import GATE_NAMES, Story, Told
from quantum import advice, clock, facts, live
from quantum.live import Part
from quantum.models import AuditEvent
from quantum.redis import command_client

PLAN_ID = re.compile(r"[0-9a-f]{16}")
FATE_TONES = {"live": "good", "spent": "calm", "expired": "calm", "superseded": "warn", "revoked": "bad"}


class Card(Struct, frozen=True):
    """One gate's side: what stands now, else the newest permit it ever signed for this plan."""

    gate: str
    name: str
    answer: SafeString
    ttl_ms: int | None
    """None: nothing stands there, or nobody can say."""
    ttl_text: str
    ends: SafeString | None
    """By the server's clock; None: nothing stands there, or it has no end."""
    reason: str
    numbers: list[tuple[str, str]]
    issuer: str
    signature: SafeString | None
    fate: SafeString | None
    raw: str
    says: str
    advice: advice.Advice | None = None
    """Of a denial: what its reason means, and what to do next."""


def plan(plan_id: str) -> dict[str, Any]:
    told = story.tell(command_client(), plan_id)
    standing = [found.gate for found in told.peek.standing] if told.peek else []
    seen = told.peek.seen if told.peek else ""
    ended = told.peek is not None and told.peek.ended
    symbol = told.history[-1].row.symbol if told.history else ""
    return {
        "title": f"Permits of {plan_id}",
        "plan_id": plan_id,
        "plan_link": facts.plan_link(plan_id),
        "symbol": symbol,
        "part": Part(render_to_string("permits/standing.html", _standing(told)), age_ms=0),
        "events": [_event(event) for event in told.events],
        "revoke": RevokeForm(standing=standing, initial={"seen": seen}) if standing and not ended else None,
        "grant": _grant_form(told, standing, seen),
        "two_people": settings.APPROVERS_REQUIRED > 1,
        "wait_ms": settings.APPLY_PERMIT_WAIT_MS,
    }


def fragment(request: HttpRequest, plan_id: str, *, context: dict[str, Any]) -> HttpResponse:  # noqa: ARG001  a page's
    """What stands now, looked at once a second however many look."""
    if not PLAN_ID.fullmatch(plan_id):
        raise Http404("no plan has such an id")
    part = live.shared(
        f"permits:{plan_id}",
        lambda: render_to_string("permits/standing.html", _standing(story.tell(command_client(), plan_id))),
    )
    return live.answer(part)


def _standing(told: Story) -> dict[str, Any]:
    return {
        "told": told,
        "seen": told.peek.seen if told.peek else "",
        "looked_at": facts.moment(told.now),
        "spent_at": _spent_at(told.peek),
        "cards": [_card(told, gate) for gate in story.GATES],
        "history": [_line(line) for line in reversed(told.history)],
    }


def _grant_form(told: Story, standing: list[str], seen: str) -> GrantForm | None:
    """Only where a permit could still be looked at."""
    found = told.peek
    if found is None or found.receipt or found.revoked or found.ended:
        return None
    free = [gate for gate in story.GATES if gate not in standing]
    return GrantForm(free=free, initial={"seen": seen}) if free else None


def _spent_at(found: Peek | None) -> SafeString | None:
    return facts.moment(clock.from_ms(found.receipt.at_ms)) if found and found.receipt else None


def _card(told: Story, gate: str) -> Card:
    standing = told.peek.of(gate) if told.peek else None
    if standing is not None:
        return _standing_card(told, standing)
    last = next((line for line in reversed(told.history) if line.row.gate == gate), None)
    says = "Redis does not answer: whether a permit stands is not known." if told.peek is None else ""
    if last is None:
        nothing = facts.chip("no permit", tone="warn")
        return Card(
            gate=gate, name=GATE_NAMES[gate], answer=nothing, ttl_ms=None, ttl_text="", ends=None, reason="",
            numbers=[], issuer="", signature=None, fate=None, raw="",
            says=says or "This gate has signed nothing for this plan, or its time is over and no row was kept.",
        )  # fmt: skip
    return Card(
        gate=gate,
        name=GATE_NAMES[gate],
        answer=answer(last.row.verdict),
        ttl_ms=None,
        ttl_text="",
        ends=None,
        reason=last.row.reason,
        numbers=story.numbers(last.row.raw),
        issuer=last.row.issuer,
        signature=None,
        fate=_fate(last),
        raw=last.row.raw,
        says=says or "No permit of this gate stands in Redis; this is the last one it signed.",
        advice=None if last.row.verdict else advice.of(last.row.reason, gate=gate),
    )


def _standing_card(told: Story, standing: Standing) -> Card:
    permit, raw = standing.permit, standing.raw.decode("utf-8", "backslashreplace")
    line = next((line for line in told.history if line.row.raw == raw), None)
    return Card(
        gate=standing.gate,
        name=GATE_NAMES[standing.gate],
        answer=_standing_answer(standing),
        ttl_ms=standing.ttl_ms if standing.ttl_ms >= 0 else None,
        ttl_text=f"{standing.ttl_ms / 1000:.1f} s" if standing.ttl_ms >= 0 else "no end",
        ends=_ends(told, standing),
        reason=permit.reason if permit else standing.problem,
        numbers=story.numbers(raw),
        issuer=(permit.issuer or "by hand") if permit else "",
        signature=_signature(standing),
        fate=_standing_fate(standing, line),
        raw=raw,
        says="" if line else "It has no row yet.",
        advice=_advice_on(standing),
    )


def _ends(told: Story, standing: Standing) -> SafeString | None:
    return (
        facts.moment(told.now + dt.timedelta(milliseconds=standing.ttl_ms)) if standing.ttl_ms >= 0 else None
    )


def _advice_on(standing: Standing) -> advice.Advice | None:
    permit = standing.permit
    return advice.of(permit.reason, gate=standing.gate) if permit and not permit.verdict else None


def answer(verdict: bool) -> SafeString:
    return facts.chip("granted", tone="good") if verdict else facts.chip("denied", tone="bad")


def _standing_answer(standing: Standing) -> SafeString:
    """What is not believed must not look green, whatever it says of itself."""
    if standing.permit is None:
        return facts.chip("no valid permit", tone="bad")
    if standing.believed:
        return answer(standing.permit.verdict)
    return facts.chip(f"says {'granted' if standing.permit.verdict else 'denied'}", tone="bad")


def _standing_fate(standing: Standing, line: Told | None) -> SafeString:
    if line is not None:
        return _fate(line)
    return fate_chip("live") if standing.believed else facts.chip("will be refused", tone="bad")


def _signature(standing: Standing) -> SafeString:
    if not standing.checked:
        return facts.chip("not checked: the public keys cannot be read here", tone="warn")
    if standing.signer:
        good = facts.chip(f"ok, {standing.signer}", tone="good")
        return format_html('{} <span class="id">{}</span>', good, standing.fingerprint)
    return format_html("{} no key that may sign for this gate", facts.chip("bad", tone="bad"))


def _fate(line: Told) -> SafeString:
    return fate_chip(line.fate)


def fate_chip(fate: str) -> SafeString:
    return facts.chip(fate, tone=FATE_TONES.get(fate, "warn"))


def _line(line: Told) -> dict[str, Any]:
    row: Permit = line.row
    return {
        "row": row,
        "issued": facts.moment(row.issued_at),
        "answer": answer(row.verdict),
        "quantity": facts.plain(row.quantity) if row.quantity is not None else facts.NOTHING,
        "fate": _fate(line),
        "fate_at": facts.moment(row.fate_at) if row.fate_at else facts.NOTHING,
        "note": line.note,
    }


def _event(event: AuditEvent) -> dict[str, Any]:
    return {"row": event, "at": facts.moment(event.at)}
