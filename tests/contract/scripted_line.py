"""A TCP server that plays one scripted answer per connection step and keeps what it read."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

RESET = b"reset"
CUT = b"cut"
SILENT = b"silent"


def http(status: int, body: str, *headers: str, reason: str = "X") -> bytes:
    lines = [f"HTTP/1.1 {status} {reason}", f"Content-Length: {len(body.encode())}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


@dataclass
class ScriptedLine:
    answers: list[bytes]
    base_url: str = ""
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    _open: list[socket.socket] = field(default_factory=list)

    def bodies(self) -> list[dict[str, str]]:
        pairs = [request.partition(b"\r\n\r\n")[2].decode().split("&") for request in self.requests]
        return [dict(pair.split("=", 1) for pair in one) for one in pairs]

    def accept(self, listener: socket.socket) -> None:
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(line)
            threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def close(self) -> None:
        """Also those on which an answer is still waited for: a close alone does not wake who reads from it."""
        for line in self._open:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()

    def _serve(self, line: socket.socket) -> None:
        while request := _read_request(line):
            self.requests.append(request)
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if answer == SILENT:
                continue
            if answer == RESET:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            if answer in (RESET, CUT):
                break
            line.sendall(answer)
        line.close()


@contextmanager
def scripted_line(*answers: bytes) -> Iterator[ScriptedLine]:
    """The last answer is repeated for ever."""
    listener = socket.create_server(("127.0.0.1", 0))
    played = ScriptedLine(list(answers), f"http://127.0.0.1:{listener.getsockname()[1]}/fapi")
    thread = threading.Thread(target=played.accept, args=(listener,), daemon=True)
    thread.start()
    try:
        yield played
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        played.close()
        thread.join(2)


def _read_request(line: socket.socket) -> bytes:
    """One request with its body; empty when the other side is gone."""
    data = b""
    try:
        while b"\r\n\r\n" not in data:
            more = line.recv(65536)
            if not more:
                return b""
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (int(h.split(b":")[1]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length:")),
            0,
        )
        while len(body) < length:
            more = line.recv(65536)
            if not more:
                return b""
            body += more
    except OSError:
        return b""
    return head + b"\r\n\r\n" + body
