"""Keys that say when they are written: the server's key tracking, on one connection that asks for nothing.

The feature is probed, never a version: a server, a proxy or a user that refuses CLIENT TRACKING says so by an error,
and whoever wanted to listen polls instead.
"""

from __future__ import annotations

from typing import Any

from redis.exceptions import ResponseError

from quantum.redis import pushed_client

AT_ONCE_MAX = 1000
"""Messages heard before the caller may act on them: a writer that never pauses must not keep it listening."""


class NotOffered(Exception):
    """This server, for this user, does not track keys."""


class Changes:
    """What was written under a prefix since this was made. Raises RedisError when the line is lost: whatever was
    written meanwhile went unheard, so look at everything and make a new one."""

    def __init__(self, *, prefix: str) -> None:
        self._heard: set[str] = set()
        self._client = pushed_client()
        self._line: Any = None
        try:
            self._line = self._client.connection_pool.get_connection()
            self._line.send_command("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", prefix)
            self._line.read_response()
        except ResponseError as refused:
            self.close()
            raise NotOffered(str(refused)) from None
        # redis-py hands pushes to its own cache only; this is the hook that cache uses.
        self._line._parser.set_invalidation_push_handler(self._hear)

    def wait(self, *, within_s: float) -> frozenset[str]:
        """Keys written; empty when none was within that time."""
        if not self._heard and self._line.can_read(timeout=within_s):
            self._line.read_response(push_request=True)
        for _ in range(AT_ONCE_MAX):
            if not self._line.can_read(timeout=0):
                break
            self._line.read_response(push_request=True)
        heard, self._heard = frozenset(self._heard), set()
        return heard

    def prove(self) -> None:
        """A line that was cut without a word looks like silence: ask now and then. Raises RedisError."""
        self._line.send_command("PING")
        self._line.read_response()

    def close(self) -> None:
        if self._line is not None:
            self._line.disconnect()
        self._client.close()

    def _hear(self, message: list[Any]) -> None:
        """Names of keys, or nothing where the whole server was emptied."""
        self._heard.update(name.decode(errors="replace") for name in message[1] or ())
