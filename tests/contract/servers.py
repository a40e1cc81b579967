"""Every server our Lua must run on, behind one fixture: the fake, the embedded Valkey, a real Redis 7."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import fakeredis
import pytest
import redis
from django.conf import settings

from quantum import embedded
from quantum.processes import die_with_parent
from quantum.redis import Client, Script

ROOT = Path(__file__).resolve().parents[2]
REAL = ("valkey", "redis7")
NOT_HERE = "no redis-server on the PATH: Debian's Redis 7 is not tried here"


def lua(name: str) -> Script:
    """A script by its file name without the number: the suites call what the product ships."""
    [path] = ROOT.glob(f"[apq]*/**/lua/{name}-*.lua")
    return Script(path)


def now_ms(server: Client) -> int:
    """The server's own clock, as the scripts see it."""
    seconds, microseconds = server.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


def contents(server: Client) -> dict[bytes, object]:
    """Every key with its exact content, and whether it expires: for `nothing was changed`."""
    return {key: (_content(server, key), server.pttl(key) == -1) for key in sorted(server.keys("*"))}


def _content(server: Client, key: bytes) -> object:
    kind = server.type(key)
    if kind == b"string":
        return server.get(key)
    if kind == b"hash":
        return server.hgetall(key)
    if kind == b"list":
        return server.lrange(key, 0, -1)
    assert kind == b"stream", kind
    return server.xrange(key)


def client_of(socket: Path) -> Client:
    return redis.Redis(unix_socket_path=str(socket), socket_timeout=5, protocol=2)


@pytest.fixture(scope="session")
def redis7() -> Iterator[Path]:
    """Debian's server on a socket of its own; killed with this process."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip(NOT_HERE)
    with tempfile.TemporaryDirectory(prefix="quantum-redis-") as folder:
        socket = Path(folder) / "redis.sock"
        server = subprocess.Popen(
            [binary, "--port", "0", "--unixsocket", str(socket), "--dir", folder, "--save", ""],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            process_group=0,
            preexec_fn=die_with_parent(os.getpid()),
        )
        assert embedded.wait_until_ready(unix_socket=socket)
        yield socket
        server.terminate()
        server.wait(5)


@pytest.fixture(params=("fakeredis", *REAL))
def server(request: pytest.FixtureRequest) -> Client:
    """An empty server; answers are bytes."""
    return _started(request)


@pytest.fixture(params=REAL)
def real_server(request: pytest.FixtureRequest) -> Client:
    """For races and restarts, which the fake does not have."""
    return _started(request)


def _started(request: pytest.FixtureRequest) -> Client:
    if request.param == "fakeredis":
        return fakeredis.FakeRedis(version=(7,))
    if request.param == "valkey":
        request.getfixturevalue("valkey")
        socket = settings.EMBEDDED_SOCKET
    else:
        socket = request.getfixturevalue("redis7")
    client = client_of(socket)
    client.flushall()
    request.addfinalizer(client.close)
    return client
