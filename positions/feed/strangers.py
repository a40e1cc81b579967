"""Trades that are not ours: of the user's own entry bots, by hand, or by the exchange itself.

They come by the stream, each with its order's client id, or by REST, where the order must be asked for it. Both ways
end in the same rows: a trade is stored once and moves the ledger once (I11). Exits of ours are apply's to book.
"""

from __future__ import annotations

import threading

from django.conf import settings
from django.db import transaction
from django.db.models import F
from msgspec.structs import replace

from positions.books import ledger
from positions.books.ledger import SeenTrade
from positions.drift.sweep import LOOK_AGAIN_S
from positions.judging.difference import Origin
from positions.models import Balance, Fill, LedgerEntry
from quantum import clock
from quantum.exchange.inbox import Gap
from quantum.exchange.reading import Reader, ReadFailed
from quantum.exchange.types import PositionsRead, Trade
from quantum.fault import fault_point
from quantum.log import log
from quantum.redis import Client

CLIENT_IDS_MAX = 10_000
ORDER_SHOWN_MS = 15_000
LAG_MS = 600_000


class Strangers:
    def __init__(self, *, reader: Reader, client: Client) -> None:
        self._reader = reader
        self._client = client
        self._client_ids: dict[tuple[str, int], str] = {}
        self._unread: dict[str, float] = {}
        """Symbols whose trades cannot be read, since when."""
        self._asked_s: dict[str, float] = {}
        self._guard = threading.Lock()
        self._gap: Gap | None = None
        self._missed: set[str] = set()
        self._lagging_due_s = 0.0

    def miss(self, what: Gap | str) -> None:
        """By the ear: the trades of this symbol, or of whatever moved in this gap, could not be told."""
        with self._guard:
            if isinstance(what, str):
                self._missed.add(what)
            else:
                since_ms = min(what.since_ms, self._gap.since_ms if self._gap else what.since_ms)
                self._gap = replace(what, since_ms=since_ms)

    def missed(self, read: PositionsRead) -> set[str]:
        """Whose trades are to be asked for. A gap is done with where the read came after its end; what it does not
        show moved (flat again by now) is found by its profit and commission (positions/income.py)."""
        with self._guard:
            gap = self._gap
            if gap is not None and gap.until_ms is not None and read.asked_ms >= gap.until_ms:
                moved = {name for name, each in read.positions.items() if each.updated_ms >= gap.since_ms}
                self._missed |= moved
                self._gap = None
            return set(self._missed)

    def catch_up_all(self, symbols: set[str], *, most: int | None = None) -> set[str]:
        """One symbol whose trades cannot be read must not keep the sweep from the others. The first failure ends
        the round, lest many of them delay the next read; who failed comes last in the next.

        Returns those that failed for less than half a minute: their fills may be on the way. And those beyond most,
        however long: they come first the next time.
        """
        mine = sorted(symbols, key=lambda symbol: (self._asked_s.get(symbol, 0.0), symbol))[:most]
        put_off, symbols = symbols - set(mine), set(mine)
        self._unread = {symbol: since_s for symbol, since_s in self._unread.items() if symbol in symbols}
        waiting = [*(each for each in mine if each not in self._unread), *self._unread]
        now_s = clock.boot_s()
        while waiting:
            symbol = waiting.pop(0)
            self._asked_s[symbol] = now_s
            since_s = self._unread.pop(symbol, None)
            try:
                self._catch_up_missed(symbol)
            except ReadFailed as failed:
                if since_s is None:
                    log.warning("trades cannot be read", symbol=symbol, error=str(failed))
                self._unread |= {each: self._unread.get(each, now_s) for each in waiting}
                self._unread[symbol] = now_s if since_s is None else since_s
                break
        unread = {symbol for symbol, since_s in self._unread.items() if now_s - since_s < LOOK_AGAIN_S}
        return unread | put_off

    def _catch_up_missed(self, symbol: str) -> None:
        """What the ear misses while this asks is asked for once more: the answer may not have it."""
        with self._guard:
            missed = symbol in self._missed
            self._missed.discard(symbol)
        done = False
        try:
            self.catch_up(symbol)
            done = True
        finally:
            if missed and not done:
                self.miss(symbol)

    def lagging(self) -> list[str]:
        """The one whose trades were told for the longest without being asked for, every half minute at most. Without
        this a first question after weeks would have to walk through all of them, and could spend the whole weight."""
        now_s = clock.boot_s()
        if now_s < self._lagging_due_s:
            return []
        self._lagging_due_s = now_s + LOOK_AGAIN_S
        mine = Balance.objects.filter(account=settings.ACCOUNT, moved_ms__gt=F("trades_from_ms") + LAG_MS)
        return list(mine.order_by("trades_from_ms").values_list("symbol", flat=True)[:1])

    def catch_up(self, symbol: str) -> None:
        """Store every trade since the watermark; book those of declared entry bots. Raises ReadFailed.

        The watermark is the feed's own: an exit booked by apply at a later time must not hide an
        entry that came before it. Trade ids make the overlap harmless.
        """
        balance = Balance.objects.filter(account=settings.ACCOUNT, symbol=symbol).first()
        if balance is None:
            return
        trades = self._reader.trades_since(symbol=symbol, since_ms=balance.trades_from_ms)
        if not trades:
            return
        known = _stored(symbol, [trade.trade_id for trade in trades])
        seen = [SeenTrade(trade, self._client_id(trade)) for trade in trades if trade.trade_id not in known]
        self._keep(symbol, seen, seen_until_ms=max(trade.time_ms for trade in trades))

    def told(self, seen: SeenTrade) -> bool:
        """One trade as the stream told it. False: its symbol was never entered; a read must look at it.

        It may come twice, or after REST has told it: stored and booked once. The watermark stays: only a read
        knows that there was none before.
        """
        symbol = seen.trade.symbol
        if not Balance.objects.filter(account=settings.ACCOUNT, symbol=symbol).exists():
            return False
        if not _stored(symbol, [seen.trade.trade_id]):
            self._keep(symbol, [seen])
        return True

    def _keep(self, symbol: str, seen: list[SeenTrade], *, seen_until_ms: int | None = None) -> None:
        entries = [trade for trade in seen if trade.origin is Origin.DECLARED]
        with transaction.atomic():
            ledger.store(seen)
            fault_point("entry_stored")
            booked = ledger.book(entries, kind=LedgerEntry.Kind.ENTRY, actor="feed")
            if seen_until_ms is not None:
                mine = Balance.objects.filter(account=settings.ACCOUNT, symbol=symbol)
                mine.filter(trades_from_ms__lt=seen_until_ms).update(trades_from_ms=seen_until_ms)
        for each in seen:
            if each.origin in (Origin.EXCHANGE, Origin.MANUAL):
                trade_id = each.trade.trade_id
                log.warning("a trade of unknown origin moved the position", symbol=symbol, trade=trade_id)
        if booked:
            ledger.project(self._client, symbol)

    def _client_id(self, trade: Trade) -> str:
        """Trades do not say whose order they were; the order does. One that is not shown yet proves nothing: its
        trade would be kept as made by hand, for ever. Raises ReadFailed."""
        if len(self._client_ids) > CLIENT_IDS_MAX:
            self._client_ids.clear()
        key = trade.symbol, trade.order_id
        found = self._client_ids.get(key)
        if found is None:
            order = self._reader.order_by_id(symbol=trade.symbol, order_id=trade.order_id)
            if order is None and self._reader.now_ms() - trade.time_ms < ORDER_SHOWN_MS:
                raise ReadFailed(f"the order of trade {trade.trade_id} is not shown yet")
            self._client_ids[key] = found = order.client_order_id if order else ""
        return found


def _stored(symbol: str, trade_ids: list[int]) -> set[int]:
    rows = Fill.objects.filter(account=settings.ACCOUNT, symbol=symbol, trade_id__in=trade_ids)
    return set(rows.values_list("trade_id", flat=True))
