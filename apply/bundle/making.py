"""A plan's facts as one document, signed. Made from rows alone, so that making it again gives the same bytes.

It judges nothing: rows that do not fit together go in as they are, and tools/verify_bundle.py says so. docs/audit.md
has the form.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import tomllib
from collections.abc import Iterable
from decimal import Decimal
from functools import cache
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.conf import settings
from django.db.models import Model
from msgspec import Struct

from apply.models import PENDING_STATES, Order
from apply.plans import talk, timeline
from apply.plans.timeline import Timeline
from permits.models import Permit
from positions.models import Fill, LedgerEntry
from quantum import amounts, signing
from quantum.chain import proving
from quantum.models import Instance
from quantum.signing import AUDIT, PROOF, SIGNERS

FORMAT, VERSION = "quantum-proof-bundle", 1
SIGNED_AS = b"quantum-proof-bundle-1\n"
"""Before the signed text: no permit and no seal begins like this, so no signature can be taken for another."""

# Named one by one: a new column is shown to strangers only when somebody has decided so.
PLAN = (
    "plan_id", "symbol", "action", "decision", "kill_score", "timestamp", "digest", "mode", "account", "source",
    "reason_codes", "parent", "attempt", "created_at", "expires_at", "stream_id", "state", "error", "gate_reason",
    "wait_ms", "gov_ttl", "p33_ttl", "ended_at", "result_id", "would_quantity",
)  # fmt: skip
PERMIT = ("gate", "fate", "fate_at", "fate_by", "fate_reason", "recorded_at")
ORDER = (
    "step", "client_order_id", "symbol", "side", "quantity", "timestamp_ms", "intended_at", "sent_at", "answered_at",
    "settled_at", "order_id", "status", "executed_quantity", "average_price", "realized_pnl", "commission", "error",
    "error_code", "error_text",
)  # fmt: skip
FILL = (
    "account", "symbol", "trade_id", "order_id", "client_order_id", "side", "quantity", "price", "realized_pnl",
    "commission", "commission_asset", "at",
)  # fmt: skip
ENTRY = ("account", "symbol", "kind", "delta", "balance", "plan_id", "actor", "reason", "at", "recorded_at")


class NoBundle(Exception):
    """There is none of this plan. Says why, and what to do."""


class Bundle(Struct, frozen=True):
    said: dict[str, Any]
    unsealed: int
    """Events of the plan that lie in no seal yet: a moment later the bundle proves them too."""

    @property
    def raw(self) -> bytes:
        return written(self.said)

    @property
    def plan_id(self) -> str:
        return str(self.said["plan"]["plan_id"])


def written(said: dict[str, Any]) -> bytes:
    """The one spelling of a bundle."""
    return json.dumps(said, indent=1).encode() + b"\n"


def of(plan_id: str, *, to: int | None = None) -> Bundle | None:
    """None: there is no such plan. What has ended stays as it is, so no transaction holds its rows together."""
    found = timeline.of(plan_id)
    if found is None:
        return None
    if found.plan.state in PENDING_STATES:
        raise NoBundle(f"plan {plan_id} is {found.plan.state}: a bundle is of a plan that has ended")
    try:
        chain = proving.of_plan(plan_id, file=settings.AUDIT_CHECKPOINTS, to=to)
    except proving.TooFar as far:
        raise NoBundle(str(far)) from None
    said = _said(found, chain)
    return Bundle(_signed(said), chain.unsealed)


def _said(found: Timeline, chain: proving.Proved) -> dict[str, Any]:
    keys = {name: signing.for_proofs(name, settings.PERMIT_KEYS_DIR) for name in (*SIGNERS, AUDIT)}
    permits = [_permit(row, keys) for row in sorted(found.permits, key=lambda row: (row.issued_at, row.gate))]
    used = {(each["signer"], each["key"]) for each in permits if each["key"]}
    used |= {(AUDIT, key) for key in chain.keys if key in keys[AUDIT]}
    return {
        "format": FORMAT,
        "v": VERSION,
        "versions": {"quantum": _version()},
        "instance": _instance(),
        "plan": _row(found.plan, PLAN),
        "permits": permits,
        "consume": _consume(found.order, found.plan.wait_ms) if found.order else None,
        "order": _row(found.order, ORDER) if found.order else None,
        "exchange": [talk.as_data(said) for said in found.said],
        "fills": [_row(fill, FILL) for fill in found.fills],
        "ledger": [_entry(entry) for entry in found.entries],
        "audit": {"events": chain.events, "chains": chain.chains},
        "keys": [_key(name, mark, keys[name][mark]) for name, mark in used],
    }


def _signed(said: dict[str, Any]) -> dict[str, Any]:
    try:
        private = signing.load_private(settings.PERMIT_KEYS_DIR / f"{PROOF}.key")
    except signing.KeyUnusable as unusable:
        raise NoBundle(f"nothing can be signed: {unusable}") from None
    public = private.public_key()
    mark = signing.fingerprint_of(public)
    keys = sorted(
        [*said["keys"], _key(PROOF, mark, public)], key=lambda key: (key["name"], key["fingerprint"])
    )
    said = {**said, "keys": keys}
    return {**said, "signature": {"key": mark, "sig": _url(private.sign(SIGNED_AS + written(said)))}}


@cache
def _version() -> str:
    project = tomllib.loads((settings.BASE_DIR / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def _instance() -> dict[str, Any]:
    row = Instance.objects.first()
    if row is None:
        raise NoBundle("this house has never been started: it has no identity that a bundle could name")
    return {"uuid": str(row.uuid), "mode": row.mode, "account": row.account}


# ---- permits and their keys


def _permit(row: Permit, keys: dict[str, dict[str, Ed25519PublicKey]]) -> dict[str, Any]:
    raw = row.raw.encode()
    signer, mark = _signer(raw, row.gate, keys)
    return {**_row(row, PERMIT), "signer": signer, "key": mark, "raw": base64.b64encode(raw).decode()}


def _signer(raw: bytes, gate: str, keys: dict[str, dict[str, Ed25519PublicKey]]) -> tuple[str, str]:
    """Both empty where no key that is kept here has signed it. What a key was worth then is the reader's to judge."""
    parts = signing.parts_of(raw)
    for name in (gate, "operator") if parts else ():
        for mark, key in keys.get(name, {}).items():
            if parts and _holds(key, *parts):
                return name, mark
    return "", ""


def _holds(key: Ed25519PublicKey, body: bytes, signature: bytes) -> bool:
    try:
        key.verify(signature, body)
    except InvalidSignature:
        return False
    return True


def _key(name: str, mark: str, key: Ed25519PublicKey) -> dict[str, str]:
    return {"name": name, "fingerprint": mark, "key": base64.b64encode(key.public_bytes_raw()).decode()}


# ---- rows


def _consume(order: Order, wait_ms: int | None) -> dict[str, Any]:
    """What the receipt said, as the intent kept it. The token opened one attempt, which has ended."""
    return {
        "token": order.token,
        "consumed_at": order.consumed_at.isoformat(),
        "wait_ms": wait_ms,
        "governor": hashlib.sha256(order.governor_permit.encode()).hexdigest(),
        "p33": hashlib.sha256(order.p33_permit.encode()).hexdigest(),
    }


def _entry(entry: LedgerEntry) -> dict[str, Any]:
    fill: Fill | None = entry.fill
    return {**_row(entry, ENTRY), "trade_id": fill.trade_id if fill is not None else None}


def _row(instance: Model, names: Iterable[str]) -> dict[str, Any]:
    return {name: _plain(getattr(instance, name)) for name in names}


def _plain(value: object) -> object:
    """No number with a fraction: it would have more than one spelling."""
    if isinstance(value, Decimal):
        return amounts.plain(value)
    if isinstance(value, dict):
        return {name: _plain(value[name]) for name in sorted(value)}
    return value.isoformat() if isinstance(value, dt.datetime) else value


def _url(signature: bytes) -> str:
    return base64.urlsafe_b64encode(signature).rstrip(b"=").decode()
