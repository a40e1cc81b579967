"""What this code must have shown on the testnet before it runs live, and the paper that carries it there."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from typing import Any

from django.conf import settings
from django.db import transaction

from apply.models import Plan
from apply.proof_report import look, report, starts
from apply.proof_report.report import Outcome, Report, Span
from quantum import audit, clock, promotion, version
from quantum.exchange.reading import History
from quantum.models import AuditEvent, Promotion, Seal, SealedEvent

FORMAT = 1
PLAN_ID = re.compile(r"[0-9a-f]{16}")
EXITS_LEAST = 5
RECENT = dt.timedelta(days=7)
FROM = "testnet"
WRITTEN = "proof_written"
PAPER_BYTES_MAX = 4_000_000


class NotAPaper(Exception):
    """A file that is none. Carries a text that is safe to show."""


def proof_of_this_code(*, history: History | None, why_not: str = "") -> tuple[Report | None, list[str]]:
    """Over all the time that governor, p33 and apply have run this code, as far as it is recent; and the plans whose
    exits it covers."""
    began = starts.runs_since(version.of_the_code())
    if began is None:
        return None, []
    until = clock.now()
    span = Span(max(began, until - RECENT), until)
    found = look.whole(span, history=history, why_not=why_not, signatures=True)
    named = {plan_id for part in found.parts for plan_id in part.plans}
    filled = Plan.objects.filter(
        created_at__range=span.both, state=Plan.State.FILLED, mode=settings.APPLY_MODE
    )
    exits = filled.exclude(result_id="").order_by("id").values_list("plan_id", flat=True)
    return found, [plan_id for plan_id in exits if plan_id not in named]


def paper_of(found: Report, exits: list[str]) -> dict[str, Any]:
    """With the newest seal of the chain: whoever doubts the file finds its digest sealed behind it, over there."""
    seal = Seal.objects.order_by("-number").first()
    paper = {
        "format": FORMAT,
        "exits": exits,
        "seal": {"number": seal.number, "head": seal.head} if seal else {},
        "proof": report.as_data(found),
    }
    return {**paper, "digest": digest_of(paper)}


def digest_of(paper: dict[str, Any]) -> str:
    rest = {name: value for name, value in paper.items() if name != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read(raw: bytes) -> dict[str, Any]:
    if len(raw) > PAPER_BYTES_MAX:
        raise NotAPaper("the file is too large")
    try:
        paper = json.loads(raw)
        digest = digest_of(paper) if isinstance(paper, dict) else ""
    except (ValueError, RecursionError):
        raise NotAPaper("the file is not JSON") from None
    if not isinstance(paper, dict) or paper.get("format") != FORMAT:
        raise NotAPaper("the file is no paper of `promote --write`")
    if paper.get("digest") != digest:
        raise NotAPaper("the file was changed after it was written: its digest is of other content")
    return paper


def missing(paper: dict[str, Any]) -> list[str]:
    """What keeps this paper from promoting the code that looks at it; nothing: it does."""
    proof, code = _of(paper, "proof", dict), version.of_the_code()
    found = []
    if proof.get("mode") != FROM:
        found.append(f"it was made in {proof.get('mode')}, and {FROM} is asked for")
    if proof.get("version") != code:
        found.append(f"it is of version {proof.get('version')}, and this is {code}")
    if proof.get("outcome") != Outcome.CLEAN.value:
        found.append(f"its outcome is {proof.get('outcome')}: every part has to be clean, the exchange's too")
    exits = len(set(_named(paper)))
    if exits < EXITS_LEAST:
        found.append(f"it shows {exits} clean exits, and {EXITS_LEAST} are asked for")
    if not isinstance(proof.get("signatures_verified"), int):
        found.append("no signature was verified in it")
    if not _recent(proof.get("made_at")):
        found.append(f"it was made at {proof.get('made_at')}, and the last {RECENT.days} days are asked for")
    return found


def _named(paper: dict[str, Any]) -> list[str]:
    return [each for each in _of(paper, "exits", list) if isinstance(each, str) and PLAN_ID.fullmatch(each)]


def _of(paper: dict[str, Any], name: str, kind: type) -> Any:
    value = paper.get(name)
    return value if isinstance(value, kind) else kind()


def _recent(text: object) -> bool:
    try:
        made_at = dt.datetime.fromisoformat(str(text))
        return -RECENT <= made_at - clock.now() <= dt.timedelta(minutes=5)
    except (ValueError, TypeError):
        return False


def written(paper: dict[str, Any], *, by: str, reason: str) -> None:
    data = {"digest": paper["digest"], "version": paper["proof"]["version"], "exits": len(paper["exits"])}
    audit.record(kind=WRITTEN, actor=by, reason=reason, data=data)


def event_of(paper: dict[str, Any]) -> tuple[AuditEvent, int | None] | None:
    """What this house recorded when it wrote this paper, and the seal that holds it; None: it never did."""
    events = AuditEvent.objects.filter(kind=WRITTEN, plan_id="", symbol="").order_by("id")
    found = next((each for each in events.iterator() if each.data.get("digest") == paper["digest"]), None)
    if found is None:
        return None
    return found, SealedEvent.objects.filter(event_id=found.pk).values_list("seal", flat=True).first()


def standing() -> Promotion | None:
    """By what this code may run live; None: it may not."""
    return promotion.stands(version.of_the_code())


def take(paper: dict[str, Any], *, by: str, reason: str) -> Promotion:
    return _promoted(Promotion.Way.PROOF, by=by, reason=reason, paper=paper)


def override(*, by: str, reason: str) -> Promotion:
    return _promoted(Promotion.Way.OVERRIDE, by=by, reason=reason, paper={})


def _promoted(way: Promotion.Way, *, by: str, reason: str, paper: dict[str, Any]) -> Promotion:
    code = version.of_the_code()
    said = {"version": code, "way": way.value}
    if paper:
        said |= {"digest": paper["digest"], "from": paper["proof"].get("instance")}
    with transaction.atomic():
        row = Promotion.objects.create(version=code, way=way, by=by, reason=reason, proof=paper)
        audit.record(kind=promotion.PROMOTED, actor=by, reason=reason, data=said)
    return row
