"""dead_letter.lua: an entry is parked once, by whoever acknowledges it, and its memory is bounded."""

from __future__ import annotations

import pytest

from quantum.keys import Keys
from quantum.redis import Client
from tests.contract.servers import contents, lua

DEAD_LETTER = lua("dead_letter")
KEYS = Keys()
STREAM, GROUP = KEYS.plan_stream, "apply"
DEAD = KEYS.dead_letters(STREAM)


def park(server: Client, entry_id: bytes, *, group: str = GROUP) -> int:
    args = (group, entry_id, "no plan", "{b'plan_id': b'?'}", 6)
    return int(DEAD_LETTER(server, keys=(STREAM, DEAD), args=args))


@pytest.fixture
def read(server: Client) -> bytes:
    """One entry, read by the group and not acknowledged."""
    server.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    entry_id: bytes = server.xadd(STREAM, {"plan_id": b"\xff\x00"})
    server.xreadgroup(GROUP, "apply-here", {STREAM: ">"})
    return entry_id


def pending(server: Client, group: str = GROUP) -> int:
    return int(server.xpending(STREAM, group)["pending"])


def test_parking_acknowledges_and_keeps_what_was_wrong(server: Client, read: bytes) -> None:
    assert park(server, read) == 1
    assert pending(server) == 0
    [(_, letter)] = server.xrange(DEAD)
    assert letter == {
        b"entry": read,
        b"group": b"apply",
        b"error": b"no plan",
        b"sample": b"{b'plan_id': b'?'}",
        b"deliveries": b"6",
    }


def test_an_entry_is_parked_once_however_often_it_is_asked(server: Client, read: bytes) -> None:
    park(server, read)
    before = contents(server)
    assert park(server, read) == 0
    assert contents(server) == before


def test_what_was_handled_meanwhile_is_not_parked(server: Client, read: bytes) -> None:
    server.xack(STREAM, GROUP, read)
    assert park(server, read) == 0
    assert not server.exists(DEAD)


def test_an_entry_nobody_has_read_is_not_parked(server: Client, read: bytes) -> None:
    unread = server.xadd(STREAM, {"plan_id": "x"})
    assert park(server, unread) == 0
    assert not server.exists(DEAD)
    assert pending(server) == 1


def test_each_group_parks_for_itself(server: Client, read: bytes) -> None:
    server.xgroup_create(STREAM, "p33", id="0")
    server.xreadgroup("p33", "p33-here", {STREAM: ">"})
    assert park(server, read) == 1
    assert pending(server, "p33") == 1
    assert park(server, read, group="p33") == 1
    assert [letter[b"group"] for _, letter in server.xrange(DEAD)] == [b"apply", b"p33"]


def test_the_entry_itself_stays_in_the_stream(server: Client, read: bytes) -> None:
    """It is the evidence, and other groups may not have read it yet."""
    park(server, read)
    assert [entry_id for entry_id, _ in server.xrange(STREAM)] == [read]


def test_dead_letters_do_not_fill_the_memory(server: Client, read: bytes) -> None:
    pipe = server.pipeline(transaction=False)
    for number in range(10_300):
        pipe.xadd(DEAD, {"n": number})
    pipe.execute()
    park(server, read)
    assert server.xlen(DEAD) <= 10_100
    assert server.xrevrange(DEAD, count=1)[0][1][b"entry"] == read
