"""Both permits of a plan as they stand now, in one go from the server. Reads only; spends nothing."""

from __future__ import annotations

import datetime as dt
import hashlib

from django.conf import settings
from msgspec import Struct

from permits.desk import payloads
from quantum import clock
from quantum.redis import Client
from quantum.signing import KeyUnusable, Verifier

REVOKED = b"revoked"
"""Stands where the digest was: lua/revoke-4.lua."""


class Standing(Struct, frozen=True):
    """One permit key. Bytes that are no permit are shown as they are, with what is wrong with them."""

    gate: str
    raw: bytes
    ttl_ms: int
    permit: payloads.Permit | None
    problem: str
    signer: str
    """Whose key signed it: the gate's or the operator's; empty when nobody's did."""
    fingerprint: str
    checked: bool = True
    """False: the public keys cannot be read here, so nothing is known of the signature."""

    @property
    def believed(self) -> bool:
        """Whether the gate could: well formed, and signed where that is asked for."""
        return self.permit is not None and (bool(self.signer) or settings.PERMIT_SIGNATURES != "required")

    @property
    def claimed(self) -> str:
        return fingerprint(self.raw)


class Receipt(Struct, frozen=True):
    """The memory of a consume. Its token is a secret of the attempt and is not read."""

    at_ms: int
    governor: bytes
    p33: bytes


class Peek(Struct, frozen=True):
    plan_id: str
    now_ms: int
    """By the server's clock, like every TTL here."""
    governor: Standing | None
    p33: Standing | None
    receipt: Receipt | None
    revoked: bool
    ended: bool
    """Apply has told its result: nothing that stands here will be looked at."""

    @property
    def standing(self) -> list[Standing]:
        return [found for found in (self.governor, self.p33) if found is not None]

    @property
    def now(self) -> dt.datetime:
        return clock.from_ms(self.now_ms)

    def of(self, gate: str) -> Standing | None:
        return self.governor if gate == payloads.GOVERNOR else self.p33

    @property
    def seen(self) -> str:
        """A mark of all that a person saw: an act on a page is refused when it is another one by then."""
        parts = [found.raw if found else b"" for found in (self.governor, self.p33)]
        parts.append(str(self.receipt.at_ms).encode() if self.receipt else b"")
        return fingerprint(b"\x00".join([*parts, b"revoked" if self.revoked else b""]))


def fingerprint(raw: bytes) -> str:
    """Names bytes without showing them."""
    return hashlib.sha256(raw).hexdigest()[:16]


def peek(client: Client, plan_id: str) -> Peek:
    keys = settings.KEYS
    own = (keys.governor_permit(plan_id), keys.p33_permit(plan_id))
    together = client.pipeline(transaction=True)
    for key in own:
        together.get(key)
        together.pttl(key)
    together.hget(keys.pair(plan_id), "digest")
    together.hmget(keys.receipt(plan_id), "at", "governor", "p33")
    together.exists(keys.result_published(plan_id))
    together.time()
    # A key of a wrong type is a finding of its own, not a failure of the whole look.
    gov, gov_ttl, p33, p33_ttl, digest, receipt, ended, (s, us) = together.execute(raise_on_error=False)
    verifier = verifier_here()
    return Peek(
        plan_id=plan_id,
        now_ms=int(s) * 1000 + int(us) // 1000,
        governor=_standing(payloads.GOVERNOR, gov, gov_ttl, verifier),
        p33=_standing(payloads.P33, p33, p33_ttl, verifier),
        receipt=_receipt(receipt),
        revoked=digest == REVOKED,
        ended=bool(ended),
    )


def verifier_here() -> Verifier | None:
    """None: the public keys cannot be read here."""
    try:
        return Verifier(directory=settings.PERMIT_KEYS_DIR)
    except KeyUnusable:
        return None  # nothing can be verified here, and nothing is said to be


def _standing(gate: str, raw: object, ttl_ms: int, verifier: Verifier | None) -> Standing | None:
    if raw is None:
        return None
    if not isinstance(raw, bytes):
        return Standing(gate, b"", ttl_ms, None, "another type than a permit stands there", "", "")
    permit, problem = None, ""
    try:
        permit = payloads.read(raw, gate=gate, all_fields=settings.PERMIT_SIGNATURES == "required")
    except payloads.Malformed as malformed:
        problem = str(malformed)
    signer, mark = signed_by(raw, gate, verifier)
    return Standing(gate, raw, ttl_ms, permit, problem, signer, mark, checked=verifier is not None)


def signed_by(raw: bytes, gate: str, verifier: Verifier | None) -> tuple[str, str]:
    """Signer and key fingerprint, both empty when no key that may sign for this gate did."""
    for signer in (gate, "operator") if verifier else ():
        mark = verifier.signed_by(signer=signer, raw=raw) if verifier else None
        if mark:
            return signer, mark
    return "", ""


def _receipt(found: object) -> Receipt | None:
    if not isinstance(found, list) or found[0] is None:
        return None
    at, governor, p33 = found
    return Receipt(at_ms=int(at), governor=governor or b"", p33=p33 or b"")


def ttls(client: Client, permits: list[tuple[str, str]]) -> list[int]:
    """What is left of each (plan id, gate) in ms, in one go; -2 where nothing stands."""
    keys = settings.KEYS
    together = client.pipeline(transaction=False)
    for plan_id, gate in permits:
        own = keys.governor_permit(plan_id) if gate == payloads.GOVERNOR else keys.p33_permit(plan_id)
        together.pttl(own)
    return [int(left) for left in together.execute()]
