"""A Valkey of a test's own, that may be hurt: killed, frozen, restarted with less than it knew."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from quantum import embedded
from quantum.processes import wait_until
from quantum.redis import Client

CALM = {
    "maxmemory": "0",
    "min-replicas-to-write": "0",
    "busy-reply-threshold": "5000",
    "appendonly": "yes",
    "notify-keyspace-events": "",
}


class OwnServer:
    def __init__(self, folder: Path) -> None:
        self.socket = folder / "own.sock"
        self._data = folder / "own"
        self._process: subprocess.Popen[bytes] | None = None
        self.client: Client = redis.Redis(unix_socket_path=str(self.socket), socket_timeout=5, protocol=2)

    @property
    def url(self) -> str:
        return f"unix://{self.socket}?db=0"

    def start(self) -> None:
        self._process = embedded.start(directory=self._data, unix_socket=self.socket)
        assert embedded.wait_until_ready(unix_socket=self.socket)

    def calm(self) -> None:
        """Every fault ends here, whichever it was."""
        if self._process is None or self._process.poll() is not None:
            self.start()
        self.thaw()
        self.client.execute_command("CLIENT", "UNPAUSE")
        self.client.execute_command("REPLICAOF", "NO", "ONE")
        for name, value in CALM.items():
            self.client.config_set(name, value)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(5)
            self._process = None
        self.client.connection_pool.disconnect()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            os.kill(self._process.pid, number)

    # ---- what it remembers

    @property
    def _log(self) -> Path:
        """The part of the append-only file that is being written."""
        return max((self._data / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)

    def written(self) -> int:
        """How much the append-only file holds now; a mark for `restart(remembering=...)`."""
        # What came before an answer is written, unless an fsync is under way: then the server holds it back.
        assert wait_until(lambda: self.client.info("persistence")["aof_buffer_length"] == 0, within_s=5)
        return self._log.stat().st_size

    def restart(self, *, remembering: int | None = None) -> None:
        """kill -9 and start again; with a mark, what was written after it was lost (`everysec`)."""
        log = self._log
        self.kill()
        if remembering is not None:
            os.truncate(log, remembering)
        self.start()

    def restart_empty(self) -> None:
        self.kill()
        for part in (self._data / "appendonlydir").iterdir():
            part.unlink()
        self.start()

    # ---- another's script that does not end

    @contextmanager
    def busy(self) -> Iterator[None]:
        """-BUSY to everyone, until a person kills the script."""
        self.client.config_set("busy-reply-threshold", "50")
        script: Client = redis.Redis(unix_socket_path=str(self.socket), socket_timeout=60, protocol=2)
        connection = script.connection_pool.get_connection()
        connection.send_command("EVAL", "while true do end", 0)
        try:
            yield
        finally:
            self.client.execute_command("SCRIPT", "KILL")
            assert wait_until(lambda: not refuses(self.client, "BUSY"), within_s=5)
            connection.disconnect()
            script.close()


def refuses(client: Client, word: str) -> bool:
    """Whether a write is answered with this error now."""
    try:
        client.set("probe", "1")
    except redis.ResponseError as error:
        return word in f"{type(error).__name__} {error}"
    return False


@contextmanager
def running() -> Iterator[OwnServer]:
    """For a module's tests. The path of its socket is short: the system takes 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="quantum-own-", dir="/tmp") as folder:
        server = OwnServer(Path(folder))
        server.start()
        yield server
        server.thaw()
        server.kill()
