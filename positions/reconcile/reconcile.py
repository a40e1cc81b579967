"""What a person sees of exchange and ledger, and the one way to bring them together. Never trades (I16).

No exchange key is needed here: p33 is asked for a fresh read, and the answer is its snapshots. What a person decides
is bound to what he saw, by the version of the balance and the moment of the exchange's amount.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from enum import StrEnum

from django.conf import settings
from django.db import transaction
from msgspec import Struct

from permits.models import Hold
from permits.state import freezing
from positions.books import ledger
from positions.books.ledger import Correction, LedgerChanged
from positions.drift import incidents
from positions.feed.feed import READ_ALL
from positions.judging import difference
from positions.judging.difference import Difference
from positions.models import Balance, Incident, LedgerEntry, SymbolLock
from quantum import amounts, clock
from quantum.fault import fault_point
from quantum.redis import Client

ASK_AGAIN_S = 0.5
STEP_S = 0.02
WAKE_LIFE_S = 10
FRESH_S = 5
"""So long a person may think about what he was shown before it is read again for him."""
LONG_LOCK_S = 30
"""An order of ours is settled within seconds; past this somebody should look what became of it."""
EPOCH_S_MAX = 10**11
_FIELDS = ("position_amt", "ts_epoch", "seen_epoch", "lot_step", "mark_price")


class Unreadable(Exception):
    """No fresh answer of the exchange came. Never the same as flat (I12)."""


class State(StrEnum):
    """Whether both sides agree. How well the feed is, is another question."""

    MATCH = "match"
    DRIFT = "drift"
    STALE = "stale"
    UNKNOWN = "unknown"
    IN_FLIGHT = "in_flight"


class Snapshot(Struct, frozen=True):
    amount: Decimal
    asked_ms: int
    seen_s: Decimal
    lot_step: Decimal
    mark_price: Decimal | None


class Seen(Struct, frozen=True):
    """What a person had before him, as far as his decision stands on it."""

    symbol: str
    exchange: Decimal
    version: int | None


class Line(Struct, frozen=True):
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
    locked_s: Decimal = Decimal(0)
    moved: bool = False
    """The ledger moved after the exchange was asked: the two are of two moments."""
    mark_price: Decimal | None = None
    seen_s: Decimal = Decimal(0)
    """When p33 asked for this read."""

    @property
    def state(self) -> State:
        if abs(self.age_s) > settings.P33_STALE_THRESHOLD_SEC:
            return State.STALE
        if self.locked_by:
            return State.IN_FLIGHT
        if self.moved:
            return State.UNKNOWN
        return State.MATCH if self.difference is None else State.DRIFT

    @property
    def seen(self) -> Seen:
        return Seen(symbol=self.symbol, exchange=self.exchange, version=self.version)


class Record(Struct, frozen=True):
    """Our own side of a symbol."""

    symbol: str
    balance: Balance | None
    lock: SymbolLock | None
    incidents: Sequence[Incident]
    hold: Hold | None

    @property
    def locked_s(self) -> Decimal:
        return Decimal(str((clock.now() - self.lock.since).total_seconds())) if self.lock else Decimal(0)


class Brought(Struct, frozen=True):
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
            ours = records(names)
            return [_line(ours[name], snapshot) for name, snapshot in found.items() if snapshot]
        clock.sleep_s(STEP_S)
    raise Unreadable(f"p33 gave no fresh read of the exchange within {within_s:.0f} s")


def look_again(client: Client, *, seen: Sequence[Seen], within_s: float) -> list[Line]:
    """A fresh read of what was shown. Raises LedgerChanged where a number is not the one any more that the person
    decided on; else like look."""
    lines = look(client, names=[each.symbol for each in seen], within_s=within_s)
    for before, line in zip(seen, lines, strict=True):
        if line.exchange != before.exchange:
            raise LedgerChanged(
                f"{line.symbol}: the exchange holds {amounts.plain(line.exchange)} now, "
                f"{amounts.plain(before.exchange)} was shown. Look again, then decide."
            )
        if line.version != before.version:
            raise LedgerChanged(f"{line.symbol}: the ledger moved meanwhile. Look again, then decide.")
    return lines


def stand(client: Client, *, names: Sequence[str]) -> dict[str, Line | None]:
    """As p33 left it last; nobody is asked. None: there is no snapshot. The numbers alone, without holds and incidents,
    which no number depends on. Raises RedisError, DatabaseError."""
    # The exchange first: the fill of a moment in between would look like a ledger that missed it.
    found = _snapshots(client, names)
    balances, locks = _numbers(names)
    return {
        name: _line(Record(name, balances.get(name), locks.get(name), (), None), snapshot)
        if snapshot
        else None
        for name, snapshot in found.items()
    }


def stand_recorded(client: Client, *, names: Sequence[str]) -> list[tuple[Record, Line | None]]:
    """The same with all that we recorded of each symbol."""
    found = _snapshots(client, names)  # first, as above
    ours = records(names)
    return [
        (ours[name], _line(ours[name], snapshot) if snapshot else None) for name, snapshot in found.items()
    ]


def records(names: Sequence[str]) -> dict[str, Record]:
    """Four questions, however many symbols."""
    balances, locks = _numbers(names)
    holds = {row.symbol: row for row in Hold.objects.filter(symbol__in=names, lifted_at=None)}
    opened: dict[str, list[Incident]] = {}
    for incident in incidents.standing().filter(symbol__in=names):
        opened.setdefault(incident.symbol, []).append(incident)
    return {
        name: Record(name, balances.get(name), locks.get(name), opened.get(name, []), holds.get(name))
        for name in names
    }


def _numbers(names: Sequence[str]) -> tuple[dict[str, Balance], dict[str, SymbolLock]]:
    mine = {"account": settings.ACCOUNT, "symbol__in": names}
    balances = {row.symbol: row for row in Balance.objects.filter(**mine)}
    return balances, {row.symbol: row for row in SymbolLock.objects.filter(**mine)}


def _snapshots(client: Client, names: Sequence[str]) -> dict[str, Snapshot | None]:
    pipeline = client.pipeline(transaction=False)
    for name in names:
        pipeline.hmget(settings.KEYS.snapshot(name), _FIELDS)
    return {name: _read(found) for name, found in zip(names, pipeline.execute(), strict=True)}


def _read(found: Sequence[bytes | None]) -> Snapshot | None:
    """Anybody who reaches Redis may write there: what is no plain number is no snapshot."""
    values = [amounts.parse((raw or b"").decode(errors="replace")) for raw in found]
    amount, asked_s, seen_s, lot_step, mark_price = values
    if amount is None or asked_s is None or seen_s is None or lot_step is None or lot_step < 0:
        return None
    if not (0 <= asked_s <= EPOCH_S_MAX and 0 <= seen_s <= EPOCH_S_MAX):  # no moment of any calendar
        return None
    return Snapshot(
        amount=amount,
        asked_ms=int(asked_s * 1000),
        seen_s=seen_s,
        lot_step=lot_step,
        mark_price=mark_price if mark_price is not None and mark_price > 0 else None,
    )


def _line(ours: Record, snapshot: Snapshot) -> Line:
    balance, pct = ours.balance, settings.P33_QTY_TOLERANCE_PCT
    return Line(
        symbol=ours.symbol,
        exchange=snapshot.amount,
        asked_ms=snapshot.asked_ms,
        age_s=Decimal(clock.now_ms()) / 1000 - snapshot.seen_s,
        ledger=balance.amount if balance else None,
        version=balance.version if balance else None,
        tolerance=difference.tolerance_of(snapshot.amount, lot_step=snapshot.lot_step, tolerance_pct=pct),
        difference=difference.between(
            exchange=snapshot.amount,
            ledger=balance.amount if balance else None,
            lot_step=snapshot.lot_step,
            tolerance_pct=pct,
        ),
        incidents=ours.incidents,
        hold=ours.hold,
        locked_by=ours.lock.plan_id if ours.lock else "",
        locked_s=ours.locked_s,
        moved=balance is not None and ledger.moved_since(balance, snapshot.asked_ms),
        mark_price=snapshot.mark_price,
        seen_s=snapshot.seen_s,
    )


def _nothing() -> None:
    pass


def adopt(lines: Sequence[Line], *, by: str, reason: str, first: Callable[[], None] = _nothing) -> Brought:
    """The exchange's amount becomes the ledger's, for all of these or for none. Raises LedgerChanged.
    first: done in the same transaction, before anything moves."""
    kind, how = LedgerEntry.Kind.ADOPTED, Incident.How.ADOPTED
    wanted = [_correction(line, line.exchange, kind=kind, by=by, reason=reason) for line in lines]
    return _bring(wanted, how=how, first=first)


def correct(
    line: Line, *, to: Decimal, by: str, reason: str, first: Callable[[], None] = _nothing
) -> Brought:
    """An amount that a person typed. One that still differs from the exchange's ends no incident and lifts no
    hold. Raises LedgerChanged."""
    kind, how = LedgerEntry.Kind.CORRECTION, Incident.How.CORRECTED
    wanted = _correction(line, to, kind=kind, by=by, reason=reason)
    return _bring([wanted], how=how, first=first, agreed=agrees(line, to))


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


def _bring(
    wanted: Sequence[Correction], *, how: Incident.How, first: Callable[[], None], agreed: bool = True
) -> Brought:
    entries: list[LedgerEntry] = []
    resolved: list[Incident] = []
    lifted: list[Hold] = []
    with transaction.atomic():
        first()
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
