"""The one client factory and the loader of Lua files. Nothing is left to redis-py's defaults.

With its defaults redis-py sends a command again whose answer was lost: one XADD became two
entries. Here nothing is ever resent; a script is idempotent by its token and its caller asks again.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import hiredis
import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

# redis-py's own types answer unions of text and bytes, sync and async; ours are always sync and bytes.
Client: TypeAlias = Any
RedisError = redis.RedisError

COMMAND_TIMEOUT_S = 1.0
CONNECTIONS_MAX = 512
"""Of one client. Every waiter of apply needs one while it blocks (lanes.WAITERS_MAX is 256): with
redis-py's default of 100 the 101st wait found the pool empty and heard no wake-up until a line was free."""
RESTING_MAX = CONNECTIONS_MAX // 2
"""Of those, at rest between two commands. The pool counts them as in use, and pipelines take theirs from the pool."""
Value = bytes | str | int

WEB = "web"
"""The user of the pages and of every command that does not say otherwise."""
HOST = "host"
"""The user of `up` and of the qcluster, until a process of it becomes a role."""


class NoPassword(RedisError):
    """REDIS_USERS_DIR is set and this process finds no password in it. Says what to do."""


class _Process:
    """Which user this process is at the server, where users are used: one role, one user."""

    user = WEB


def log_in_as(user: str) -> None:
    """For every client that is made from now on. Does nothing where REDIS_USERS_DIR is not set."""
    _Process.user = user


def _login(user: str) -> dict[str, str]:
    if not settings.REDIS_USERS_DIR:
        return {}
    path = Path(settings.REDIS_USERS_DIR) / f"{user}.password"
    try:
        if path.stat().st_mode & 0o077:
            raise NoPassword(f"{path} can be read by others; run: chmod 600 {path}")
        return {"username": user, "password": path.read_text().strip()}
    except OSError as error:
        raise NoPassword(f"{path} cannot be read ({error.strerror}); manage.py redis_acl makes it") from None


class _Straight(redis.Redis):
    """A command is one write and one read on a line of its own pool (decision 047).

    redis-py takes a line from its pool and gives it back for each command, under locks and with figures that nobody
    here reads. Here the lines that rest are in a list: whoever takes one from it is alone with it. Whatever ends a
    command but its whole answer ends the line too, so that no answer is ever read by another's command.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._resting: deque[Any] = deque()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        line = self._line()
        try:
            line.send_packed_command(_packed(args))
            answer = self.parse_response(line, args[0], **options)  # type: ignore[no-untyped-call]
        except redis.ResponseError:  # a whole answer too
            self._put_back(line)
            raise
        except BaseException:
            line.disconnect()
            self.connection_pool.release(line)
            raise
        self._put_back(line)
        return answer

    def _line(self) -> Any:
        try:
            line = self._resting.pop()
        except IndexError:
            return self.connection_pool.get_connection()
        if _stands(line):
            return line
        self.connection_pool.release(line)
        return self.connection_pool.get_connection()

    def _put_back(self, line: Any) -> None:
        if len(self._resting) < RESTING_MAX:
            self._resting.append(line)
        else:
            self.connection_pool.release(line)


def _packed(command: tuple[Any, ...]) -> list[bytes]:
    """redis-py looks at every argument for types that we never send, which is dearer than the packing."""
    words, arguments = command[0].split(), command[1:]  # some names are of two words
    try:
        return [hiredis.pack_command((*words, *arguments))]
    except TypeError as wrong:
        raise redis.DataError(str(wrong)) from None


def _stands(line: Any) -> bool:
    """The pool's own test, one call of the system: nobody closed it, and nothing lies in it that was not asked for.
    After a fork it is the parent's."""
    try:
        return line.pid == os.getpid() and not line.can_read()
    except RedisError:
        return False


def _client(*, socket_timeout_s: float, user: str = "", **more: Any) -> Client:
    return _Straight.from_url(
        settings.REDIS_URL,
        **_login(user or _Process.user),
        socket_timeout=socket_timeout_s,
        socket_connect_timeout=COMMAND_TIMEOUT_S,
        max_connections=CONNECTIONS_MAX,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
        decode_responses=False,  # a stranger's bytes may be anything; decoding is the parser's job
        health_check_interval=0,
        driver_info=None,  # two commands less for each connection, and a role's user may not send them
        **{"protocol": 2, **more},
    )


def command_client(*, user: str = "") -> Client:
    """For commands that answer at once. Shares a pool: safe in threads, and a forked child makes its own lines."""
    return _client(socket_timeout_s=COMMAND_TIMEOUT_S, user=user)


def blocking_client(*, block_s: float) -> Client:
    """For one blocking reader; its socket timeout is always longer than its block."""
    return _client(socket_timeout_s=block_s + COMMAND_TIMEOUT_S)


def pushed_client() -> Client:
    """RESP3, where the server speaks without being asked: for quantum.tracking only."""
    silent = MaintNotificationsConfig(enabled=False)  # a handshake that no server of ours knows
    return _client(socket_timeout_s=COMMAND_TIMEOUT_S, protocol=3, maint_notifications_config=silent)


class Script:
    """One Lua file. The number in its name is its number of keys, and calls are held to it."""

    def __init__(self, path: Path) -> None:
        self.name, _, count = path.stem.rpartition("-")
        self.key_count = int(count)
        self.text = path.read_text()
        self.sha = hashlib.sha1(self.text.encode()).hexdigest()  # noqa: S324  Redis names scripts so

    def __call__(self, client: Client, *, keys: Sequence[str], args: Sequence[Value]) -> Any:
        if len(keys) != self.key_count:
            raise ValueError(f"{self.name}.lua takes {self.key_count} keys, got {len(keys)}")
        try:
            return client.evalsha(self.sha, len(keys), *keys, *args)
        except NoScriptError:
            # It did not run, so asking again is safe: a restarted server forgets its scripts.
            return client.eval(self.text, len(keys), *keys, *args)


@cache
def script(path: Path) -> Script:
    return Script(path)
