"""The lease on the real server and on the fake: the same answers, or the fake would lie."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import fakeredis
import pytest
import redis

from quantum import clock, embedded, lease
from quantum.keys import Keys
from quantum.lease import Lease, Watch

KEYS = Keys()


@pytest.fixture(scope="module")
def valkey() -> Iterator[redis.Redis]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        socket = Path(folder) / "valkey.sock"
        server = embedded.start(directory=Path(folder) / "data", unix_socket=socket)
        assert embedded.wait_until_ready(unix_socket=socket)
        yield redis.Redis(unix_socket_path=str(socket), socket_timeout=1)
        server.terminate()
        server.wait(5)


@pytest.fixture(params=["valkey", "fakeredis"])
def client(request: pytest.FixtureRequest) -> redis.Redis:
    if request.param == "fakeredis":
        return fakeredis.FakeRedis()
    real: redis.Redis = request.getfixturevalue("valkey")
    real.flushall()
    return real


def make(client: redis.Redis, *, host: str = "here", pid: int = 1) -> Lease:
    return Lease(client=client, keys=KEYS, role="governor", host=host, pid=pid, versions={"python": "3"})


class Hands:
    """Clock hands that a test turns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at_s = 1000.0
        monkeypatch.setattr(clock, "boot_s", lambda: self.at_s)


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    return Hands(monkeypatch)


def test_a_free_lease_is_taken_with_its_life_and_a_heartbeat(client: redis.Redis) -> None:
    assert make(client).take() is None
    assert 0 < client.pttl("quantum:lease:governor") <= lease.FIRST_LIFE_MS
    heartbeat = json.loads(client.get("quantum:heartbeat:governor:here") or b"")
    assert heartbeat["pid"] == 1
    assert abs(heartbeat["at_ms"] - clock.now_ms()) < 5000
    assert heartbeat["python"] == "3"


def test_a_held_lease_is_refused_and_names_its_holder(client: redis.Redis) -> None:
    make(client, host="there", pid=7).take()
    assert make(client).take() == "there/7"


def test_taking_again_after_a_lost_answer_gives_the_same_answer(client: redis.Redis) -> None:
    mine = make(client)
    assert mine.take() is None
    assert mine.take() is None


def test_two_processes_of_one_host_and_pid_are_still_two(client: redis.Redis) -> None:
    make(client).take()
    assert make(client).take() == "here/1"


def test_only_the_holder_renews(client: redis.Redis) -> None:
    mine = make(client)
    mine.take()
    client.set("quantum:lease:governor", "there/7/abc", px=500)
    assert mine.renew() is False
    assert client.get("quantum:lease:governor") == b"there/7/abc"


def test_a_lease_that_ended_is_not_renewed(client: redis.Redis) -> None:
    mine = make(client)
    mine.take()
    client.delete("quantum:lease:governor")
    assert mine.renew() is False
    assert client.get("quantum:lease:governor") is None


def test_renewing_sets_the_working_life(client: redis.Redis) -> None:
    mine = make(client)
    mine.take()
    client.pexpire("quantum:lease:governor", 50)
    assert mine.renew() is True
    left_ms = client.pttl("quantum:lease:governor")  # the fake counts GETEX from the start of its second
    assert lease.LIFE_MS - 1200 < left_ms <= lease.LIFE_MS


def test_the_heartbeat_follows_the_renewals(client: redis.Redis, hands: Hands) -> None:
    mine = make(client)
    mine.take()
    client.delete("quantum:heartbeat:governor:here")
    hands.at_s += lease.HEARTBEAT_EVERY_S
    mine.renew()
    assert client.get("quantum:heartbeat:governor:here") is not None


def test_only_the_holder_releases(client: redis.Redis) -> None:
    mine, other = make(client), make(client, host="there")
    mine.take()
    assert other.release() is False
    assert client.get("quantum:lease:governor") is not None
    assert mine.release() is True
    assert other.take() is None


def watch_over(client: redis.Redis) -> tuple[Watch, list[bool]]:
    mine = make(client)
    mine.take()
    told = [False]
    return Watch(lease=mine, consumer="governor-here", told_to_stop=lambda: told[0]), told


def test_a_loop_that_turns_each_second_keeps_its_lease(client: redis.Redis, hands: Hands) -> None:
    watch, _ = watch_over(client)
    for _ in range(20):
        assert watch.keep()
        hands.at_s += 1.0


def test_a_loop_that_is_stuck_loses_its_lease(client: redis.Redis, hands: Hands) -> None:
    watch, _ = watch_over(client)
    assert watch.keep()
    hands.at_s += lease.LOST_AFTER_S
    assert watch.stopping
    assert not watch.keep()


def test_a_role_may_start_slowly_but_not_for_ever(client: redis.Redis, hands: Hands) -> None:
    watch, _ = watch_over(client)
    hands.at_s += lease.FIRST_LOST_AFTER_S - 0.1
    assert not watch.stopping
    hands.at_s += 0.1
    assert not watch.keep()


def test_a_lost_lease_stays_lost(client: redis.Redis, hands: Hands) -> None:
    watch, _ = watch_over(client)
    client.delete("quantum:lease:governor")
    assert not watch.keep()
    client.set("quantum:lease:governor", "whatever")
    hands.at_s += 1
    assert not watch.keep()
    assert watch.why == "lease refused"


def test_the_stop_flag_ends_the_watch_at_once(client: redis.Redis) -> None:
    watch, told = watch_over(client)
    assert watch.keep()
    told[0] = True
    assert watch.stopping
    assert not watch.keep()


def test_an_unanswered_renewal_is_asked_again_until_two_seconds_have_passed(
    client: redis.Redis, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, _ = watch_over(client)
    assert watch.keep()

    def lost(*_: object, **__: object) -> None:
        raise redis.ConnectionError

    hands.at_s += 1
    with monkeypatch.context() as broken:
        broken.setattr(client, "getex", lost)
        assert watch.keep()
    hands.at_s += 0.5
    assert watch.keep(), "the line is back before the lease was lost"
    hands.at_s += 1
    monkeypatch.setattr(client, "getex", lost)
    assert watch.keep()
    hands.at_s += 1
    assert not watch.keep()


def test_the_life_counts_from_before_the_renewal_was_asked(
    client: redis.Redis, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may have counted from the first moment of a slow call."""
    watch, _ = watch_over(client)
    real = client.getex

    def slow(*args: object, **options: object) -> object:
        answer = real(*args, **options)  # type: ignore[arg-type]
        hands.at_s += 1.5
        return answer

    monkeypatch.setattr(client, "getex", slow)
    assert watch.keep()
    hands.at_s += 0.5
    assert watch.stopping
