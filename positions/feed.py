"""The feed: what the exchange holds, how old that knowledge is, and trades that are not ours.

One call reads all symbols, every heartbeat and whenever something moved. A failed or partial answer
changes nothing: the old snapshot goes on ageing until the Brain refuses it (I12).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from decimal import Decimal

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections, connection, transaction

from positions import ledger
from positions.difference import Origin
from positions.ledger import SeenTrade
from positions.models import Balance, Fill, LedgerEntry
from positions.sweep import GRACE_S, LOOK_AGAIN_S, Sweep
from positions.verdict import Observed
from quantum import amounts, clock
from quantum.exchange.reading import Reader, ReadFailed
from quantum.exchange.types import Position, PositionsRead, SymbolRules, Trade
from quantum.fault import fault_point
from quantum.log import log
from quantum.redis import RedisError, blocking_client, command_client

RULES_LIFE_S = 3600.0
REFRESH_GAP_S = 0.25
UNREADABLE_PAUSE_S = 1.0
SNAPSHOT_MARGIN_S = 1.0
QUIET_MS = 250
CLIENT_IDS_MAX = 10_000
ORDER_SHOWN_MS = 15_000
READ_ALL = b"all"
"""A wake that asks for a fresh read and for every snapshot: somebody waits for it (positions/reconcile.py)."""


class Feed(threading.Thread):
    def __init__(self, *, reader: Reader, stopping: Callable[[], bool]) -> None:
        super().__init__(name="feed", daemon=True)
        self._reader = reader
        self._stopping = stopping
        self._beat_s = float(settings.P33_HEARTBEAT_SEC)
        self._wakes = blocking_client(block_s=self._beat_s)
        self._commands = command_client()
        self._one_at_a_time = threading.Lock()
        self._read: PositionsRead | None = None
        self._read_boot_s = 0.0
        self._rules: dict[str, SymbolRules] = {}
        self._rules_boot_s = 0.0
        self._client_ids: dict[int, str] = {}
        self._readable = True
        self._settled = False
        self._sweep = Sweep()
        self._unread: dict[str, float] = {}
        """Symbols whose trades cannot be read, since when."""
        self._projected: dict[str, tuple[Decimal | None, float]] = {}
        self._ledgers: dict[str, int] = {}
        self.hedged = False

    # ---- what the Brain asks

    def observed(self, symbol: str, *, not_before_ms: int) -> Observed:
        """The snapshot, provided it was asked for after not_before_ms; otherwise one fresh read."""
        read = self._read
        if read is None or read.asked_ms < not_before_ms:
            self.refresh(newer_than_ms=not_before_ms)
        return self._observed(symbol)

    def rules(self, symbol: str) -> SymbolRules | None:
        return self._rules.get(symbol)

    def look_again(self, symbol: str) -> Observed:
        """Exchange and ledger disagree: read both sides of the difference once more, coalesced."""
        if clock.boot_s() - self._read_boot_s > REFRESH_GAP_S:
            self.refresh(newer_than_ms=self._reader.now_ms())
        self._catch_up_safely(symbol)
        return self._observed(symbol)

    def refresh(self, *, newer_than_ms: int) -> None:
        """Whoever waited for the lock while another read finds that read new enough."""
        with self._one_at_a_time:
            if self._read is not None and self._read.asked_ms >= newer_than_ms:
                return
            try:
                asked_boot_s = clock.boot_s()
                self._take(self._reader.positions(), asked_boot_s)
            except ReadFailed as failed:
                self._tell_unreadable(failed)

    # ---- the heartbeat

    def run(self) -> None:
        """An error that is not expected here ends the thread, and with it the role (see brain.run)."""
        while not self._stopping():
            try:
                self._beat()
                self._wait_for_wake()
            except ReadFailed as failed:
                self._tell_unreadable(failed)
                clock.sleep_s(UNREADABLE_PAUSE_S)
            except RedisError:
                clock.sleep_s(UNREADABLE_PAUSE_S)  # snapshots in Redis are for readers; the Brain has its own
            except DatabaseError as error:
                log.warning("feed could not write", error=type(error).__name__)
                close_old_connections()
                clock.sleep_s(UNREADABLE_PAUSE_S)
        connection.close()

    def _beat(self) -> None:
        if clock.boot_s() - self._rules_boot_s > RULES_LIFE_S or not self._rules:
            self._reader.sync_clock()
            self.hedged = self._reader.hedge_mode()
            self._rules = self._reader.symbol_rules()
            self._rules_boot_s = clock.boot_s()
        with self._one_at_a_time:
            asked_boot_s = clock.boot_s()
            self._take(self._reader.positions(), asked_boot_s)
        read = self._read
        if read is None:
            return
        self._project_ledgers()
        self._project(read)  # first: whoever sees a position adopted finds its snapshot
        self._settled = settings.APPLY_MODE != "paper" or self._adopt(read)
        unread = self._catch_up_all({*self._differing(read), *self._sweep.troubled})
        if not self.hedged:
            self._sweep.look(read, self._rules, unread=unread)

    def _take(self, read: PositionsRead, asked_boot_s: float) -> None:
        self._read, self._read_boot_s = read, asked_boot_s
        if not self._readable:
            self._readable = True
            log.info("positions can be read again")

    def _wait_for_wake(self) -> None:
        within_s = min(self._beat_s, GRACE_S) if self._sweep.suspects else self._beat_s
        within_s = within_s if self._settled else QUIET_MS / 1000
        woken = self._wakes.blpop([settings.KEYS.feed_wake], timeout=within_s)
        if woken and woken[1] == READ_ALL:
            self._projected.clear()
        self._commands.delete(settings.KEYS.feed_wake)  # ten wakes at once are one read

    def _tell_unreadable(self, failed: ReadFailed) -> None:
        if self._readable:
            self._readable = False
            log.warning("positions cannot be read", error=str(failed))

    def _observed(self, symbol: str) -> Observed:
        read = self._read
        if read is None:
            return Observed(amount=None, age_s=Decimal(0), observed_at=Decimal(0))
        age_s = Decimal(str(round(clock.boot_s() - self._read_boot_s, 3)))
        return Observed(amount=read.amount(symbol), age_s=age_s, observed_at=Decimal(read.asked_ms) / 1000)

    # ---- trades that are not ours

    def _adopt(self, read: PositionsRead) -> bool:
        """First start in paper mode. False: a symbol traded at the very moment of the read.

        Whether such a trade is inside the amount that was read, no clock can tell; it would be lost or
        counted twice. Only a symbol that was quiet around the read is adopted; the others wait a moment.
        """
        missing = ledger.unknown_symbols({*settings.APPLY_ALLOWLIST, *read.positions})
        since_ms = read.asked_ms - QUIET_MS
        quiet = {
            symbol for symbol in missing if not self._reader.trades_since(symbol=symbol, since_ms=since_ms)
        }
        if quiet:
            reason = "first start in paper mode"
            ledger.adopt(read, symbols=quiet, seen_ms=since_ms, actor="feed", reason=reason)
            for symbol in quiet:
                ledger.project(self._commands, symbol)
            log.info("ledger adopted what the paper exchange holds", symbols=len(quiet))
        return quiet == missing

    def _differing(self, read: PositionsRead) -> list[str]:
        balances = Balance.objects.filter(account=settings.ACCOUNT).values_list("symbol", "amount")
        return [symbol for symbol, amount in balances if read.amount(symbol) != amount]

    def _catch_up_all(self, symbols: set[str]) -> set[str]:
        """One symbol whose trades cannot be read must not keep the sweep from the others. The first failure ends
        the round, lest many of them delay the next read; who failed comes last in the next.

        Returns those that failed for less than half a minute: their fills may be on the way.
        """
        self._unread = {symbol: since_s for symbol, since_s in self._unread.items() if symbol in symbols}
        waiting = [*sorted(symbols - self._unread.keys()), *self._unread]
        now_s = clock.boot_s()
        while waiting:
            symbol = waiting.pop(0)
            since_s = self._unread.pop(symbol, None)
            try:
                self._catch_up(symbol)
            except ReadFailed as failed:
                if since_s is None:
                    log.warning("trades cannot be read", symbol=symbol, error=str(failed))
                self._unread |= {each: self._unread.get(each, now_s) for each in waiting}
                self._unread[symbol] = now_s if since_s is None else since_s
                break
        return {symbol for symbol, since_s in self._unread.items() if now_s - since_s < LOOK_AGAIN_S}

    def _catch_up_safely(self, symbol: str) -> None:
        try:
            self._catch_up(symbol)
        except ReadFailed as failed:
            self._tell_unreadable(failed)

    def _catch_up(self, symbol: str) -> None:
        """Store every trade since the watermark; book those of declared entry bots.

        The watermark is the feed's own: an exit booked by apply at a later time must not hide an
        entry that came before it. Trade ids make the overlap harmless.
        """
        balance = Balance.objects.filter(account=settings.ACCOUNT, symbol=symbol).first()
        if balance is None:
            return
        trades = self._reader.trades_since(symbol=symbol, since_ms=balance.trades_from_ms)
        known = set(
            Fill.objects.filter(
                account=settings.ACCOUNT, symbol=symbol, trade_id__in=[trade.trade_id for trade in trades]
            ).values_list("trade_id", flat=True)
        )
        seen = [SeenTrade(trade, self._client_id(trade)) for trade in trades if trade.trade_id not in known]
        if not trades:
            return
        entries = [trade for trade in seen if trade.origin is Origin.DECLARED]
        with transaction.atomic():
            ledger.store(seen)
            fault_point("entry_stored")
            ledger.book(entries, kind=LedgerEntry.Kind.ENTRY, actor="feed")
            Balance.objects.filter(pk=balance.pk).update(
                trades_from_ms=max(trade.time_ms for trade in trades)
            )
        for stranger in seen:
            if stranger.origin in (Origin.EXCHANGE, Origin.MANUAL):
                log.warning(
                    "a trade of unknown origin moved the position",
                    symbol=symbol,
                    trade=stranger.trade.trade_id,
                )
        if entries:
            ledger.project(self._commands, symbol)

    def _client_id(self, trade: Trade) -> str:
        """Trades do not say whose order they were; the order does. One that is not shown yet proves nothing: its
        trade would be kept as made by hand, for ever. Raises ReadFailed."""
        if len(self._client_ids) > CLIENT_IDS_MAX:
            self._client_ids.clear()
        if trade.order_id not in self._client_ids:
            order = self._reader.order_by_id(symbol=trade.symbol, order_id=trade.order_id)
            if order is None and self._reader.now_ms() - trade.time_ms < ORDER_SHOWN_MS:
                raise ReadFailed(f"the order of trade {trade.trade_id} is not shown yet")
            self._client_ids[trade.order_id] = order.client_order_id if order else ""
        return self._client_ids[trade.order_id]

    # ---- readers in Redis

    def _project_ledgers(self) -> None:
        """Whatever moved since the last beat: a correction by command, which may not write these keys itself."""
        versions = dict(Balance.objects.filter(account=settings.ACCOUNT).values_list("symbol", "version"))
        for symbol, version in versions.items():
            if self._ledgers.get(symbol) != version:
                ledger.project(self._commands, symbol)
        self._ledgers = versions

    def _project(self, read: PositionsRead) -> None:
        """At once where the amount changed; otherwise before the next beat would come too late for the
        Governor's age check, and no oftener. When some are gone, all of them anew."""
        standing = [settings.KEYS.snapshot(symbol) for symbol in self._projected]
        if standing and self._commands.exists(*standing) != len(standing):
            self._projected.clear()
        pipeline = self._commands.pipeline(transaction=False)
        now_s = clock.boot_s()
        seen_s = clock.now_s() - (now_s - self._read_boot_s)
        old_s = float(settings.P33_STALE_THRESHOLD_SEC) - SNAPSHOT_MARGIN_S - self._beat_s
        for symbol in {*settings.APPLY_ALLOWLIST, *read.positions, *self._ledgers}:
            amount, told_s = self._projected.get(symbol, (None, 0.0))
            if amount == read.amount(symbol) and now_s - told_s < old_s:
                continue
            self._projected[symbol] = read.amount(symbol), now_s
            fields = {
                **_snapshot(read.positions.get(symbol), read),
                "seen_epoch": f"{seen_s:.3f}",
                "lot_step": amounts.plain(self._rules[symbol].lot_step) if symbol in self._rules else "0",
            }
            pipeline.hset(settings.KEYS.snapshot(symbol), mapping=fields)
        pipeline.execute()


def _snapshot(position: Position | None, read: PositionsRead) -> dict[str, str]:
    amount = position.amount if position else Decimal(0)
    side = "FLAT" if amount == 0 else "LONG" if amount > 0 else "SHORT"
    return {
        "position_amt": amounts.plain(amount),
        "side": side,
        "entry_price": amounts.plain(position.entry_price) if position else "0",
        "mark_price": amounts.plain(position.mark_price) if position else "",
        "unrealized_pnl": amounts.plain(position.unrealized_pnl) if position else "0",
        "leverage": "",  # the position call (v3) does not tell it
        "ts_epoch": amounts.plain(Decimal(read.asked_ms) / 1000),
        "source": "rest",
    }
