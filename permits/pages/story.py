"""All that is known of the permits of one plan: what stands in Redis now, and every permit there ever was."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from django.conf import settings
from msgspec import Struct

from permits.desk import payloads, records
from permits.desk.peek import Peek, Standing, peek, signed_by, verifier_here
from permits.models import Permit
from quantum import amounts, clock
from quantum.models import AuditEvent
from quantum.redis import Client, RedisError

GATES = (payloads.GOVERNOR, payloads.P33)
GATE_NAMES = {payloads.GOVERNOR: "Governor", payloads.P33: "Position State Brain (P3.3)"}
EVENTS_SHOWN = 100


class Told(Struct, frozen=True):
    """One permit of the history, with the fate that a person is told."""

    row: Permit
    fate: str
    note: str = ""
    """Where row and server say different things, what that means."""


class Story(Struct, frozen=True):
    plan_id: str
    now: dt.datetime
    """By the server's clock; by our own while Redis does not answer."""
    peek: Peek | None
    """None: Redis does not answer, and nobody can say what stands there."""
    history: list[Told]
    events: list[AuditEvent]

    @property
    def known(self) -> bool:
        nothing_in_redis = self.peek is None or not (self.peek.standing or self.peek.receipt)
        return bool(self.history) or not nothing_in_redis


def tell(client: Client, plan_id: str) -> Story:
    try:
        found = peek(client, plan_id)
    except RedisError:
        found = None
    now = found.now if found else clock.now()
    rows = list(Permit.objects.filter(plan_id=plan_id).order_by("issued_at", "id"))
    events = AuditEvent.objects.filter(plan_id=plan_id, kind__startswith="permit_").order_by("id")
    history = [_told(row, rows, found, now) for row in rows]
    return Story(plan_id, now, found, history, list(events[:EVENTS_SHOWN]))


def _told(row: Permit, rows: list[Permit], found: Peek | None, now: dt.datetime) -> Told:
    fate = records.fate_at(row, now=now, history=rows)
    standing = found.of(row.gate) if found else None
    stands = standing is not None and standing.raw == row.raw.encode()
    note = ""
    if fate == Permit.Fate.LIVE and found is not None and not stands:
        note = "spent, not recorded yet" if found.receipt else "not in Redis any more"
    elif fate != Permit.Fate.LIVE and stands:
        note = "stands in Redis although it is not live: somebody wrote it there"
    return Told(row=row, fate=fate.value, note=note)


def as_data(story: Story) -> dict[str, Any]:
    return {
        "plan_id": story.plan_id,
        "account": settings.ACCOUNT,
        "mode": settings.APPLY_MODE,
        "now": story.now.isoformat(),
        "redis": _peek_data(story.peek) if story.peek else None,
        "history": [
            {**row_data(told.row, fate=told.fate), "note": told.note, "raw": told.row.raw}
            for told in story.history
        ],
        "events": [
            {"at": e.at.isoformat(), "kind": e.kind, "actor": e.actor, "reason": e.reason, "data": e.data}
            for e in story.events
        ],
    }


def _peek_data(found: Peek) -> dict[str, Any]:
    receipt = {"spent_at": clock.from_ms(found.receipt.at_ms).isoformat()} if found.receipt else None
    return {
        **{gate: _standing_data(found.of(gate)) for gate in GATES},
        "receipt": receipt,
        "revoked": found.revoked,
        "plan_ended": found.ended,
    }


def _standing_data(standing: Standing | None) -> dict[str, Any] | None:
    if standing is None:
        return None
    return {
        "ttl_ms": standing.ttl_ms,
        "verdict": standing.permit.verdict if standing.permit else None,
        "reason": standing.permit.reason if standing.permit else "",
        "issuer": standing.permit.issuer if standing.permit else None,
        "problem": standing.problem,
        "signed_by": standing.signer,
        "key": standing.fingerprint,
        "raw": standing.raw.decode("utf-8", "backslashreplace"),
    }


def row_data(row: Permit, *, fate: str) -> dict[str, Any]:
    return {
        "plan_id": row.plan_id,
        "gate": row.gate,
        "verdict": row.verdict,
        "reason": row.reason,
        "symbol": row.symbol,
        "quantity": None if row.quantity is None else amounts.plain(row.quantity),
        "issuer": row.issuer,
        "issued_at": row.issued_at.isoformat(),
        "expires_at": row.expires_at.isoformat(),
        "fate": fate,
        "fate_at": row.fate_at.isoformat() if row.fate_at else None,
        "fate_by": row.fate_by,
        "fate_reason": row.fate_reason,
    }


COMPARED = (
    "safe_close_qty",
    "exchange_position_amt",
    "ledger_amt",
    "computed_qty",
    "computed_notional",
    "observed_at",
)
"""Members of a permit that were compared or decided; the rest of it is in its raw bytes."""
SIDES = ("exchange_position_amt", "ledger_amt")
"""A denial carries them as 0 where it never looked; what it did compare stands in its context."""


def numbers(raw: str) -> list[tuple[str, str]]:
    """What was compared or decided, in its exact text. Bytes that are no permit have none."""
    try:
        members = json.loads(raw, parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        return []
    if not isinstance(members, dict):
        return []
    context = members.get("context")
    compared = {name: members[name] for name in COMPARED if name in members}
    if members.get("allow") is False:
        compared = {name: value for name, value in compared.items() if name not in SIDES}
    compared |= context if isinstance(context, dict) else {}
    return [(name.replace("_", " "), str(value)) for name, value in compared.items()]


# ---- signatures of what was recorded


class Signature(Struct, frozen=True):
    checked: bool
    """False: the public keys cannot be read here."""
    signer: str
    """Whose key signed it: the gate's or the operator's; empty when no key that is trusted now did."""
    fingerprint: str = ""


def signatures(permits: list[Permit]) -> list[Signature]:
    """Of each, by the keys that are trusted here now; a key that was replaced long ago is none of them."""
    verifier = verifier_here()
    if verifier is None:
        return [Signature(checked=False, signer="") for _ in permits]
    found = (signed_by(permit.raw.encode(), permit.gate, verifier) for permit in permits)
    return [Signature(checked=True, signer=signer, fingerprint=mark) for signer, mark in found]
