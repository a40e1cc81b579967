"""The trading state as every apply consumer keeps it: read from the database, projected into Redis under a lease."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from django.db import Error as DatabaseError
from django.db import close_old_connections, connection

from permits.policy import operator_rules
from permits.policy.mandate import OperatorRule
from permits.state import holds, trading
from permits.state.trading import Projection
from quantum import clock
from quantum.log import log
from quantum.redis import RedisError, command_client

EVERY_S = 2.0
AGAIN_S = 0.5
"""After a failure: the lease goes on lapsing, and each second without it refuses every exit."""
UNREADABLE_EVERY = 15
ACTOR = "apply"


class MirrorEnded(Exception):
    """The mirror's thread ended although nobody told it to: nothing would be armed again until the role starts anew."""


class StateMirror(threading.Thread):
    """Renews every other second. When the database cannot be read the lease lapses, and that is HALTED (I13)."""

    def __init__(self, *, stopping: Callable[[], bool]) -> None:
        super().__init__(name="state-mirror", daemon=True)
        self._stopping = stopping
        self._client = command_client()
        self._known = Projection(raw=b"", version=0, active=False)
        self._rounds = 0

    def state(self, *, fresh: bool) -> Projection:
        """The copy; or, when told, the database itself, for a waiter that met other bytes."""
        if fresh:
            with self._letting_go():
                self._known = trading.current()
        return self._known

    def hold(self, *, hold_id: int, symbol: str) -> bytes:
        """For a waiter whose operator's permit names a hold."""
        with self._letting_go():
            return holds.allowed(hold_id=hold_id, symbol=symbol)

    def operator_rule(self) -> OperatorRule | None:
        """For a waiter that met an operator's permit."""
        with self._letting_go():
            return operator_rules.current()

    def arm(self) -> None:
        """Two commands a round while all is well: the lease renewed, the holds compared."""
        self._known = trading.current()
        if trading.renew(self._client, self._known):
            holds.project(self._client)
        else:
            self._known = trading.arm(self._client, actor=ACTOR)
        if self._rounds % UNREADABLE_EVERY == 0:
            holds.drop_unreadable(self._client)
        self._rounds += 1

    def check(self) -> None:
        """For the consumer's idle turn."""
        if not self.is_alive() and not self._stopping():
            raise MirrorEnded

    def run(self) -> None:
        while not self._stopping():
            pause_s = EVERY_S
            try:
                self.arm()
            except (RedisError, DatabaseError, trading.StateChanged) as error:
                log.warning("trading state not renewed", error=type(error).__name__)
                close_old_connections()
                pause_s = AGAIN_S
            clock.sleep_s(pause_s)
        connection.close()

    @contextlib.contextmanager
    def _letting_go(self) -> Iterator[None]:
        """A waiter keeps no database connection; least of all one that broke: its thread would meet that again."""
        try:
            yield
        finally:
            if threading.current_thread() is not self:
                connection.close()
