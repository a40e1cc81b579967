"""The sweep: when a difference becomes an incident, and when an incident has ended by itself.

Two numbers are compared only when they can be: not while an order of ours is in flight, not where the ledger moved
after the positions were asked for. A difference must then outlast a further read, unchanged: a fill on its way
is no incident. The lock is read before the fills, so a fill of ours that is still unbooked then is not ours.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal

from django.conf import settings
from django.db import transaction
from msgspec import Struct

from positions.books import ledger
from positions.drift import at_start, incidents
from positions.judging import difference
from positions.judging.difference import Cause, Difference, Origin
from positions.models import Balance, Fill, Incident, LedgerEntry, SymbolLock
from quantum import amounts, clock
from quantum.exchange.types import PositionsRead, SymbolRules

EVERY_S = 1.0
GRACE_S = 1.0
LOOK_AGAIN_S = 30.0
EVIDENCE_MAX = 50


class _Suspicion(Struct, frozen=True):
    drift: Decimal
    first_boot_s: float
    """When some difference was first seen here."""
    since_boot_s: float
    """When it became the one it is."""
    asked_ms: int


class Sweep:
    """Called by the feed after each read. Its memory is only the grace: a restart begins it anew."""

    def __init__(self) -> None:
        self._suspicions: dict[str, _Suspicion] = {}
        self._swept_boot_s = -EVERY_S
        self._explained_boot_s: dict[str, float] = {}
        self._from_start: set[str] | None = None
        """Differences that stood at the first look already, and since. None: nothing was looked at yet."""
        self.troubled: set[str] = set()
        """With an open incident. Their trades are fetched even where the amounts agree again: a trade that undid
        the drift belongs to this incident, and must not explain the next."""

    @property
    def suspects(self) -> bool:
        """A difference waits for a further read: do not let it wait for the heartbeat."""
        return bool(self._suspicions)

    def look(
        self, read: PositionsRead, rules: Mapping[str, SymbolRules], *, unread: Collection[str] = ()
    ) -> None:
        """unread: their trades could not be fetched, so what they did to the ledger is not known."""
        if clock.boot_s() - self._swept_boot_s < EVERY_S:
            return
        self._swept_boot_s = clock.boot_s()
        differing = _differing(read, rules) | dict.fromkeys(unread)
        fetched, troubled = self.troubled, set(incidents.standing().values_list("symbol", flat=True))
        self.troubled = set(troubled)
        locked = _locked(differing.keys() | troubled)
        self._from_start = set(differing) & (set(differing) if self._from_start is None else self._from_start)
        self._suspicions = {
            symbol: self._suspicions[symbol]
            for symbol in self._suspicions.keys() & differing.keys() - locked - troubled
        }
        for symbol, found in differing.items():
            if found is not None and symbol not in locked:
                self._consider(symbol, found, read, known=symbol in troubled)
        for symbol in (troubled & fetched) - differing.keys() - locked:
            self._end(symbol)

    def _consider(self, symbol: str, found: Difference, read: PositionsRead, *, known: bool) -> None:
        """known: it has an incident; at most every 30 s look whether it has another cause as well."""
        if known:
            if clock.boot_s() - self._explained_boot_s.get(symbol, 0.0) >= LOOK_AGAIN_S:
                self._open(symbol, found, read, known=True)
            return
        drift = found.exchange - (found.ledger or 0)
        now_s, before = clock.boot_s(), self._suspicions.get(symbol)
        if before is None:
            self._suspicions[symbol] = _Suspicion(drift, now_s, now_s, read.asked_ms)
        elif before.drift != drift and now_s - before.first_boot_s < LOOK_AGAIN_S:
            self._suspicions[symbol] = _Suspicion(drift, before.first_boot_s, now_s, read.asked_ms)
        elif now_s - before.since_boot_s >= GRACE_S and read.asked_ms > before.asked_ms:
            del self._suspicions[symbol]
            self._open(symbol, found, read, known=False)

    def _open(self, symbol: str, found: Difference, read: PositionsRead, *, known: bool) -> None:
        fills = _unbooked(symbol)
        cause = difference.probable_cause(
            found.kind, [fill.client_order_id for fill in fills], sources=settings.LEDGER_SOURCES
        )
        from_start = symbol in (self._from_start or ())
        if not known and from_start and at_start.adopts(symbol, found, read, cause=cause):
            return
        self._explained_boot_s[symbol] = clock.boot_s()
        self.troubled.add(symbol)
        if known and cause is Cause.UNEXPLAINED:
            return
        incidents.begin(symbol=symbol, found=found, cause=cause, evidence=[_told(fill) for fill in fills])

    def _end(self, symbol: str) -> None:
        how = Incident.How.ENDED
        with transaction.atomic():
            ended, _ = incidents.resolve(
                symbol=symbol, by=incidents.ACTOR, how=how, reason="ledger and exchange agree again"
            )
        incidents.tell_resolved(ended, how=how)


def _differing(read: PositionsRead, rules: Mapping[str, SymbolRules]) -> dict[str, Difference | None]:
    """Symbols that do not agree. None: the two numbers cannot be compared, which ends and opens nothing."""
    found: dict[str, Difference | None] = {}
    balances = {row.symbol: row for row in Balance.objects.filter(account=settings.ACCOUNT)}
    for symbol in {*balances, *_to_be_entered()}:
        balance, rule = balances.get(symbol), rules.get(symbol)
        if balance is not None and ledger.moved_since(balance, read.asked_ms):
            found[symbol] = None
            continue
        differs = difference.between(
            exchange=read.amount(symbol),
            ledger=balance.amount if balance else None,
            lot_step=rule.lot_step if rule else Decimal(0),  # delisted: it may have been settled
            tolerance_pct=settings.P33_QTY_TOLERANCE_PCT,
        )
        if differs is not None:
            found[symbol] = differs
    return found


def _to_be_entered() -> Iterable[str]:
    """Paper mode adopts by itself; elsewhere a person does, for every symbol that may be executed."""
    return () if settings.APPLY_MODE == "paper" else settings.APPLY_ALLOWLIST


def _locked(symbols: Iterable[str]) -> set[str]:
    """An order in flight, or of unknown fate: what it will do to the position nobody knows yet."""
    asked = list(symbols)
    if not asked:
        return set()
    rows = SymbolLock.objects.filter(account=settings.ACCOUNT, symbol__in=asked)
    return set(rows.values_list("symbol", flat=True))


def _unbooked(symbol: str) -> list[Fill]:
    """What moved the position and not the ledger since both were last brought together."""
    mine = {"account": settings.ACCOUNT, "symbol": symbol}
    kinds = (LedgerEntry.Kind.ADOPTED, LedgerEntry.Kind.CORRECTION)
    marks = [
        *LedgerEntry.objects.filter(**mine, kind__in=kinds).values_list("recorded_at", flat=True)[:1],
        *Incident.objects.filter(**mine, state=Incident.State.RESOLVED)
        .order_by("-resolved_at")
        .values_list("resolved_at", flat=True)[:1],
    ]
    rows = Fill.objects.filter(**mine, booked=False)
    if marks:
        rows = rows.filter(recorded_at__gt=max(mark for mark in marks if mark))
    newest = rows.order_by("-id")[:EVIDENCE_MAX]
    sources = settings.LEDGER_SOURCES
    return [
        fill
        for fill in newest
        if difference.origin(fill.client_order_id, sources=sources) is not Origin.DECLARED
    ]


def _told(fill: Fill) -> dict[str, str]:
    return {
        "trade_id": str(fill.trade_id),
        "client_order_id": fill.client_order_id,
        "side": fill.side,
        "quantity": amounts.plain(fill.quantity),
        "at": fill.at.isoformat(),
    }
