"""Inside one qcluster worker: takes a free role, runs it for the life of the process, and leaves in time.

Everything is made after the fork. A worker without a role does jobs of the queue and goes on
looking for a free lease; once it has a role it takes no further job, so that no job's
timeout or memory can end a role.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import NoReturn

from django.conf import settings

from quantum import clock, roles
from quantum.fault import fault_point
from quantum.log import log
from quantum.processes import wait_until
from quantum.redis import Client, NoPassword, RedisError, command_client
from quantum.shared import Flag, JobPipe

LOOK_EVERY_S = 1.0
HEED_EVERY_S = 0.5
DRAIN_S = 8.0
"""A role stops reading, finishes what is intended (an HTTP call: 4 s at most) and leaves."""
JOB_S = 5.0
"""What a running job of the queue is given to end; it may be lost."""


class Hosting:
    def __init__(self, *, stop: Flag, jobs: JobPipe, hosts_roles: bool) -> None:
        self._stop = stop
        self._jobs = jobs
        self._hosts_roles = hosts_roles
        self._terminated = False
        self._running: threading.Thread | None = None
        self._taking = threading.Lock()
        """A lease is being taken. Who leaves between the server's yes and the mark here would leave it held."""
        self._told: set[str] = set()

    def begin(self) -> None:
        """In the worker's main thread, once, at its start."""
        self._stop.heed_parent()
        # Blocked here and waited for in a thread: a main thread that hangs in a job cannot delay the answer.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=self._leave_when_told, name="leave", daemon=True).start()
        if self._hosts_roles:
            threading.Thread(target=self._look_for_a_role, name="role", daemon=True).start()

    @property
    def stopping(self) -> bool:
        return self._terminated or self._stop.is_set()

    def _leave_when_told(self) -> None:
        while not self.stopping:
            if signal.sigtimedwait({signal.SIGTERM}, HEED_EVERY_S):
                self._terminated = True
        self._taking.acquire(timeout=DRAIN_S)  # for good: no role is begun any more
        if self._running:
            self._running.join(DRAIN_S)
            log.error("[ROLE] did not leave in time", limit_s=DRAIN_S)
            leave(1)
        wait_until(lambda: self._jobs.waiting and self._jobs.empty(), within_s=JOB_S)
        leave(0)

    def _look_for_a_role(self) -> None:
        client = command_client()
        while not self.stopping:
            try:
                for role in _free(client):
                    self._try(role)
            except RedisError:
                pass  # roles are down with it; the next turn looks again, and the role's own log says why
            clock.sleep_s(LOOK_EVERY_S)

    def _try(self, role: roles.Role) -> None:
        try:
            lease = roles.lease_for(role, client=command_client(user=role.name))
        except NoPassword as missing:
            if role.name not in self._told:
                self._told.add(role.name)
                log.error("[ROLE] cannot log in to Redis", role=role.name, because=missing)
            return
        with self._taking:
            if self.stopping or lease.take() is not None:
                return
            fault_point("lease_taken")
            self._jobs.shut = True
            self._running = threading.current_thread()
        ended_well = False
        try:
            ended_well = roles.run(role, lease=lease, told_to_stop=lambda: self.stopping)
        finally:
            leave(0 if ended_well else 1)  # one role per process life: the sentinel forks a fresh one


def _free(client: Client) -> list[roles.Role]:
    """One command a second and process, not one per role."""
    registered = roles.registered()
    if not registered:
        return []
    held = client.mget([settings.KEYS.lease(role.name) for role in registered])
    return [role for role, holder in zip(registered, held, strict=True) if holder is None]


def leave(code: int) -> NoReturn:
    """Without exit handlers: a role's other threads may hold any lock by now."""
    sys.stderr.flush()
    os._exit(code)
