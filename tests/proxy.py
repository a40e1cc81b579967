"""A line to the server that may lose an answer after the server has acted."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

CHUNK = 65_536
Address = Path | tuple[str, int]
"""A unix socket, or host and port."""
CONNECTIONS_MAX = 400


@dataclass
class Loss:
    """The next `times` requests that contain all needles are carried over; their answers are lost with the line."""

    needles: tuple[bytes, ...]
    times: int
    of: object = None
    """The client's address: of this one line only."""
    heard: bool = True
    """False: they are lost too, before the server hears of them."""
    lost: int = 0

    def takes(self, request: bytes, *, of: object) -> bool:
        if self.lost >= self.times or not all(needle in request for needle in self.needles):
            return False
        if self.of not in (None, of):
            return False
        self.lost += 1
        return True


class Proxy:
    """From one address to another; one thread a connection, and all of them end with `close`."""

    def __init__(self, *, listen: Address, server: Address) -> None:
        self.socket = listen
        self._server = server
        self._loss = Loss((), times=0)
        self._lines: set[socket.socket] = set()
        self._closed = self._shut = False
        self._door = _socket(listen)
        self._door.bind(_name(listen))
        self._door.listen(CONNECTIONS_MAX)
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    @property
    def url(self) -> str:
        return f"unix://{self.socket}?db=0"

    def lose_answers(
        self, *needles: bytes | str, times: int = 1, of: object = None, heard: bool = True
    ) -> Loss:
        as_bytes = tuple(n.encode() if isinstance(n, str) else n for n in needles)
        self._loss = Loss(as_bytes, times, of, heard)
        return self._loss

    def cut(self) -> int:
        """Every line at once; how many there were."""
        lines = list(self._lines)
        for line in lines:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        return len(lines)

    def shut(self) -> int:
        """As `cut`, and whoever comes is hung up on until `open`."""
        self._shut = True
        return self.cut()

    def open(self) -> None:
        self._shut = False

    def close(self) -> None:
        self._closed = True
        with suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        self.cut()

    def _accept(self) -> None:
        while not self._closed:
            try:
                line, _ = self._door.accept()
            except OSError:
                return
            if self._shut or len(self._lines) >= CONNECTIONS_MAX:
                line.close()
                continue
            threading.Thread(target=self._carry, args=(line,), daemon=True).start()

    def _carry(self, line: socket.socket) -> None:
        self._lines.add(line)
        server = _socket(self._server)
        try:
            server.connect(_name(self._server))
            self._until_an_end(line, server)
        except OSError:
            pass  # nobody behind the proxy, or somebody hung up: the line ends, as it would without us
        finally:
            self._lines.discard(line)
            line.close()
            server.close()

    def _until_an_end(self, line: socket.socket, server: socket.socket) -> None:
        request, losing, of = b"", False, line.getpeername()
        while not self._closed:
            readable, _, _ = select.select([line, server], [], [], 1)
            if line in readable:
                sent = line.recv(CHUNK)
                if not sent:
                    return
                request += sent
                loss = self._loss
                losing = losing or loss.takes(request, of=of)
                if losing and not loss.heard:
                    return
                server.sendall(sent)
            if server in readable:
                answer = server.recv(CHUNK)
                if not answer or losing:
                    return  # the server has acted, and nobody hears of it
                request = b""
                line.sendall(answer)


def _socket(address: Address) -> socket.socket:
    if isinstance(address, Path):
        return socket.socket(socket.AF_UNIX)
    line = socket.socket(socket.AF_INET)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return line


def _name(address: Address) -> str | tuple[str, int]:
    return str(address) if isinstance(address, Path) else address
