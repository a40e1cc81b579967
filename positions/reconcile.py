"""What a person sees of exchange and ledger, and the one way to bring them together. Never trades (I16).

No exchange key is needed here: p33 is asked for a fresh read, and the answer is its snapshots. What a person decides
is bound to what he saw, by the version of the balance and the moment of the exchange's amount.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from django.conf import settings
from django.db import transaction

from permits.models import Hold
from permits.state import freezing
from positions import difference, incidents, ledger
from positions.difference import Difference
from positions.feed import READ_ALL
from positions.ledger import Correction
from positions.models import Balance, Incident, LedgerEntry, SymbolLock
from quantum import amounts, clock
from quantum.fault import fault_point
from quantum.redis import Client

ASK_AGAIN_S = 0.5
STEP_S = 0.02
WAKE_LIFE_S = 10
_FIELDS = ("position_amt", "ts_epoch", "seen_epoch", "lot_step")


class Unreadable(Exception):
    """No fresh answer of the exchange came. Never the same as flat (I12)."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    amount: Decimal
    asked_ms: int
    seen_s: Decimal
    lot_step: Decimal


@dataclass(frozen=True, slots=True)
class Line:
    """One symbol as it stands. ledger and version None: never entered."""

    symbol: str
    exchange: Decimal
    asked_ms: int
    age_s: Decimal
    ledger: Decimal | None
    version: int | None
    tolerance: Decimal
    difference: Difference | None
    incidents: Sequence[Incident]
    hold: Hold | None
    locked_by: str


@dataclass(frozen=True, slots=True)
class Brought:
    """What came of it, per symbol."""

    entries: Sequence[LedgerEntry]
    resolved: Sequence[Incident]
    lifted: Sequence[Hold]


def symbols() -> set[str]:
    """Those with a ledger, and those that may be executed."""
    known = Balance.objects.filter(account=settings.ACCOUNT).values_list("symbol", flat=True)
    return {*known, *settings.APPLY_ALLOWLIST}


def look(client: Client, *, names: Sequence[str], within_s: float) -> list[Line]:
    """Asks p33 for a read that begins now, and waits for it. Raises Unreadable, RedisError, DatabaseError."""
    asked_s = Decimal(clock.now_ms()) / 1000
    end, again = clock.boot_s() + within_s, clock.boot_s()
    while clock.boot_s() < end:
        if clock.boot_s() >= again:  # a wake may be swept up with others
            client.rpush(settings.KEYS.feed_wake, READ_ALL)
            client.expire(settings.KEYS.feed_wake, WAKE_LIFE_S)
            again = clock.boot_s() + ASK_AGAIN_S
        found = _snapshots(client, names)
        if all(snapshot is not None and snapshot.seen_s >= asked_s for snapshot in found.values()):
            return [_line(name, snapshot) for name, snapshot in found.items() if snapshot]
        clock.sleep_s(STEP_S)
    raise Unreadable(f"p33 gave no fresh read of the exchange within {within_s:.0f} s")


def _snapshots(client: Client, names: Sequence[str]) -> dict[str, Snapshot | None]:
    pipeline = client.pipeline(transaction=False)
    for name in names:
        pipeline.hmget(settings.KEYS.snapshot(name), _FIELDS)
    return {name: _read(found) for name, found in zip(names, pipeline.execute(), strict=True)}


def _read(found: Sequence[bytes | None]) -> Snapshot | None:
    """Anybody who reaches Redis may write there: what is no plain number is no snapshot."""
    values = [amounts.parse((raw or b"").decode(errors="replace")) for raw in found]
    amount, asked_s, seen_s, lot_step = values
    if amount is None or asked_s is None or seen_s is None or lot_step is None or lot_step < 0:
        return None
    return Snapshot(amount=amount, asked_ms=int(asked_s * 1000), seen_s=seen_s, lot_step=lot_step)


def _line(symbol: str, snapshot: Snapshot) -> Line:
    balance = Balance.objects.filter(account=settings.ACCOUNT, symbol=symbol).first()
    lock = SymbolLock.objects.filter(account=settings.ACCOUNT, symbol=symbol).first()
    pct = settings.P33_QTY_TOLERANCE_PCT
    return Line(
        symbol=symbol,
        exchange=snapshot.amount,
        asked_ms=snapshot.asked_ms,
        age_s=max(Decimal(0), Decimal(clock.now_ms()) / 1000 - snapshot.seen_s),
        ledger=balance.amount if balance else None,
        version=balance.version if balance else None,
        tolerance=difference.tolerance_of(snapshot.amount, lot_step=snapshot.lot_step, tolerance_pct=pct),
        difference=difference.between(
            exchange=snapshot.amount,
            ledger=balance.amount if balance else None,
            lot_step=snapshot.lot_step,
            tolerance_pct=pct,
        ),
        incidents=list(incidents.standing(symbol)),
        hold=Hold.objects.filter(symbol=symbol, lifted_at=None).first(),
        locked_by=lock.plan_id if lock else "",
    )


def adopt(lines: Sequence[Line], *, by: str, reason: str) -> Brought:
    """The exchange's amount becomes the ledger's, for all of these or for none. Raises LedgerChanged."""
    kind, how = LedgerEntry.Kind.ADOPTED, Incident.How.ADOPTED
    return _bring(
        [_correction(line, line.exchange, kind=kind, by=by, reason=reason) for line in lines], how=how
    )


def correct(line: Line, *, to: Decimal, by: str, reason: str) -> Brought:
    """An amount that a person typed. One that still differs from the exchange's ends no incident and lifts no
    hold. Raises LedgerChanged."""
    kind, how = LedgerEntry.Kind.CORRECTION, Incident.How.CORRECTED
    wanted = _correction(line, to, kind=kind, by=by, reason=reason)
    return _bring([wanted], how=how, agreed=agrees(line, to))


def agrees(line: Line, amount: Decimal) -> bool:
    """The rule of difference.between, for the exchange's amount and tolerance that are shown."""
    return line.exchange * amount >= 0 and abs(line.exchange - amount) <= line.tolerance


def _correction(line: Line, to: Decimal, *, kind: LedgerEntry.Kind, by: str, reason: str) -> Correction:
    return Correction(
        symbol=line.symbol,
        to=to,
        seen_version=line.version,
        as_of_ms=line.asked_ms,
        kind=kind,
        by=by,
        reason=reason,
    )


def _bring(wanted: Sequence[Correction], *, how: Incident.How, agreed: bool = True) -> Brought:
    entries: list[LedgerEntry] = []
    resolved: list[Incident] = []
    lifted: list[Hold] = []
    with transaction.atomic():
        for each in wanted:
            entries.append(ledger.correct(each))
            fault_point("ledger_corrected")
            if not agreed:
                continue
            ended, holds = incidents.resolve(symbol=each.symbol, by=each.by, how=how, reason=each.reason)
            resolved += ended
            lifted += holds
        fault_point("incidents_resolved")
    incidents.tell_resolved(resolved, how=how)
    return Brought(entries=entries, resolved=resolved, lifted=lifted)


def project(client: Client, brought: Brought) -> None:
    """Remove the keys of lifted holds at once; where Redis cannot be reached apply does it. Raises RedisError."""
    for hold in brought.lifted:
        freezing.drop(client, hold.symbol, freezing.written(hold))
    client.rpush(settings.KEYS.feed_wake, READ_ALL)  # the ledger's copies are p33's to write
    client.expire(settings.KEYS.feed_wake, WAKE_LIFE_S)
