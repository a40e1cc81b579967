"""A lease says which process runs a role now. It avoids double work; it never authorises an order.

Life 3 s, renewed about every second by the role's own reading loop, so that a loop which is stuck
loses it. The holder stops 2 s after the last renewal that was surely made, the server hands
the lease on after 3 s: between the two lies the second in which nobody acts.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from quantum import ailing, clock
from quantum.keys import Keys
from quantum.redis import Client, RedisError, Value, script

LIFE_MS = 3000
FIRST_LIFE_MS = 6000
FIRST_LOST_AFTER_S = 5.0
"""Until the first renewal: a role may have to import, connect and read before its loop turns."""
RENEW_AFTER_S = 0.5
"""A loop may turn only once a second: half a second old plus one turn is still well before two."""
LOST_AFTER_S = 2.0
HEARTBEAT_EVERY_S = 3.0
HEARTBEAT_LIFE_MS = 3_600_000
"""Kept for an hour, so that a page can say when a role was last seen. Alive is: the lease exists."""

_LUA = Path(__file__).parent / "lua"
TAKE = script(_LUA / "lease_take-2.lua")
RELEASE = script(_LUA / "lease_release-1.lua")


class Lease:
    """One attempt to be the process that runs a role. The token names host and pid for whoever waits."""

    def __init__(
        self, *, client: Client, keys: Keys, role: str, host: str, pid: int, versions: Mapping[str, str]
    ) -> None:
        self.role = role
        self.versions = versions
        self.taken_s = 0.0
        self._beaten_s = 0.0
        self.token = f"{host}/{pid}/{secrets.token_hex(8)}"
        self._client = client
        self._lease = keys.lease(role)
        self._heartbeat = keys.heartbeat(role, host)
        self._facts = {"role": role, "host": host, "pid": pid, **versions}

    def take(self) -> str | None:
        """None when the lease is ours now, else who holds it (host/pid)."""
        self.taken_s = clock.boot_s()  # before the call: the server may have counted from any moment of it
        arguments: list[Value] = [self.token, FIRST_LIFE_MS, self._heartbeat_text(), HEARTBEAT_LIFE_MS]
        self._beaten_s = self.taken_s
        taken, holder = TAKE(self._client, keys=[self._lease, self._heartbeat], args=arguments)
        return None if taken == 1 else who(bytes(holder))

    def renew(self) -> bool:
        """Compare and lengthen in one plain command: a script would be three, for four roles and for ever.

        If the lease is another's by now, this lengthens his, once, as his own renewal does each second.
        """
        if self._client.getex(self._lease, px=LIFE_MS) != self.token.encode():
            return False
        if clock.boot_s() - self._beaten_s >= HEARTBEAT_EVERY_S:
            self._client.set(self._heartbeat, self._heartbeat_text(), px=HEARTBEAT_LIFE_MS)
            self._beaten_s = clock.boot_s()
        return True

    def release(self) -> bool:
        return bool(RELEASE(self._client, keys=[self._lease], args=[self.token]) == 1)

    def _heartbeat_text(self) -> str:
        return json.dumps({**self._facts, "at_ms": clock.now_ms(), "ailing": ailing.now()})


def who(token: bytes) -> str:
    """host/pid of a holder, without the random part that makes the token its own."""
    return token.decode(errors="replace").rpartition("/")[0] or "a stranger"


class Watch:
    """The terms a role runs under: its lease, the stop flag, its parent."""

    def __init__(self, *, lease: Lease, consumer: str, told_to_stop: Callable[[], bool]) -> None:
        self.role = lease.role
        self.consumer = consumer
        self.why = ""
        self._lease = lease
        self._told_to_stop = told_to_stop
        self._lost_at_s = lease.taken_s + FIRST_LOST_AFTER_S
        self._renew_at_s = lease.taken_s

    def keep(self) -> bool:
        """Called by the reading loop at least every second. False once is False for ever: stop reading."""
        if self.stopping:
            return False
        if clock.boot_s() >= self._renew_at_s:
            self._renew()
        return not self.stopping

    @property
    def stopping(self) -> bool:
        """For every other loop of the role; costs no I/O."""
        if not self.why:
            if self._told_to_stop():
                self.why = "told to stop"
            elif clock.boot_s() >= self._lost_at_s:
                self.why = "lease not renewed in time"
        return bool(self.why)

    def _renew(self) -> None:
        asked_s = clock.boot_s()  # before the call, as above
        try:
            if self._lease.renew():
                self._renew_at_s = asked_s + RENEW_AFTER_S
                self._lost_at_s = asked_s + LOST_AFTER_S
            else:
                self.why = "lease refused"
        except RedisError:
            return  # nothing is known: the next turn asks again until LOST_AFTER_S has passed
