"""The permit desk: the only writer of permit keys and permit rows."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from django.conf import settings

from permits import payloads
from quantum import clock
from quantum.plan import ExitPlan
from quantum.redis import Client, Script
from quantum.signing import Signer

PAIR_LIFE_MS = 300_000

_ISSUE = Script(Path(__file__).parent / "lua" / "issue-4.lua")


@dataclass(frozen=True, slots=True)
class Issued:
    """The bytes that stand in Redis now; fresh is False when an earlier permit was kept."""

    raw: bytes
    fresh: bool


@dataclass(frozen=True, slots=True)
class NotIssued:
    reason: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What a gate found out about a plan: the inputs of a permit that are its own business."""

    verdict: bool
    reason: str
    quantity: Decimal = Decimal(0)
    exchange_amt: Decimal = Decimal(0)
    ledger_amt: Decimal = Decimal(0)
    observed_at: Decimal | None = None
    context: dict[str, Decimal | str] | None = None


class Desk:
    """One gate's counter: holds that gate's key and nothing else."""

    def __init__(self, *, gate: str, signer: Signer, client: Client) -> None:
        self.gate = gate
        self._signer = signer
        self._client = client
        self._issuer = f"{gate}@{settings.ACCOUNT}"

    def issue(self, plan: ExitPlan, finding: Finding) -> Issued | NotIssued:
        """Sign and write. Asking twice leaves the first permit standing: idempotent by its key."""
        created_at = Decimal(clock.now_ms()) / 1000
        expires_at = created_at + settings.PERMIT_TTL_SEC
        raw = self._signer.seal(payloads.body(self._answer(plan, finding, created_at, expires_at)))
        keys, plan_id = settings.KEYS, plan.plan_id
        own = keys.governor_permit(plan_id) if self.gate == payloads.GOVERNOR else keys.p33_permit(plan_id)
        status, detail = _ISSUE(
            self._client,
            keys=(own, keys.pair(plan_id), keys.receipt(plan_id), keys.wake(plan_id)),
            args=(
                self.gate,
                plan.digest,
                raw,
                int(expires_at * 1000),
                int(not finding.verdict),
                PAIR_LIFE_MS,
            ),
        )
        if status == 0:
            return NotIssued(reason=detail.decode())
        return Issued(raw=raw, fresh=True) if status == 1 else Issued(raw=detail, fresh=False)

    def _answer(
        self, plan: ExitPlan, finding: Finding, created_at: Decimal, expires_at: Decimal
    ) -> payloads.Answer:
        return payloads.Answer(
            gate=self.gate,
            plan_id=plan.plan_id,
            symbol=plan.symbol,
            digest=plan.digest,
            mode=settings.APPLY_MODE,
            account=settings.ACCOUNT,
            issuer=self._issuer,
            verdict=finding.verdict,
            reason=finding.reason,
            created_at=created_at,
            expires_at=expires_at,
            quantity=finding.quantity,
            exchange_amt=finding.exchange_amt,
            ledger_amt=finding.ledger_amt,
            observed_at=finding.observed_at,
            context=finding.context,
        )
