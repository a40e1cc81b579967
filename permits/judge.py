"""What a permit says, held against the plan. Nothing is spent here."""

from __future__ import annotations

from django.conf import settings

from permits import payloads
from quantum.plan import ExitPlan
from quantum.reasons import GateReason
from quantum.signing import Verifier


class Judge:
    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._required = settings.PERMIT_SIGNATURES == "required"

    def __call__(self, plan: ExitPlan, raw: bytes, gate: str) -> payloads.Permit | GateReason:
        """Every field of a permit against the plan; the gate's verdict comes last."""
        malformed = GateReason.MALFORMED_GOVERNOR if gate == payloads.GOVERNOR else GateReason.MALFORMED_P33
        try:
            permit = payloads.read(raw, gate=gate, all_fields=self._required)
        except payloads.Malformed:
            return malformed
        if self._required and not self._verifier.holds(signer=gate, raw=raw):
            return GateReason.BAD_SIGNATURE
        if permit.symbol not in (None, plan.symbol):
            return GateReason.SYMBOL_MISMATCH
        if permit.digest not in (None, plan.digest) or permit.plan_id not in (None, plan.plan_id):
            return GateReason.DIGEST_MISMATCH
        if permit.mode not in (None, settings.APPLY_MODE):
            return GateReason.MODE_MISMATCH
        if permit.account not in (None, settings.ACCOUNT):
            return GateReason.ACCOUNT_MISMATCH
        if permit.consumed:
            return GateReason.ALREADY_CONSUMED
        if not permit.verdict:
            return GateReason.GOVERNOR_DENIED if gate == payloads.GOVERNOR else GateReason.P33_DENIED
        return permit


def said(raw: bytes, gate: str) -> str:
    """The gate's own reason, where the bytes can be read at all."""
    try:
        return payloads.read(raw, gate=gate, all_fields=False).reason
    except payloads.Malformed as wrong:
        return str(wrong)
