"""Key tracking on real servers: what is heard, what is not, and how a server says that it does not offer it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_django.fixtures import Settings

from quantum import tracking
from quantum.redis import Client, RedisError
from quantum.tracking import Changes, NotOffered
from tests.house import wait_for

PREFIX = "quantum:harvest:proposal:"


def url_of(server: Client, login: str = "") -> str:
    return f"unix://{login}{server.connection_pool.connection_kwargs['path']}"


@pytest.fixture
def changes(real_server: Client, settings: Settings) -> Iterator[Changes]:
    settings.REDIS_URL = url_of(real_server)
    made = Changes(prefix=PREFIX)
    yield made
    made.close()


def test_whatever_is_written_under_the_prefix_is_heard_and_nothing_else(
    real_server: Client, changes: Changes
) -> None:
    assert changes.wait(within_s=0) == frozenset()
    real_server.hset("quantum:position:snapshot:BTCUSDT", "a", "1")
    real_server.hset(f"{PREFIX}BTCUSDT", "a", "1")
    assert changes.wait(within_s=2) == {f"{PREFIX}BTCUSDT"}
    for symbol in ("BTCUSDT", "ETHUSDT"):  # again without having read it: broadcasting needs no read
        real_server.hset(f"{PREFIX}{symbol}", "a", "2")
    heard: set[str] = set()

    def both() -> bool:
        heard.update(changes.wait(within_s=0.1))
        return len(heard) == 2

    wait_for(both, what="both keys")
    assert changes.wait(within_s=0) == frozenset()


def test_what_is_written_while_the_line_is_proved_is_not_lost(real_server: Client, changes: Changes) -> None:
    real_server.hset(f"{PREFIX}BTCUSDT", "a", "1")
    changes.prove()
    assert changes.wait(within_s=2) == {f"{PREFIX}BTCUSDT"}


def test_a_writer_that_never_pauses_does_not_keep_it_listening(
    real_server: Client, changes: Changes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "AT_ONCE_MAX", 10)
    keys = {f"{PREFIX}S{number}" for number in range(50)}
    for key in sorted(keys):  # each its own command, so each its own message
        real_server.set(key, "x")
    first = changes.wait(within_s=2)
    assert 0 < len(first) <= 11
    heard = set(first)

    def all_of_them() -> bool:
        heard.update(changes.wait(within_s=0.1))
        return heard == keys

    wait_for(all_of_them, what="all of them in turn")


def test_an_emptied_server_is_no_error(real_server: Client, changes: Changes) -> None:
    real_server.flushall()
    real_server.hset(f"{PREFIX}BTCUSDT", "a", "1")
    wait_for(lambda: f"{PREFIX}BTCUSDT" in changes.wait(within_s=0.1), what="the key")


def test_a_line_that_is_cut_says_so(real_server: Client, changes: Changes) -> None:
    real_server.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    with pytest.raises(RedisError):
        changes.prove()


def test_a_server_that_refuses_is_told_apart_from_one_that_is_down(
    real_server: Client, settings: Settings
) -> None:
    real_server.execute_command("ACL", "SETUSER", "plain", "on", ">x", "~*", "+@all", "-client|tracking")
    settings.REDIS_URL = url_of(real_server, login="plain:x@")
    with pytest.raises(NotOffered):
        Changes(prefix=PREFIX)
    real_server.execute_command("ACL", "DELUSER", "plain")
    settings.REDIS_URL = "unix:///nowhere/at-all.sock"
    with pytest.raises(RedisError):
        Changes(prefix=PREFIX)
