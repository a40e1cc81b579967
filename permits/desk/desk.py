"""The permit desk: the only writer of permit keys and permit rows."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from django.conf import settings
from msgspec import Struct

from permits.desk import payloads, records
from permits.desk.peek import Peek, peek
from permits.desk.reserved import Reservation
from permits.models import Permit
from quantum import clock
from quantum.fault import fault_point
from quantum.plan import ExitPlan
from quantum.redis import Client, Script
from quantum.signing import Signer

PAIR_LIFE_MS = 300_000
INPUTS_CHANGED = "inputs_changed"

_ISSUE = Script(Path(__file__).parent / "lua" / "issue-5.lua")
_REVOKE = Script(Path(__file__).parent / "lua" / "revoke-4.lua")


class Issued(Struct, frozen=True):
    """The bytes that stand in Redis now; fresh is False when an earlier permit was kept."""

    raw: bytes
    fresh: bool
    said: payloads.Answer | None = None
    """What fresh ones were made of."""


class NotIssued(Struct, frozen=True):
    reason: str


class Finding(Struct, frozen=True):
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
    position: bytes = b""
    """As the snapshot told it: not written if another one stands there by now."""
    beside: tuple[records.Beside, ...] = ()
    """Rows that are written with the permit's, and what makes such rows when the recorder comes to it."""
    hold_id: int | None = None
    """Of an operator's permit: the one hold that it passes."""


def _reserved(plan: ExitPlan, finding: Finding, created_at: Decimal, expires_at: Decimal) -> str:
    if not finding.verdict or finding.usage_version is None:
        return ""
    life_ms = (int(created_at * 1000), int(expires_at * 1000))
    return Reservation(plan.plan_id, plan.symbol, finding.quantity, finding.notional, *life_ms).text()


class Desk:
    """One gate's counter: holds that gate's key and nothing else."""

    def __init__(self, *, gate: str, signer: Signer, client: Client, issuer: str = "") -> None:
        self.gate = gate
        self._signer = signer
        self._client = client
        self._issuer = issuer or f"{gate}@{settings.ACCOUNT}"

    def issue(self, plan: ExitPlan, finding: Finding) -> Issued | NotIssued:
        """Sign and write. Asking twice leaves the first permit standing: idempotent by its key."""
        created_at = Decimal(clock.now_ms()) / 1000
        expires_at = created_at + settings.PERMIT_TTL_SEC
        answer = self._answer(plan, finding, created_at, expires_at)
        raw = self._signer.seal(payloads.body(answer))
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
                finding.position,
                keys.snapshot(plan.symbol),
            ),
        )
        if status == 0:
            return NotIssued(reason=detail.decode())
        return Issued(raw, fresh=True, said=answer) if status == 1 else Issued(raw=detail, fresh=False)

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
            hold_id=finding.hold_id,
        )


# ---- taking back


class Revoked(Struct, frozen=True):
    """These can never be spent. The plan gets no further permit of any gate: propose again."""

    gates: tuple[str, ...]
    at_ms: int


class NotRevoked(Struct, frozen=True):
    """`already_consumed` with the time, `missing`, or `changed` since it was looked at. Nothing was done."""

    reason: str
    spent_at_ms: int = 0
    now_ms: int = 0


def revoke(
    client: Client, *, plan_id: str, gates: tuple[str, ...], by: str, reason: str, seen: str = ""
) -> Revoked | NotRevoked:
    """Asked first in the database, done in Redis in one step, recorded after it.

    A death after the question leaves it in the history with who and why; a death after the step leaves no
    permit, and the sweep ends its row as revoked. Asking again after an answer was lost completes it.
    `seen` is the mark of a look (Peek.seen): what has changed since is not revoked.
    """
    found = peek(client, plan_id)
    if seen and found.seen != seen:
        return NotRevoked("changed", now_ms=found.now_ms)
    chosen = [standing for standing in found.standing if standing.gate in gates]
    if not chosen and found.receipt is None:
        return _revoked_before(found, gates, by=by, reason=reason)
    raws = {standing.gate: standing.raw for standing in chosen}
    rows = _rows(plan_id, raws)
    records.record_asked(plan_id, rows, kind="permit_revoke", by=by, reason=reason)
    fault_point("revoke_asked")
    keys = settings.KEYS
    done, *rest = _REVOKE(
        client,
        keys=(
            keys.governor_permit(plan_id),
            keys.p33_permit(plan_id),
            keys.pair(plan_id),
            keys.receipt(plan_id),
        ),
        args=(raws.get(payloads.GOVERNOR, b""), raws.get(payloads.P33, b""), PAIR_LIFE_MS),
    )
    fault_point("permit_revoked")
    if done == 0:
        why, spent_at_ms, now_ms = rest
        records.record_not_revoked(plan_id, rows, by=by, reason=reason, why=why.decode())
        return NotRevoked(why.decode(), spent_at_ms, now_ms)
    records.record_revoked(plan_id, rows, by=by, reason=reason)
    return Revoked(gates=tuple(raws), at_ms=rest[0])


def _revoked_before(found: Peek, gates: tuple[str, ...], *, by: str, reason: str) -> Revoked | NotRevoked:
    """Nothing stands. Either it was never there or ran out, or an answer was lost and this completes it."""
    if not found.revoked:
        return NotRevoked("missing", now_ms=found.now_ms)
    rows = list(Permit.objects.filter(plan_id=found.plan_id, gate__in=gates, fate=Permit.Fate.LIVE))
    if rows:
        records.record_revoked(found.plan_id, rows, by=by, reason=reason)
    return Revoked(gates=tuple(row.gate for row in rows), at_ms=found.now_ms)


def _rows(plan_id: str, raws: dict[str, bytes]) -> list[Permit]:
    """Bytes that are no permit have no row; that they were taken away stands in the audit."""
    rows = []
    for gate, raw in raws.items():
        try:
            rows.append(records.row_of(raw, gate=gate, plan_id=plan_id, fate=Permit.Fate.LIVE))
        except payloads.Malformed:
            continue
    return rows
