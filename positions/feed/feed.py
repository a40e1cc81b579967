"""The feed: what the exchange holds, and how old that knowledge is.

The user stream tells movements as they happen (positions/ear.py brings them here). One call for all symbols at every
heartbeat keeps quiet symbols from growing stale by silence, finds what the stream kept to itself, and is all there is
while the stream is down. A failed or partial answer changes nothing: what is known goes on ageing until the
Brain refuses it (I12).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from decimal import Decimal

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections, connection

from positions.books import ledger
from positions.books.income import FUNDING, Bookings
from positions.books.ledger import SeenTrade
from positions.drift.sweep import GRACE_S, Sweep
from positions.feed.gathered import GATHER_S, Gathered
from positions.feed.own import OwnFills
from positions.feed.picture import Picture
from positions.feed.resting import Resting
from positions.feed.shown import Shown
from positions.feed.silence import Silence
from positions.feed.strangers import Strangers
from positions.judging.difference import Origin
from positions.judging.verdict import Observed
from quantum import clock
from quantum.exchange.events import AccountUpdate
from quantum.exchange.inbox import Gap
from quantum.exchange.reading import Reader, ReadFailed
from quantum.exchange.types import PositionsRead, SymbolRules
from quantum.log import log
from quantum.redis import RedisError, blocking_client, command_client

RULES_LIFE_S = 3600.0
LOOK_ROUND_S = 30.0
"""How often resting orders and the position mode are read; between them the stream tells of both."""
LOOK_GAP_S, LOOK_FAILED_S = 1.0, 9.0
"""How soon once more where the stream was interrupted; and how much later after a failure, so that what nobody can
read there keeps no beat from the positions."""
READ_GAP_S = 0.25
"""Movements come in bursts: so many reads a second at most are made because of them. Every DEAF_S at most while more
than a sweep's share of the minute's weight is used: a minute that is spent would blind us to every symbol."""
UNREADABLE_PAUSE_S = 1.0
QUIET_MS = 250
FRESH_S = 5.0
"""A plan is judged by a read of this age where the stream is live, and has been since that read was asked for."""
DEAF_S = 1.0
"""Without the stream: how often positions are read, and how old a read may be before a plan asks for another."""
WAKES_MAX = 1000
READ_ALL, READ_RULES, READ = b"all", b"rules", b"read"
"""Wakes: for a fresh read and every snapshot (somebody waits for it: positions/reconcile.py), for the symbols' rules
(the exchange refused by them), for a fresh read. Any other only has missing snapshots written anew, while the
stream is live."""


class Feed(threading.Thread):
    def __init__(
        self,
        *,
        reader: Reader,
        stopping: Callable[[], bool],
        doubt: Callable[[int], None] | None = None,
        is_behind: Callable[[], bool] = lambda: False,
    ) -> None:
        """doubt: told where REST shows what the stream has kept to itself, with the time since when. is_behind: what
        it told may still wait for the ear, and is not held against it."""
        super().__init__(name="feed", daemon=True)
        self._reader = reader
        self._stopping = stopping
        self._doubt = doubt
        self._is_behind = is_behind
        self._beat_s = float(settings.P33_HEARTBEAT_SEC)
        self._wakes = blocking_client(block_s=self._beat_s)
        self._commands = command_client()
        self._one_at_a_time = threading.Lock()
        self._picture = Picture()
        self._shown = Shown(self._commands, picture=self._picture, beat_s=self._beat_s)
        self._strangers = Strangers(reader=reader, client=self._commands)
        self._bookings = Bookings(reader=reader, missed=self.miss_trades)
        self._silence = Silence()
        self._sweep = Sweep()
        self.own = OwnFills(self._commands)
        self._changed = Gathered[str]()
        """Symbols whose snapshots are to be written, by the ear."""
        self._rules: dict[str, SymbolRules] = {}
        self._rules_due_s = 0.0
        self._looked, self._looked_s = False, -LOOK_ROUND_S
        self._look_wanted = True
        self._readable = True
        self._settled = False
        self._beat_at_s = 0.0
        self._live_from_ms: int | None = None
        """A read that was asked for from then on, and what the stream told since, are all there is to know. None: the
        stream is down."""
        self._read_wanted = False
        self.resting = Resting()
        self.hedged = False

    # ---- what the Brain asks

    def observed(self, symbol: str, *, not_before_ms: int) -> Observed:
        """What is known, provided it is of not_before_ms or later and fresh; otherwise after one read more."""
        known = self._picture.of(symbol)
        if known is None or known.again_ms or known.as_of_ms < not_before_ms:
            self.refresh(newer_than_ms=max(not_before_ms, known.again_ms if known else 0))
        elif self._picture.age_s() > (FRESH_S if self._is_live() else DEAF_S):
            self.refresh(newer_than_ms=self._reader.now_ms())
        return self._observed(symbol)

    def rules(self, symbol: str) -> SymbolRules | None:
        """None: not read, or what rests in the book and the position mode never were."""
        return self._rules.get(symbol) if self._looked else None

    def look_again(self, symbol: str) -> Observed:
        """Exchange and ledger disagree: read both sides of the difference once more, coalesced."""
        if self._picture.age_s() > self._gap_s():
            self.refresh(newer_than_ms=self._reader.now_ms())
        try:
            if self._may_spend():
                self._strangers.catch_up(symbol)
        except ReadFailed as failed:
            self._tell_unreadable(failed)
        return self._observed(symbol)

    def refresh(self, *, newer_than_ms: int) -> None:
        """Whoever waited for the lock while another read finds that read new enough."""
        with self._one_at_a_time:
            read = self._picture.read
            if read is not None and read.asked_ms >= newer_than_ms:
                return
            try:
                self._read_now()
            except ReadFailed as failed:
                self._tell_unreadable(failed)

    def _observed(self, symbol: str) -> Observed:
        known = self._picture.of(symbol)
        if known is None:
            return Observed(amount=None, age_s=Decimal(0), observed_at=Decimal(0))
        return Observed(
            amount=known.amount,
            age_s=Decimal(str(round(self._picture.age_s(), 3))),
            observed_at=Decimal(known.as_of_ms) / 1000,
            resting=self.resting.against(symbol, known.amount),
        )

    def _is_live(self) -> bool:
        if self._is_behind():  # what it told since is not known here yet, nor whether it still stands
            return False
        read, live_from_ms = self._picture.read, self._live_from_ms
        return live_from_ms is not None and read is not None and read.asked_ms >= live_from_ms

    # ---- what the ear brings, in its thread

    def heard_account(self, update: AccountUpdate) -> None:
        heard = self._picture.hear(update)
        if heard.hedged:
            self.see_hedge_mode()
        if update.reason == FUNDING:
            self._bookings.want()
        if heard.doubtful or (heard.changed and update.reason != "ORDER"):
            self.read_soon()
        self._changed.add(*heard.changed)

    @property
    def changed_due_in_s(self) -> float:
        return self._changed.due_in_s

    def show_changed(self) -> None:
        if self._changed:
            self._shown.changed(frozenset(self._changed.take()))

    def heard_trade(self, seen: SeenTrade) -> None:
        """Of an entry bot it moves the ledger. Any other is a reason to compare at once."""
        if not self._strangers.told(seen) or seen.origin is not Origin.DECLARED:
            self.read_soon()

    def miss_trades(self, symbol: str) -> None:
        self._strangers.miss(symbol)
        self.read_soon()

    def heard_gap(self, gap: Gap) -> None:
        self._picture.missed()
        self._strangers.miss(gap)
        self._live_from_ms = gap.until_ms
        if gap.until_ms is not None:
            self._bookings.want()
        self._silence.tell(lives=gap.until_ms is not None)
        self._look_wanted = True  # an order that came to rest meanwhile is told no more
        self.read_soon()

    def see_hedge_mode(self) -> None:
        if not self.hedged:
            log.error("the account is in hedge mode, which this version refuses")
        self.hedged = True
        self._look_wanted = True  # the read of the mode says when it is over
        self.read_soon()

    def read_soon(self) -> None:
        """The flag is what counts; the wake only ends the waiting, and is not missed where Redis is."""
        self._read_wanted = True
        try:
            self._commands.rpush(settings.KEYS.feed_wake, READ)
            self._commands.expire(settings.KEYS.feed_wake, 10)
        except RedisError:
            return

    # ---- the heartbeat

    def run(self) -> None:
        """An error that is not expected here ends the thread, and with it the role (see brain.run)."""
        self._silence.tell(lives=False)
        while not self._stopping():
            try:
                self._beat()
                while not self._stopping() and not self._beat_is_due():
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
        self._look_round()
        self._read_wanted = False  # before the read: what is wanted while it runs is wanted of the next
        self._beat_at_s = clock.boot_s()
        with self._one_at_a_time:
            read = self._read_now()
        self._shown.ledgers()
        self._shown.snapshots()  # first: whoever sees a position adopted finds its snapshot
        self._settled = settings.APPLY_MODE != "paper" or self._adopt(read)
        behind = {*self._differing(), *self._strangers.missed(read), *self._strangers.lagging()}
        if self._may_spend():
            unread = self._strangers.catch_up_all(behind | self._sweep.troubled)
        else:  # what is frozen already can wait, and of the others one at a time
            unread = (
                self._strangers.catch_up_all(behind - self._sweep.troubled, most=1) | self._sweep.troubled
            )
        if not self.hedged:
            self._sweep.look(read, self._rules, unread=unread)
        self._bookings.look()

    def _look_round(self) -> None:
        now_s = clock.boot_s()
        if now_s >= self._rules_due_s or not self._rules:
            # After a failure the old ones serve, and no beat more is lost.
            self._rules_due_s = now_s + LOOK_ROUND_S
            self._reader.sync_clock()
            self._rules = self._shown.rules = self._reader.symbol_rules()
            self._rules_due_s = now_s + RULES_LIFE_S
        pause_s = LOOK_GAP_S if self._look_wanted and self._may_spend() else LOOK_ROUND_S
        if now_s >= self._looked_s + pause_s:
            self._look_at_orders(now_s)

    def _look_at_orders(self, now_s: float) -> None:
        """The ear may ask for the next look while this one runs: what it saw is then newer than what is read here."""
        self._look_wanted, self._looked_s = False, now_s + LOOK_FAILED_S
        try:
            hedged = self._reader.hedge_mode()
            asked_ms = self._reader.now_ms()
            self.resting.take(self._reader.open_orders(), asked_ms=asked_ms)
        except ReadFailed:
            self._look_wanted = True
            raise
        self.hedged = hedged or (self.hedged and self._look_wanted)
        self._looked, self._looked_s = True, now_s

    def _read_now(self) -> PositionsRead:
        """Under the lock. Raises ReadFailed."""
        asked_boot_s = clock.boot_s()
        read = self._reader.positions()
        self._picture.take(read, asked_boot_s=asked_boot_s)
        if self._picture.doubtful:
            self._read_wanted = True
        if not self._readable:
            self._readable = True
            log.info("positions can be read again")
        if self._is_behind():
            return read
        since_ms = self._picture.untold_since_ms(now_ms=self._reader.now_ms())
        if since_ms is not None and self._doubt is not None:
            log.warning("the user stream kept a movement to itself", since_ms=since_ms)
            self._doubt(since_ms)
        return read

    def _beat_is_due(self) -> bool:
        return self._since_beat_s() >= self._wait_s()

    def _since_beat_s(self) -> float:
        """Not since the last read: the Brain reads too, as often as plans of a symbol that differs are tried again,
        and only the beat compares, tells and writes the snapshots of all the others."""
        return clock.boot_s() - self._beat_at_s

    def _may_spend(self) -> bool:
        """Whether reads that can wait may go on."""
        return self._reader.sweeps_wait_until_ms() is None

    def _gap_s(self) -> float:
        return READ_GAP_S if self._may_spend() else DEAF_S

    def _wait_s(self) -> float:
        """From one read to the next."""
        if not self._settled:
            return QUIET_MS / 1000
        if self._read_wanted:
            return self._gap_s()
        if self._sweep.suspects or self._live_from_ms is None:
            return min(self._beat_s, GRACE_S, DEAF_S)
        return self._beat_s

    def _wait_for_wake(self) -> None:
        within_s = max(self._wait_s() - self._since_beat_s(), 0.01)
        woken = self._wakes.blpop([settings.KEYS.feed_wake], timeout=within_s)
        if woken is None:
            return
        clock.sleep_s(GATHER_S)  # each exit wakes as it ends, and all that end together are one look
        others = self._commands.lpop(settings.KEYS.feed_wake, WAKES_MAX)
        wakes = {woken[1], *(others or ())}
        if READ_ALL in wakes:
            self._shown.forget()
        if READ_RULES in wakes:
            self._rules_due_s = 0.0
        if wakes & {READ_ALL, READ_RULES, READ} or not self._is_live():
            self._read_wanted = True
        else:
            self._shown.snapshots()

    def _tell_unreadable(self, failed: ReadFailed) -> None:
        if self._readable:
            self._readable = False
            log.warning("positions cannot be read", error=str(failed))

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

    def _differing(self) -> list[str]:
        """Without those that an exit of ours has just moved: apply is about to book it."""
        return [
            symbol
            for symbol, (_, amount) in ledger.amounts_held().items()
            if (held := self._picture.of(symbol))
            and held.amount != amount
            and not self.own.told_lately(symbol)
        ]
