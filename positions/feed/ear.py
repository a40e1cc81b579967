"""The ear: takes what the user stream tells, in its order, and has the feed know it within milliseconds.

It never waits for the feed: a read that hangs must not keep a fill from being told. What it cannot make sense of, or
cannot write down, becomes a reason to read. No trade is lost here: REST is the truth, this is only sooner.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections, connection

from positions.books.ledger import SeenTrade
from positions.feed.feed import Feed
from positions.feed.gathered import GATHER_S
from positions.judging import difference
from positions.judging.difference import Origin
from quantum import clock
from quantum.exchange.events import (
    AccountUpdate,
    Event,
    Execution,
    MarginCall,
    OrderUpdate,
    PositionSide,
    UnknownEvent,
)
from quantum.exchange.inbox import Gap, Item
from quantum.exchange.user_stream import UserStream
from quantum.log import log
from quantum.redis import RedisError

TAKE_S = 0.5
DUE_S = 0.001
"""Less than this is not waited for."""
BEHIND_S = 1.0


class Ear(threading.Thread):
    def __init__(self, *, stream: UserStream, feed: Feed, stopping: Callable[[], bool]) -> None:
        super().__init__(name="ear", daemon=True)
        self._stream = stream
        self._feed = feed
        self._stopping = stopping
        self._idle_boot_s = clock.boot_s()

    @property
    def is_behind(self) -> bool:
        """What was told may wait here still, because there is so much of it, or because the database is slow."""
        return clock.boot_s() - self._idle_boot_s > BEHIND_S

    def run(self) -> None:
        """An error that is not expected here ends the thread, and with it the role (see brain.run)."""
        while not self._stopping():
            item = self._stream.take(timeout_s=min(self._due_in_s(), TAKE_S))
            if item is not None:
                self.heed(item)
            # What comes in one go is written together; a flood keeps nothing from being told for longer.
            idle = item is None or not self._stream.waiting
            if idle or clock.boot_s() - self._idle_boot_s >= GATHER_S:
                self._write_gathered()
            if idle:
                self._idle_boot_s = clock.boot_s()
        connection.close()

    def heed(self, item: Item) -> None:
        try:
            if isinstance(item, Gap):
                self._feed.heard_gap(item)
            else:
                self._heed(item.event)
        except RedisError:
            self._feed.read_soon()  # the copies there are written anew with the next beat
        except DatabaseError as error:
            log.warning("what the user stream told could not be written", error=type(error).__name__)
            close_old_connections()
            if not isinstance(item, Gap) and isinstance(item.event, OrderUpdate):
                self._feed.miss_trades(item.event.symbol)

    def _write_gathered(self) -> None:
        if self._due_in_s() >= DUE_S:
            return
        try:
            self._feed.show_changed()  # first: whoever learns of a fill finds the snapshot that it changed
        except RedisError:
            self._feed.read_soon()  # the copies there are written anew with the next beat
        self._write_own()

    def _due_in_s(self) -> float:
        return min(self._feed.own.due_in_s, self._feed.changed_due_in_s)

    def _write_own(self) -> None:
        """Lost here is only the shorter way: apply asks the exchange for what it was not told in half a second."""
        try:
            self._feed.own.write()
        except RedisError:
            return
        except DatabaseError as error:
            log.warning("trades of our own could not be stored", error=type(error).__name__)
            close_old_connections()

    def _heed(self, event: Event) -> None:
        match event:
            case AccountUpdate():
                self._feed.heard_account(event)
            case OrderUpdate():
                self._heed_order(event)
            case MarginCall():
                log.error("the exchange calls for margin", symbols=",".join(event.symbols)[:200])
                self._feed.read_soon()
            case UnknownEvent():  # it may mean anything
                self._feed.read_soon()

    def _heed_order(self, update: OrderUpdate) -> None:
        if update.position_side is not PositionSide.BOTH:
            self._feed.see_hedge_mode()
            return
        self._feed.resting.hear(update)
        executed = update.is_execution or update.execution is Execution.CALCULATED
        origin = difference.origin(update.client_order_id, sources=settings.LEDGER_SOURCES)
        if not executed:
            return
        if origin is Origin.OURS:  # apply proves and books its own; without its numbers it asks for the trade
            if update.trade is not None:
                self._feed.own.hear(SeenTrade(update.trade, update.client_order_id))
            return
        if update.trade is None:
            self._feed.miss_trades(update.symbol)
        else:
            self._feed.heard_trade(SeenTrade(update.trade, update.client_order_id))
