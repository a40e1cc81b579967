"""What only the outside can see: a role that nobody runs, and a queue that carries nothing."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django_q.brokers import get_broker

from quantum import clock, roles, tasks
from quantum.redis import RedisError, command_client
from quantum.supervise import Child, Supervisor

LOOK_EVERY_S = 2.0
START_GRACE_S = 8.0
START_GRACE_S_MAX = 64.0
"""A machine on which a start takes longer than its grace would otherwise be restarted for ever: each start that came
to nothing gives the next one twice the time."""
ROLE_SILENT_S = 6.0
CANARY_EVERY_S = 10.0
CANARY_SILENT_S = 30.0


class Watching:
    """Restarts the qcluster's group when a role has no lease for too long, or no canary comes back."""

    def __init__(self, *, supervisor: Supervisor, qcluster: Child) -> None:
        self._supervisor = supervisor
        self._qcluster = qcluster
        self._client = command_client()
        self._broker = get_broker()
        self._names = [role.name for role in roles.registered()]
        self._keys = [*(settings.KEYS.lease(name) for name in self._names), settings.KEYS.canary]
        self._seen_s: dict[str, float] = {}
        self._canary = b""
        self._canary_seen_s = 0.0
        self._look_at_s = self._send_at_s = 0.0
        self._grace_s = START_GRACE_S
        self.all_alive = False

    def turn(self) -> None:
        now_s = clock.monotonic_s()
        if now_s < self._look_at_s or not self._qcluster.alive:
            return
        self._look_at_s = now_s + (LOOK_EVERY_S if self.all_alive else LOOK_EVERY_S / 4)
        try:
            self._look(now_s)
            self._send_canary(now_s)
        except RedisError:
            self._give_grace(now_s)
            return
        if problem := self._problem(now_s):
            self._supervisor.restart(self._qcluster, because=problem)
            self._grace_s = min(2 * self._grace_s, START_GRACE_S_MAX)

    def _give_grace(self, now_s: float) -> None:
        """Without Redis nobody can be seen, and leases end with it: everybody gets the grace of a start again."""
        self._seen_s = dict.fromkeys(self._names, now_s + START_GRACE_S - ROLE_SILENT_S)
        self._canary_seen_s = now_s

    def _look(self, now_s: float) -> None:
        answers: list[Any] = self._client.mget(self._keys)
        *leases, canary = answers
        for name, lease in zip(self._names, leases, strict=True):
            if lease is not None:
                self._seen_s[name] = now_s
        self.all_alive = all(lease is not None for lease in leases)
        if self.all_alive:
            self._grace_s = START_GRACE_S
        if canary and bytes(canary) != self._canary:
            self._canary, self._canary_seen_s = bytes(canary), now_s

    def _send_canary(self, now_s: float) -> None:
        if now_s >= self._send_at_s:
            self._send_at_s = now_s + CANARY_EVERY_S
            tasks.send_canary(broker=self._broker)

    def _problem(self, now_s: float) -> str:
        """Never within the grace that every start of the qcluster gets."""
        started_s = self._qcluster.started_s
        for name in self._names:
            seen_s = self._seen_s.get(name, 0.0)
            # The longer grace is for who has not come yet: one that lived in this start is silent after its 6 s.
            grace_s = START_GRACE_S if seen_s > started_s else self._grace_s
            if now_s > max(seen_s + ROLE_SILENT_S, started_s + grace_s):
                silent_s = now_s - max(seen_s, started_s)
                return f"role {name} has had no lease for {silent_s:.0f} s"
        if now_s > max(self._canary_seen_s, started_s + self._grace_s - START_GRACE_S) + CANARY_SILENT_S:
            return f"no canary came through the queue for {CANARY_SILENT_S:.0f} s"
        return ""
