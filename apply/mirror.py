"""The trading state as every apply consumer keeps it: read from the database, projected into Redis under a lease."""

from __future__ import annotations

import threading
from collections.abc import Callable

from django.db import Error as DatabaseError
from django.db import close_old_connections, connection

from permits import trading
from permits.trading import Projection
from quantum import clock
from quantum.log import log
from quantum.redis import RedisError, command_client

EVERY_S = 2.0


class StateMirror(threading.Thread):
    """Renews every other second. When the database cannot be read the lease lapses, and that is HALTED (I13)."""

    def __init__(self, *, stopping: Callable[[], bool]) -> None:
        super().__init__(name="state-mirror", daemon=True)
        self._stopping = stopping
        self._client = command_client()
        self._known = Projection(raw=b"", version=0, active=False)

    def state(self, *, fresh: bool) -> Projection:
        """The copy; or, when told, the database itself, for a waiter that met other bytes."""
        if fresh:
            self._known = trading.current()
            if threading.current_thread() is not self:
                connection.close()  # a waiter keeps no database connection
        return self._known

    def arm(self) -> None:
        """Holds first, then the state: after a wipe nothing may pass that should be frozen."""
        self._known = trading.current()
        if not trading.renew(self._client, self._known):
            trading.project_holds(self._client)
            trading.project(self._client, self._known)

    def run(self) -> None:
        while not self._stopping():
            try:
                self.arm()
            except (RedisError, DatabaseError) as error:
                log.warning("trading state not renewed", error=type(error).__name__)
                close_old_connections()
            clock.sleep_s(EVERY_S)
        connection.close()
