"""The one client factory and the loader of Lua files. Nothing is left to redis-py's defaults.

With its defaults redis-py sends a command again whose answer was lost: one XADD became two
entries. Here nothing is ever resent; a script is idempotent by its token and its caller asks again.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from quantum import clock

# redis-py's own types answer unions of text and bytes, sync and async; ours are always sync and bytes.
Client: TypeAlias = Any
RedisError = redis.RedisError

COMMAND_TIMEOUT_S = 1.0
CONNECTIONS_MAX = 512
"""Of one client. Every waiter of apply needs one while it blocks (lanes.WAITERS_MAX is 256): with
redis-py's default of 100 the 101st wait found the pool empty and heard no wake-up until a line was free."""
QUIET_S = 1.0
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
    """A command is one write and one read on a line of its own pool.

    redis-py takes a line from its pool and gives it back for each command, tries each time whether it still stands (four
    calls of the system), and keeps figures that nobody here reads: 55 of a command's 85 us. Here a line that was used a
    moment ago is taken as it is: where the server has closed it since, the command fails as it would have failed a moment
    later, and nothing is ever resent. Whatever ends a command but its answer ends the line too, so that no answer is
    ever read by another's command.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lines: deque[tuple[Any, float]] = deque()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        line = self._line()
        try:
            line.send_command(*args)
            answer = self.parse_response(line, args[0], **options)
        except redis.ResponseError:
            self._lines.append((line, clock.boot_s()))
            raise
        except BaseException:
            line.disconnect()
            self.connection_pool.release(line)
            raise
        self._lines.append((line, clock.boot_s()))
        return answer

    def _line(self) -> Any:
        try:
            line, used_s = self._lines.pop()
        except IndexError:
            return self.connection_pool.get_connection()
        if clock.boot_s() - used_s < QUIET_S:
            return line
        self.connection_pool.release(line)
        return self.connection_pool.get_connection()


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
    """For commands that answer at once. Shares a pool: safe in threads, not across a fork."""
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
