"""What a permit says, held against the plan. Nothing is spent here."""

from __future__ import annotations

from django.conf import settings
from msgspec.structs import replace

from permits.desk import payloads
from permits.gate.outcome import safe_quantity_of
from permits.policy.operator_rules import Operators
from quantum.log import log
from quantum.plan import ExitPlan
from quantum.reasons import GateReason
from quantum.signing import Verifier


class Judge:
    def __init__(self, verifier: Verifier, *, operators: Operators) -> None:
        self._verifier = verifier
        self._operators = operators
        self._required = settings.PERMIT_SIGNATURES == "required"

    def __call__(self, plan: ExitPlan, raw: bytes, gate: str) -> payloads.Permit | GateReason:
        """Every field of a permit against the plan; the gate's verdict comes last."""
        malformed = GateReason.MALFORMED_GOVERNOR if gate == payloads.GOVERNOR else GateReason.MALFORMED_P33
        try:
            permit = payloads.read(raw, gate=gate, all_fields=self._required)
            by_operator = payloads.claims_operator(permit)
            if by_operator and not self._required:
                permit = payloads.read(raw, gate=gate, all_fields=True)
        except payloads.Malformed:
            return malformed
        # Who says operator proves it, also where the gates' signatures are optional.
        signer = payloads.OPERATOR if by_operator else gate
        if (self._required or by_operator) and not self._verifier.holds(signer=signer, raw=raw):
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
        return replace(permit, by_operator=True) if by_operator else permit

    def before_waiting(self, *, within_ms: float) -> None:
        """What judging would have to look up first is looked up while nothing is there to judge."""
        if self._required:
            self._verifier.look_ahead(within_s=within_ms / 1000)

    def policy_refuses(
        self, plan: ExitPlan, governor: payloads.Permit, p33: payloads.Permit
    ) -> GateReason | None:
        """Of a pair that would be spent: are the gates an operator signed for, and the size, his to sign?
        The size is the most that the pair lets be closed, whoever signed."""
        gates = [permit.gate for permit in (governor, p33) if permit.by_operator]
        if not gates:
            return None
        most = safe_quantity_of(governor, p33)
        why = self._operators.refusal(gates=gates, symbol=plan.symbol, quantity=most)
        if why is None:
            return None
        log.warning("an operator's permit is beyond the policy", plan=plan.plan_id, why=why)
        return GateReason.OPERATOR_REFUSED


def said(raw: bytes, gate: str) -> str:
    """The gate's own reason, where the bytes can be read at all."""
    try:
        return payloads.read(raw, gate=gate, all_fields=False).reason
    except payloads.Malformed as wrong:
        return str(wrong)
