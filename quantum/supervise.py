"""Starts processes, watches them, starts them again, and leaves none behind. `up` is made of this."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from quantum import clock
from quantum.log import log
from quantum.processes import die_with_parent, signal_group

TURN_S = 0.5
KILL_AFTER_S = 3.0
STORM_WINDOW_S = 60.0
STORM_STARTS = 6
"""More starts than this within the window are a storm: then each waits longer than the last."""
STORM_WAIT_S_MAX = 30.0


class Child:
    """One program in a process group of its own. What it leaves in its group ends with it."""

    def __init__(
        self, *, name: str, argv: Sequence[str], env: Mapping[str, str], cwd: Path, drains: bool = False
    ) -> None:
        self.name = name
        self.drains = drains
        self.started_s = 0.0
        self._argv, self._env, self._cwd = list(argv), dict(env), cwd
        self._process: subprocess.Popen[bytes] | None = None
        self._starts: deque[float] = deque(maxlen=STORM_STARTS * 2)
        self._not_before_s: float | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._process.poll() if self._process else None

    def start(self) -> None:
        self.started_s = clock.monotonic_s()
        self._starts.append(self.started_s)
        self._process = subprocess.Popen(
            self._argv,
            env=self._env,
            cwd=self._cwd,
            stdin=subprocess.DEVNULL,
            stdout=2,  # talk belongs on stderr
            process_group=0,
            # By SIGTERM, so that roles still drain when `up` itself was killed.
            preexec_fn=die_with_parent(os.getpid(), by=signal.SIGTERM),
        )

    def come_back(self) -> None:
        """At once, unless it keeps dying: then after a growing pause, said once per start."""
        now_s = clock.monotonic_s()
        if self._not_before_s is None:
            self.end()  # what its death left in the group
            recent = sum(1 for start_s in self._starts if now_s - start_s < STORM_WINDOW_S)
            wait_s = min(2.0 ** (recent - STORM_STARTS), STORM_WAIT_S_MAX) if recent >= STORM_STARTS else 0.0
            self._not_before_s = now_s + wait_s
            say = log.error if wait_s else log.warning
            what = "[UP] restart storm" if wait_s else "[UP] ended, starting it again"
            say(
                what,
                child=self.name,
                exit_code=self.exit_code,
                starts_in_last_minute=recent,
                next_start_in_s=wait_s,
            )
        if now_s >= self._not_before_s:
            self._not_before_s = None
            self.start()

    def ask_to_end(self) -> None:
        if self._process:
            signal_group(self._process.pid, signal.SIGTERM)

    def end(self, *, within_s: float = KILL_AFTER_S) -> None:
        """The whole group: asked, given its time, then killed."""
        if self._process is None:
            return
        self.ask_to_end()
        if not self._gone(within_s):
            signal_group(self._process.pid, signal.SIGKILL)
            self._gone(2.0)

    def _gone(self, within_s: float) -> bool:
        end_s = clock.monotonic_s() + within_s
        while self._process and (self.alive or signal_group(self._process.pid, 0)):
            reap_orphans(known={self._process.pid})
            if clock.monotonic_s() >= end_s:
                return False
            clock.sleep_s(0.05)
        return True


def reap_orphans(*, known: set[int | None]) -> None:
    """An adopted process that ended stays in its group as a zombie until it is waited for."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in known:
            return  # one of ours is waited for by its Popen
        os.waitpid(ended.si_pid, os.WNOHANG)


class Supervisor:
    """Children in the order they depend on each other; each turn looks after all of them."""

    def __init__(self, *, told_to_stop: Callable[[], bool]) -> None:
        self.children: list[Child] = []
        self._told_to_stop = told_to_stop

    def add(self, child: Child) -> Child:
        self.children.append(child)
        child.start()
        return child

    def turn(self) -> None:
        reap_orphans(known={child.pid for child in self.children})
        for child in self.children:
            if not child.alive and not self._told_to_stop():
                child.come_back()

    def restart(self, child: Child, *, because: str) -> None:
        log.error("[UP] starting again", child=child.name, because=because)
        child.end()

    def end_all(self, *, drain_s: float) -> None:
        """Against the order of dependence: who works ends before what it works with."""
        for child in self.children:
            if child.drains:
                child.ask_to_end()
        for child in reversed(self.children):
            child.end(within_s=drain_s if child.drains else KILL_AFTER_S)
