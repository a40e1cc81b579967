"""Our cluster over django-q2's: hosts the roles, and ends within seconds whatever was killed.

django-q2 stops a worker by a message in the queue. After kill -9 of a worker that message may
never be read. Here everybody looks at one shared byte and at his parent, every wait has an end,
and what is left then is killed by its pid.
"""

from __future__ import annotations

import gc
import os
import signal
import uuid
from multiprocessing import connection
from multiprocessing.process import BaseProcess, current_process
from typing import Any

from django import db
from django.conf import settings
from django_q import cluster as upstream
from django_q.brokers import Broker, get_broker
from django_q.monitor import monitor
from django_q.pusher import pusher
from django_q.signals import post_spawn
from django_q.status import Stat
from django_q.worker import worker

from quantum import clock
from quantum.hosting import DRAIN_S, Hosting
from quantum.log import log
from quantum.processes import adopt_orphans, children_of, die_with_parent, kill_children_of, wait_until
from quantum.redis import RedisError, command_client
from quantum.shared import Flag, JobPipe, Timer

SENTINEL_STOP_S = DRAIN_S + 0.5
MAIN_STOP_S = SENTINEL_STOP_S + 0.7
"""SIGTERM to gone: less than ten seconds, however many of us are stuck."""


class Cluster(upstream.Cluster):
    """The main process. It waits for its sentinel; without one it ends, with an exit code that says so."""

    def __init__(self, *, hosts_roles: bool = True) -> None:
        self._hosts_roles = hosts_roles
        super().__init__()
        self.stop_event = Flag()
        self.start_event = Flag()

    def sig_handler(self, *_: object) -> None:
        self.stop_event.set()

    def start(self) -> int:
        gc.collect()
        gc.freeze()  # the collector would touch, and so copy, every page shared with the forked
        self.sentinel = upstream.get_mp_context().Process(
            target=Sentinel,
            name=f"Process-{uuid.uuid4().hex}",
            args=(self.stop_event, self.start_event, self.cluster_id),
            kwargs={"hosts_roles": self._hosts_roles},
        )
        self.sentinel.start()
        return int(self.pid)

    def run(self) -> int:
        """Until a signal, or until the sentinel is gone. Returns the exit code."""
        adopt_orphans()
        if not self.wait_for_redis():
            return 0
        self.start()
        while self.sentinel.is_alive() and not self.stop_event.is_set():
            connection.wait([self.sentinel.sentinel], timeout=0.5)
        asked = self.stop_event.is_set()
        if not asked:
            log.error("[QCLUSTER] the sentinel died; ending, so that whoever started us starts us again")
        self.stop()
        return 0 if asked else 1

    def run_once(self) -> int:
        """Do what waits in the queue, then stop."""
        if not self.wait_for_redis():
            return 0
        self.start()
        broker = get_broker()
        while not self.stop_event.is_set() and (not self.start_event.is_set() or broker.queue_size()):
            clock.sleep_s(0.2)
        clock.sleep_s(1.5)  # what was taken from the queue last is then with a worker, which ends it first
        self.stop()
        return 0

    def stop(self) -> bool:
        self.stop_event.set()
        self.sentinel.join(MAIN_STOP_S if self.sentinel.is_alive() else 0)
        if not self.sentinel.is_alive():  # it may have left orphans, ours now, which drain by themselves
            wait_until(lambda: not children_of(os.getpid()), within_s=SENTINEL_STOP_S)
        kill_children_of(os.getpid(), within_s=1.0)
        return True

    def wait_for_redis(self) -> bool:
        """A cluster without its queue dies at start; it is better to wait and to say for what."""
        said_s = -60.0
        while not self.stop_event.is_set():
            try:
                client = command_client()
                client.ping()
            except RedisError as failure:
                if clock.boot_s() - said_s > 10:
                    said_s = clock.boot_s()
                    log.warning("[QCLUSTER] waiting for Redis", url=settings.REDIS_URL, error=failure)
                clock.sleep_s(0.3)
                continue
            client.close()  # nothing connected may be carried over the fork
            return True
        return False


class Sentinel(upstream.Sentinel):
    """The guard of the workers, with queues, timers and flags that no killed process can leave locked."""

    def __init__(
        self, stop_event: Flag, start_event: Flag, cluster_id: uuid.UUID, *, hosts_roles: bool
    ) -> None:
        super().__init__(stop_event, start_event, cluster_id, start=False)
        # With SIG_DFL a signal to the whole group would end the sentinel before its workers have drained.
        signal.signal(signal.SIGTERM, lambda *_: stop_event.set())
        stop_event.heed_parent()
        self.task_queue, self.result_queue, self.event_out = JobPipe(), JobPipe(), Flag()
        self._hosts_roles = hosts_roles
        post_spawn.connect(self._in_worker, weak=False)
        self.start()
        os._exit(0)  # stop() has ended everybody; exit handlers would only wait for them again

    def _in_worker(self, **_: object) -> None:
        """django-q2's post_spawn, in the worker. It never raises: the worker would die, again and again."""
        try:
            Hosting(stop=self.stop_event, jobs=self.task_queue, hosts_roles=self._hosts_roles).begin()
        except Exception as failure:  # noqa: BLE001  see above
            log.failure("[ROLE] this worker hosts no role", failure)

    def spawn_worker(self) -> None:
        self.spawn_process(worker, self.task_queue, self.result_queue, Timer(), self.timeout)

    def spawn_pusher(self) -> Any:
        return self.spawn_process(_pushing, self.task_queue, self.event_out, self.broker)

    def spawn_monitor(self) -> Any:
        return self.spawn_process(_monitoring, self.result_queue, self.broker)

    def reincarnate(self, process: BaseProcess) -> None:
        if not self.stop_event.is_set():  # who leaves now was told to
            super().reincarnate(process)

    def stop(self) -> None:
        self.stop_event.set()
        self.event_out.set()
        db.connections.close_all()
        wait_until(lambda: not any(one.is_alive() for one in self.pool), within_s=DRAIN_S)
        wait_until(self.result_queue.empty, within_s=0.3)
        kill_children_of(self.pid, within_s=1.0)
        self.pool.clear()
        Stat(self).save()


def _pushing(jobs: JobPipe, leave: Flag, broker: Broker) -> None:
    _auxiliary()
    pusher(jobs, leave, broker)


def _monitoring(results: JobPipe, broker: Broker) -> None:
    _auxiliary()
    monitor(results, broker)


def _auxiliary() -> None:
    """Pusher and monitor have nothing to drain: an orphaned pusher would go on stealing jobs."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent: Any = getattr(current_process(), "_parent_pid", None)
    die_with_parent(parent)()
