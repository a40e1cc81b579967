"""Runs one role in the foreground: the same code, lease and terms as inside the qcluster."""

from __future__ import annotations

import signal
import sys
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from quantum import clock, roles
from quantum.checks import OURS
from quantum.hosting import DRAIN_S, LOOK_EVERY_S, leave
from quantum.lease import Lease
from quantum.log import log
from quantum.redis import RedisError, command_client, log_in_as


class Command(BaseCommand):
    help = "Runs one role in the foreground; waits as standby while another process holds its lease."
    requires_system_checks = (OURS,)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("role", choices=[role.name for role in roles.registered()])

    def handle(self, *_: Any, role: str, **__: Any) -> None:
        self._stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told)
        lease = self._wait_for_lease(roles.find(role))
        if lease is None:
            sys.exit(0)
        ended_well = roles.run(roles.find(role), lease=lease, told_to_stop=self._stop.is_set)
        leave(0 if ended_well and self._stop.is_set() else 1)

    def _told(self, *_: object) -> None:
        self._stop.set()
        # A role that does not heed it is left behind: its threads end with the process.
        bound = threading.Timer(DRAIN_S, leave, args=(1,))
        bound.daemon = True
        bound.start()

    def _wait_for_lease(self, role: roles.Role) -> Lease | None:
        said = ""
        log_in_as(role.name)
        client = None
        while not self._stop.is_set():
            try:
                client = client or command_client()
                lease = roles.lease_for(role, client=client)
                holder = lease.take()
                if holder is None:
                    return lease
                state = f"held by {holder}"
            except RedisError as failure:
                state = f"Redis cannot be asked: {failure}"
            if state != said:
                said = state
                log.info("[ROLE] standby", role=role.name, because=state)
            clock.sleep_s(LOOK_EVERY_S)
        return None
