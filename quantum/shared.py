"""What the processes of a qcluster share, without a single lock.

django-q2 shares multiprocessing's Event, Queue and Value. Each holds a lock that kill -9 leaves
held for ever: a worker killed while it waited for a job blocked every later job, and SIGTERM
never ended. One byte, one float and one socket need no lock and behave as their models do.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import select
import socket
import threading
from contextlib import AbstractContextManager, nullcontext
from multiprocessing.sharedctypes import RawValue
from typing import Any

from quantum import clock
from quantum.log import log


class Flag:
    """An Event that is one shared byte. In a child it also reads as set when the parent is gone."""

    _STEP_S = 0.2

    def __init__(self) -> None:
        self._raised = RawValue(ctypes.c_byte, 0)
        self._parent_pid: int | None = None

    def heed_parent(self) -> None:
        """In a forked child: losing the parent means stop."""
        parent = multiprocessing.parent_process()
        self._parent_pid = parent.pid if parent else None

    def set(self) -> None:
        self._raised.value = 1

    @property
    def raised(self) -> bool:
        return bool(self._raised.value)

    def is_set(self) -> bool:
        return self.raised or (self._parent_pid is not None and os.getppid() != self._parent_pid)

    def wait(self, timeout: float) -> bool:
        end = clock.monotonic_s() + timeout
        while not self.is_set():
            left = end - clock.monotonic_s()
            if left <= 0:
                return False
            clock.sleep_s(min(self._STEP_S, left))
        return True


class Timer:
    """A worker's countdown. The guard reads it each second: a lock that a killed worker held froze it."""

    def __init__(self) -> None:
        self._seconds = RawValue(ctypes.c_float, -1)

    @property
    def value(self) -> float:
        return float(self._seconds.value)

    @value.setter
    def value(self, seconds: float) -> None:
        self._seconds.value = seconds

    def get_lock(self) -> AbstractContextManager[None]:
        return nullcontext()


class JobPipe:
    """A queue of jobs over one packet socket: the kernel hands each packet to one reader, whole.

    A reader that dies holds nothing. A packet must fit the socket's buffer (about 200 kB).
    """

    def __init__(self) -> None:
        self._out, self._in = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._out.settimeout(0)
        self._most = self._in.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2
        self.waiting = False
        self.shut = False
        """Set in a worker that has become a role's: it takes no further job."""

    def put(self, job: Any) -> None:
        packet = pickle.dumps(job)
        if len(packet) > self._most:
            log.error(
                "[QUEUE] dropped a job or result that is too large",
                size_bytes=len(packet),
                limit_bytes=self._most,
            )
            return
        self._in.send(packet)

    def get(self) -> Any:
        self.waiting = True
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        while True:
            if self.shut:
                threading.Event().wait()  # the thread of the role ends this process
            if not poll.poll(1000):
                continue
            try:
                packet = self._out.recv(self._most * 2)
            except BlockingIOError:
                continue  # another reader was faster
            self.waiting = False
            return pickle.loads(packet)  # noqa: S301  written by our own processes, over a pair no other can open

    def empty(self) -> bool:
        return not select.select([self._out], [], [], 0)[0]

    def qsize(self) -> int:
        """For the status page: whether something waits."""
        return 0 if self.empty() else 1
