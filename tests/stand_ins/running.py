"""Real processes for a test: the product with stand-in roles, in a folder of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from tests.stand_ins.apps import NAMES

ROOT = Path(__file__).resolve().parents[2]
BACK_S = 10.0
"""After any kill every role lives again within this, and after SIGTERM nothing does."""
STARTED_S = 60.0
"""Only against hanging, for a start beside a suite on two cores: `make fresh` holds one to 10 s."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def within(seconds: float, done: Callable[[], object], what: str) -> float:
    """Waits for it and returns how long it took; fails by name when it does not come."""
    start = time.monotonic()
    while not done():
        assert time.monotonic() - start < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - start


class Place:
    """A var folder, the processes that were started on it, and what its Valkey knows of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "stderr.log"
        self.web_port = free_port()
        self.valkey = redis.Redis(unix_socket_path=str(directory / "valkey.sock"), socket_timeout=1)
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *command: str, **env: str) -> subprocess.Popen[str]:
        log = self.log.open("a")
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), *command],
            env={
                **bare_environment(),
                "DJANGO_SETTINGS_MODULE": "tests.stand_ins.settings",
                "QUANTUM_VAR_DIR": str(self.directory),
                "QUANTUM_WEB_PORT": str(self.web_port),
                "APPLY_MODE": "dry_run",
                "DRY_RUN_HOST": "testnet",
                **env,
            },
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            process_group=0,
        )
        log.close()
        self._started.append(process)
        return process

    def end(self) -> None:
        """For the fixture: whatever a failed test left behind."""
        for process in self._started:
            process.terminate()
            if process.stdout:
                process.stdout.close()
        for process in self._started:
            try:
                process.wait(BACK_S)
            except subprocess.TimeoutExpired:
                process.kill()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        self.valkey.close()

    # ---- who lives

    def processes(self) -> list[int]:
        """Every living process that was started on this place, whoever is its parent by now."""
        mark = f"QUANTUM_VAR_DIR={self.directory}".encode()
        found = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in environ.read_bytes().split(b"\0") and _state(environ.parent) != "Z":
                    found.append(int(environ.parent.name))
            except OSError:
                continue
        return sorted(found)

    def holders(self) -> dict[str, int]:
        """role -> pid of who holds its lease now."""
        try:
            leases: list[Any] = self.valkey.mget([f"quantum:lease:{name}" for name in NAMES])
        except redis.RedisError:
            return {}
        return {
            name: int(token.split(b"/")[1])
            for name, token in zip(NAMES, leases, strict=True)
            if token is not None
        }

    def all_roles_live(self) -> bool:
        return len(self.holders()) == len(NAMES) and all(_lives(pid) for pid in self.holders().values())

    def is_whole(self) -> bool:
        """Main process, its sentinel, and all roles in workers of that very sentinel."""
        try:
            sentinel = self.sentinel()
            return self.all_roles_live() and all(_parent(pid) == sentinel for pid in self.holders().values())
        except (ValueError, OSError):
            return False

    def ups(self) -> list[int]:
        return [pid for pid in self.processes() if _command(pid)[-1:] == ["up"] and _group(pid) == pid]

    def main(self) -> int:
        [main] = [
            pid for pid in self.processes() if _command(pid)[-1:] == ["qcluster"] and _group(pid) == pid
        ]
        return main

    def sentinel(self) -> int:
        main = self.main()
        [sentinel] = [pid for pid in self.processes() if _parent(pid) == main and _group(pid) == main]
        return sentinel

    def idle_worker(self) -> int:
        """Pusher and monitor have one thread; a worker has two more, and this one holds no lease."""

        def idle() -> list[int]:
            sentinel, holders = self.sentinel(), self.holders().values()
            workers = [pid for pid in self.processes() if _parent(pid) == sentinel and _threads(pid) == 3]
            return [pid for pid in workers if pid not in holders]

        within(BACK_S, lambda: len(idle()) == 1, "one worker is left for the queue")
        return idle()[0]

    def canary(self) -> bytes | None:
        value: Any = self.valkey.get("quantum:canary")
        return None if value is None else bytes(value)


def bare_environment() -> dict[str, str]:
    """Only what finds Python and its libraries: settings of the test's own process are not the product's."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV") if name in os.environ}


def _lives(pid: int) -> bool:
    try:
        return _state(Path(f"/proc/{pid}")) != "Z"
    except OSError:
        return False


def _state(process: Path) -> str:
    return (process / "stat").read_text().rpartition(")")[2].split()[0]


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _group(pid: int) -> int:
    return os.getpgid(pid)


def _threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def _command(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
