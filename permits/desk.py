"""The permit desk: the only writer of permit keys and permit rows."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from django.conf import settings
from django.db import models

from permits import payloads
from permits.reserved import Reservation
from quantum import clock
from quantum.plan import ExitPlan
from quantum.redis import Client, Script
from quantum.signing import Signer

PAIR_LIFE_MS = 300_000
USAGE_CHANGED = "usage_changed"

_ISSUE = Script(Path(__file__).parent / "lua" / "issue-5.lua")


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
    notional: Decimal = Decimal(0)
    usage_version: str | None = None
    """A grant that names it reserves its size, if no other reservation came since that version."""
    beside: tuple[models.Model, ...] = ()
    """Rows that are written with the permit's."""


def _reserved(plan: ExitPlan, finding: Finding, created_at: Decimal, expires_at: Decimal) -> str:
    if not finding.verdict or finding.usage_version is None:
        return ""
    life_ms = (int(created_at * 1000), int(expires_at * 1000))
    return Reservation(plan.plan_id, plan.symbol, finding.quantity, finding.notional, *life_ms).text()


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
            keys=(
                own,
                keys.pair(plan_id),
                keys.receipt(plan_id),
                keys.wake(plan_id),
                keys.reserved(self.gate),
            ),
            args=(
                self.gate,
                plan.digest,
                raw,
                int(expires_at * 1000),
                int(not finding.verdict),
                PAIR_LIFE_MS,
                _reserved(plan, finding, created_at, expires_at),
                plan_id,
                finding.usage_version or "",
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
            notional=finding.notional,
            exchange_amt=finding.exchange_amt,
            ledger_amt=finding.ledger_amt,
            observed_at=finding.observed_at,
            context=finding.context,
        )
