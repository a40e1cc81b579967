"""The lines of a client: every command gets its own answer, whatever ended the one before, and none is sent twice."""

from __future__ import annotations

import gc
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from pytest_django.fixtures import Settings
from redis.exceptions import AuthenticationError, BusyLoadingError, DataError, ReadOnlyError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from quantum import redis as lines
from quantum.redis import Client, RedisError, blocking_client, command_client
from tests.house import wait_for
from tests.own_server import OwnServer, running

MANY = 50
USER = ("ACL", "SETUSER", "plain", "reset", "on", "~*", "&*", "+@all")


@pytest.fixture(scope="module")
def server() -> Iterator[OwnServer]:
    with running() as server:
        yield server


@pytest.fixture
def own(server: OwnServer, settings: Settings) -> Iterator[OwnServer]:
    settings.REDIS_URL = server.url
    yield server
    server.calm()


@pytest.fixture
def client(own: OwnServer) -> Iterator[Client]:
    client = command_client()
    yield client
    client.close()


def gets_its_own_answers(client: Client) -> bool:
    return [client.echo(f"word {number}") for number in range(3)] == [b"word 0", b"word 1", b"word 2"]


def lines_at(own: OwnServer) -> int:
    """But for the one that asks."""
    return len(own.client.client_list()) - 1


def at_once(client: Client, own: OwnServer, count: int) -> None:
    """As many commands in flight at one time, so as many lines at rest after it."""
    with ThreadPoolExecutor(count) as threads:
        waits = [threads.submit(client.blpop, ["at once"], 5) for _ in range(count)]
        wait_for(lambda: own.client.info("clients")["blocked_clients"] == count, what="all of them at once")
        own.client.rpush("at once", *["x"] * count)
        assert all(wait.result() for wait in waits)


# ---- what keeps a line


def test_commands_one_after_another_take_one_line(client: Client, own: OwnServer) -> None:
    first = client.client_id()
    client.set("text", "x")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        client.lpush("text", "x")
    assert client.eval("return {1, redis.error_reply('ERR within'), 2}", 0)[2] == 2
    with client.pipeline(transaction=True) as together:
        together.lpush("text", "x").get("text")
        assert together.execute(raise_on_error=False)[1] == b"x"
    assert client.client_id() == first
    assert gets_its_own_answers(client)


def test_a_hundred_threads_get_each_its_own_answers(client: Client) -> None:
    def asks(number: int) -> bool:
        words = [f"{number} {turn}".encode() for turn in range(50)]
        return [client.echo(word) for word in words] == words

    with ThreadPoolExecutor(100) as threads:
        assert all(threads.map(asks, range(100)))


# ---- what ends it


def test_an_answer_that_came_too_late_is_read_by_nobody(client: Client, own: OwnServer) -> None:
    assert gets_its_own_answers(client)
    own.freeze()
    with pytest.raises(RedisTimeoutError):
        client.echo("too late")
    own.thaw()
    assert gets_its_own_answers(client)


def test_a_wake_up_that_came_after_the_wait_is_read_by_nobody(own: OwnServer) -> None:
    waiting = blocking_client(block_s=-0.5)  # its socket gives up before the server does
    with pytest.raises(RedisTimeoutError):
        waiting.blpop(["wake"], timeout=1)
    own.client.rpush("wake", "x")
    assert gets_its_own_answers(waiting)
    waiting.close()


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_whatever_ends_a_command_between_its_write_and_its_read_ends_the_line(
    client: Client, own: OwnServer, monkeypatch: pytest.MonkeyPatch, end: type[BaseException]
) -> None:
    """Its answer comes later than the next command is written, so that no look at the line would find it."""

    def ends(*_: object, **__: object) -> None:
        raise end

    client.connection_pool.max_connections = 1  # and its place in the pool is free again
    client.ping()
    with monkeypatch.context() as patched:
        patched.setattr(client, "parse_response", ends)
        with pytest.raises(end):
            client.blpop(["nobody pushes"], timeout=0.3)
    assert gets_its_own_answers(client)


def test_a_signal_in_the_middle_of_a_wait_ends_the_line(own: OwnServer) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    client, before = blocking_client(block_s=5), signal.signal(signal.SIGUSR1, interrupt)
    ready = threading.Event()

    def tell() -> None:
        ready.wait(5)
        wait_for(lambda: own.client.info("clients")["blocked_clients"] == 1, what="the wait")
        os.kill(os.getpid(), signal.SIGUSR1)

    telling = threading.Thread(target=tell)
    telling.start()
    try:
        ready.set()
        with pytest.raises(KeyboardInterrupt):
            client.blpop(["nobody pushes"], timeout=5)
        own.client.rpush("nobody pushes", "x")
        assert gets_its_own_answers(client)
    finally:
        telling.join()
        signal.signal(signal.SIGUSR1, before)
        client.close()


def test_an_answer_that_nobody_understands_is_that_commands_alone(client: Client) -> None:
    client.set_response_callback("ECHO", lambda answer: int(answer))
    with pytest.raises(ValueError, match="word"):
        client.echo("word")
    assert [client.echo(str(number)) for number in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("error", ["LOADING x", "WRONGPASS x", "NOAUTH x", "READONLY x", "MOVED 1"])
@pytest.mark.parametrize("before", ["", "1, "])
def test_an_error_within_an_answer_leaves_nothing_for_the_next(
    client: Client, error: str, before: str
) -> None:
    """redis-py takes some for the end of the line, where they stand first, and stumbles over others."""
    with suppress(RedisError, ValueError):
        client.eval(f"return {{{before}redis.error_reply('{error}'), 2, 3}}", 0)
    assert gets_its_own_answers(client)


# ---- a server that is no real one


class Played:
    """One prepared answer for each thing that is read, and then `+last` for ever."""

    def __init__(self, path: Path) -> None:
        self.url = f"unix://{path}"
        self.answers: list[bytes] = []
        self.requests: list[bytes] = []
        self._lines: list[socket.socket] = []
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(path))
        self._door.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def say(self, word: bytes) -> None:
        for line in self._lines:
            line.sendall(word)

    def close(self) -> None:
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._door.accept()
            except OSError:
                return
            self._lines.append(line)
            threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        with line, suppress(OSError):  # who hangs up with words unread resets the line
            while request := line.recv(65536):
                self.requests.append(request)
                answer = self.answers.pop(0) if self.answers else b"+last\r\n"
                line.sendall(answer.removesuffix(b"CUT"))
                if answer.endswith(b"CUT"):
                    return


@pytest.fixture
def played(settings: Settings) -> Iterator[Played]:
    with tempfile.TemporaryDirectory(prefix="quantum-own-", dir="/tmp") as folder:
        played = Played(Path(folder) / "played.sock")
        settings.REDIS_URL = played.url
        yield played
        played.close()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"$10\r\nhalf", RedisTimeoutError),
        (b"$10\r\nhalfCUT", RedisConnectionError),
        (b"*3\r\n:1\r\n", RedisTimeoutError),
        (b"CUT", RedisConnectionError),
        (b"-LOADING soon\r\n", BusyLoadingError),
        (b"-NOAUTH first\r\n", AuthenticationError),
        (b"-WRONGPASS no\r\n", AuthenticationError),
        (b"-ERR max number of clients reached\r\nCUT", RedisConnectionError),
        (b"-READONLY replica\r\n", ReadOnlyError),
        (b"-BUSY script\r\n", ResponseError),
        (b"what is this\r\n", RedisError),
    ],
    ids=lambda value: value.decode().strip() if isinstance(value, bytes) else "",
)
def test_an_answer_that_is_none_is_not_asked_for_again_and_the_next_command_has_its_own(
    played: Played, answer: bytes, error: type[Exception]
) -> None:
    client = command_client()
    played.answers = [b"+first\r\n", answer]
    assert client.execute_command("ONE") == b"first"
    with pytest.raises(error):
        client.execute_command("TWO")
    assert client.execute_command("THREE") == b"last"
    assert [request.split()[-1] for request in played.requests] == [b"ONE", b"TWO", b"THREE"]
    client.close()


def test_a_pipeline_whose_answer_was_lost_is_not_sent_again(played: Played) -> None:
    client = command_client()
    played.answers = [b"+first\r\n", b"CUT"]
    assert client.execute_command("ONE") == b"first"
    with client.pipeline(transaction=False) as together, pytest.raises(RedisConnectionError):
        together.execute_command("TWO").execute()
    assert [request.split()[-1] for request in played.requests] == [b"ONE", b"TWO"]
    client.close()


@pytest.mark.parametrize("later", [True, False])
def test_what_a_server_says_without_being_asked_is_nobodys_answer(played: Played, later: bool) -> None:
    """In one piece with an answer it lies in the reader; later, it lies in the socket."""
    client = command_client()
    played.answers = [b"+one\r\n" if later else b"+one\r\n+unasked\r\n"]
    assert client.execute_command("ONE") == b"one"
    if later:
        played.say(b"+unasked\r\n")
    assert [client.execute_command("NEXT") for _ in range(3)] == [b"last"] * 3
    client.close()


# ---- the server goes and comes


def test_a_server_that_was_started_anew_costs_no_command(client: Client, own: OwnServer) -> None:
    """Waiters whose lines were all used a moment ago. A write on a dead line is a command that may have been done."""
    at_once(client, own, MANY)
    own.restart()
    at_once(client, own, MANY)  # all of them again, and each at its first go
    assert gets_its_own_answers(client)


def test_while_the_server_is_away_every_command_says_so_and_every_line_comes_back(
    client: Client, own: OwnServer
) -> None:
    at_once(client, own, MANY)
    own.kill()
    for _ in range(2 * MANY):
        with pytest.raises(RedisConnectionError):
            client.ping()
    own.start()
    client.connection_pool.max_connections = MANY  # not one of them was lost
    at_once(client, own, MANY)
    assert gets_its_own_answers(client)


def test_a_user_whose_lines_were_cut_logs_in_anew(own: OwnServer, settings: Settings) -> None:
    own.client.execute_command(*USER, ">first")
    settings.REDIS_URL = own.url.replace("unix://", "unix://plain:first@")
    client = command_client()
    assert gets_its_own_answers(client)
    own.client.execute_command("ACL", "DELUSER", "plain")  # the server cuts his lines
    with pytest.raises(AuthenticationError):
        client.ping()
    own.client.execute_command(*USER, ">first")
    assert gets_its_own_answers(client)
    own.client.execute_command(*USER, ">second")
    assert gets_its_own_answers(client), "a line that stands is his until it is cut, at any server"
    own.client.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(AuthenticationError):
        client.ping()
    client.close()
    own.client.execute_command("ACL", "DELUSER", "plain")


# ---- the pool behind them


def closed(client: Client) -> None:
    client.close()


def dropped(_client: Client) -> None:
    pass


@pytest.mark.parametrize("end", [closed, dropped])
def test_the_end_of_a_client_ends_its_lines(own: OwnServer, end: Callable[[Client], None]) -> None:
    before = lines_at(own)
    client = command_client()
    at_once(client, own, 5)
    assert lines_at(own) >= before + 5
    end(client)
    del client
    gc.collect()
    wait_for(lambda: lines_at(own) <= before, what="the end of its lines")


def test_a_closed_client_connects_again(client: Client, own: OwnServer) -> None:
    at_once(client, own, 3)
    client.close()
    assert gets_its_own_answers(client)
    at_once(client, own, 3)


def test_lines_at_rest_leave_room_for_pipelines(
    client: Client, own: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """512 commands at once had left no line for a pipeline, for as long as the process lived."""
    monkeypatch.setattr(lines, "RESTING_MAX", 2)
    client.connection_pool.max_connections = 4
    at_once(client, own, 4)
    with client.pipeline() as one, client.pipeline() as other:
        assert one.watch("a")
        assert other.watch("a")
    at_once(client, own, 4)


def test_a_forked_child_makes_lines_of_its_own(client: Client, own: OwnServer) -> None:
    parents = client.client_id()
    child = os.fork()
    if child == 0:
        own_line = False
        try:
            own_line = client.client_id() != parents and gets_its_own_answers(client)
        finally:
            os._exit(0 if own_line else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert client.client_id() == parents, "the child's end cut it"
    assert gets_its_own_answers(client)


def test_a_name_of_two_words_is_two_words_to_the_server(client: Client) -> None:
    client.set("text", "x")
    assert client.execute_command("OBJECT REFCOUNT", "text") >= 1


def test_what_no_command_can_carry_is_refused_and_the_next_one_hears_its_own_answer(client: Client) -> None:
    with pytest.raises(DataError):
        client.set("text", object())
    assert gets_its_own_answers(client)
