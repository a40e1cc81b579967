"""Bookings of the account: funding that was paid, and trades that nothing else has shown.

A position tells a trade only by having moved. Two that cancel each other out while nobody listens leave it as it was;
their profit and commission are booked all the same. One call tells the bookings of all symbols. It is no part of the
way of a plan: the feed looks after a beat, and gives way to whatever needs the weight sooner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from django.conf import settings
from django.db import transaction

from positions.models import Balance, BookingsRead, Fill, Funding, LedgerEntry
from quantum import clock
from quantum.exchange.reading import Reader, ReadFailed
from quantum.exchange.types import Income
from quantum.log import log

FUNDING = "FUNDING_FEE"
"""The word of bookings, and of the account update that comes with them."""
OF_TRADES = frozenset({"REALIZED_PNL", "COMMISSION"})
EVERY_S = 600.0
AFTERWARDS_S = 60.0
"""What was wanted is asked for once more then: a booking may come after its event."""
APART_S = 10.0
"""A stream that breaks again and again must not spend the weight."""
RETRY_S = 30.0
OVERLAP_MS = 15 * 60_000
DAY_MS = 24 * 3600 * 1000
KEPT_MS = 88 * DAY_MS
"""The reader refuses what is older than 89 days."""
WHOLE_SECOND_MS = 1000


class Bookings:
    def __init__(self, *, reader: Reader, missed: Callable[[str], None]) -> None:
        """missed: told a symbol with a trade that is booked at the exchange and not stored here."""
        self._reader = reader
        self._missed = missed
        self._wanted = True
        self._asked_boot_s: float | None = None
        self._due_boot_s = 0.0
        self._readable = True

    def want(self) -> None:
        """By the ear: soon, not at the next round."""
        self._wanted = True

    def look(self) -> None:
        """In the feed's thread, after a beat and under no lock. A read that fails changes nothing."""
        if not self._is_due() or self._reader.sweeps_wait_until_ms() is not None:
            return
        self._asked_boot_s = now_s = clock.boot_s()
        self._due_boot_s, pause_s = now_s + RETRY_S, AFTERWARDS_S if self._wanted else EVERY_S
        self._wanted = False  # before the read: what is wanted while it runs is wanted of the next
        try:
            self._take()
        except ReadFailed as failed:
            if self._readable:
                log.warning("bookings cannot be read", error=str(failed))
            self._readable = False
            return
        self._due_boot_s = now_s + pause_s

    def _is_due(self) -> bool:
        now_s, asked_s = clock.boot_s(), self._asked_boot_s
        if self._wanted:
            return asked_s is None or now_s - asked_s >= APART_S
        return now_s >= self._due_boot_s

    def _take(self) -> None:
        """Raises ReadFailed. What is missing is told when the mark is durable; the mark stays before it."""
        asked_ms = self._reader.now_ms()
        rows = self._reader.income(_since_ms(asked_ms))
        if not self._readable:
            log.info("bookings can be read again")
        self._readable = True
        missing = _missing(rows)
        until_ms = max(min([asked_ms, *missing.values()]), asked_ms - DAY_MS)
        with transaction.atomic():
            _keep(row for row in rows if row.kind == FUNDING)
            BookingsRead.objects.update_or_create(account=settings.ACCOUNT, defaults={"until_ms": until_ms})
        for symbol, first_ms in missing.items():
            log.info("a trade is booked that was not seen", symbol=symbol, since_ms=first_ms)
            # The trades were read past it already, where the exchange showed them late.
            later = Balance.objects.filter(account=settings.ACCOUNT, symbol=symbol)
            later.filter(trades_from_ms__gt=first_ms).update(trades_from_ms=first_ms)
            self._missed(symbol)


def _since_ms(now_ms: int) -> int:
    """Bookings may be shown late: an overlap costs nothing, since each is kept once."""
    mark = BookingsRead.objects.filter(account=settings.ACCOUNT).first()
    if mark is None:
        return now_ms - DAY_MS
    since_ms = min(mark.until_ms, now_ms) - OVERLAP_MS
    if since_ms < now_ms - KEPT_MS:
        log.warning("bookings before the exchange's memory are lost", since_ms=since_ms)
    return max(since_ms, now_ms - KEPT_MS)


def _keep(rows: Iterable[Income]) -> None:
    """A booking that is told again is one row."""
    made = [
        Funding(
            account=settings.ACCOUNT,
            symbol=row.symbol,
            amount=row.amount,
            asset=row.asset,
            transaction_id=row.transaction_id,
            at=clock.from_ms(row.time_ms),
        )
        for row in rows
    ]
    Funding.objects.bulk_create(made, ignore_conflicts=True)


def _missing(rows: Iterable[Income]) -> dict[str, int]:
    """Symbol -> time of the first trade that is booked and not stored. A symbol without a ledger has none."""
    booked: dict[str, dict[int, int]] = {}
    for row in rows:
        if row.kind in OF_TRADES and row.symbol and row.trade_id is not None:
            booked.setdefault(row.symbol, {})[row.trade_id] = row.time_ms
    found = {}
    for symbol, times in booked.items():
        mine = {"account": settings.ACCOUNT, "symbol": symbol}
        stored = Fill.objects.filter(**mine, trade_id__gte=min(times), trade_id__lte=max(times))
        unseen = times.keys() - set(stored.values_list("trade_id", flat=True))
        entered = (
            LedgerEntry.objects.filter(**mine).order_by("recorded_at").values_list("at", flat=True).first()
        )
        since = [times[trade_id] for trade_id in unseen]
        if entered is None:
            continue
        entered_ms = round(entered.timestamp() * 1000)
        later = [max(at_ms, entered_ms) for at_ms in since if not _is_before(at_ms, entered_ms)]
        if later:
            found[symbol] = min(later)
    return found


def _is_before(at_ms: int, entered_ms: int) -> bool:
    """Then it is inside the amount that was adopted. Bookings are often stamped with the second alone."""
    return at_ms + (0 if at_ms % WHOLE_SECOND_MS else WHOLE_SECOND_MS - 1) < entered_ms
