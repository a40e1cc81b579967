"""The server between an attempt's look and its spend: things happen, answers are lost, memories come back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

from quantum.redis import Client


class Line:
    """The server as one attempt sees it."""

    def __init__(self, server: Client, *, meanwhile: Callable[[], None] | None, loses: bool) -> None:
        self._server = server
        self._meanwhile = meanwhile
        self._loses = loses
        self.judge: Callable[[list[Any], list[Any]], None] = lambda _args, _answer: None
        self.expect: Callable[[list[Any]], None] = lambda _args: None

    def evalsha(self, *args: Any) -> Any:
        return self._run(self._server.evalsha, args)

    def eval(self, *args: Any) -> Any:
        return self._run(self._server.eval, args)

    def _run(self, run: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        argv = list(args[2 + int(args[1]) :])
        if not argv[1]:
            return run(*args)  # a look
        if self._meanwhile is not None:
            meanwhile, self._meanwhile = self._meanwhile, None
            meanwhile()
        self.expect(argv)
        answer = run(*args)
        self.judge(argv, answer)
        if self._loses:
            self._loses = False
            raise RedisConnectionError("the answer was lost")
        return answer


def dumped(server: Client) -> dict[bytes, tuple[bytes, int]]:
    found = {key: (server.dump(key), max(server.pttl(key), 0)) for key in server.keys("*")}
    return {key: (raw, ttl) for key, (raw, ttl) in found.items() if raw is not None}


def restore(server: Client, older: dict[bytes, tuple[bytes, int]]) -> None:
    server.flushall()
    for key, (raw, ttl) in older.items():
        server.restore(key, ttl, raw)
