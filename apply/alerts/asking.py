"""One HTTP request to somebody else's address, with an end for sure, and following nobody anywhere else."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit

STEP_S = 4.0
WHOLE_S = 8.0
FAILURES = (OSError, http.client.HTTPException, ValueError)
"""What it raises; the texts may carry the address. ValueError: a port or a name that is none."""


def ask(method: str, url: str, *, body: bytes = b"", headers: Mapping[str, str]) -> int:
    """The status. A redirect is one like any other: what was signed for one address is shown to no other."""
    there = urlsplit(url)
    secure = there.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    line = kind(there.hostname or "", there.port, timeout=STEP_S)
    path = (there.path or "/") + (f"?{there.query}" if there.query else "")
    try:
        line.connect()
        # The timeout is one of each read: a target that sends a byte every second would never come to its end.
        late = threading.Event()
        cut = threading.Timer(WHOLE_S, _cut, [line.sock, late])
        cut.daemon = True
        cut.start()
        try:
            line.request(method, path, body=body or None, headers=dict(headers))
            status = line.getresponse().status
            if late.is_set():  # an answer that was cut reads like one that ended there
                raise TimeoutError
            return status
        finally:
            cut.cancel()
    finally:
        line.close()


def _cut(sock: socket.socket, late: threading.Event) -> None:
    late.set()
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
