"""drop_hold.lua: removes what was looked at, and nothing that came since."""

from __future__ import annotations

from quantum.keys import Keys
from quantum.redis import Client
from tests.contract.servers import lua

DROP = lua("drop_hold")
HOLD = Keys().hold("BTCUSDT")
SEEN = b'{"hold_id":7}'


def drop(server: Client, raw: bytes = SEEN) -> int:
    return int(DROP(server, keys=(HOLD,), args=(raw,)))


def test_the_bytes_that_were_seen_are_removed(server: Client) -> None:
    server.set(HOLD, SEEN)
    assert drop(server) == 1
    assert not server.exists(HOLD)


def test_a_hold_that_was_placed_since_then_stays(server: Client) -> None:
    server.set(HOLD, b'{"hold_id":8}')
    assert drop(server) == 0
    assert server.get(HOLD) == b'{"hold_id":8}'


def test_where_nothing_stands_nothing_happens(server: Client) -> None:
    assert drop(server) == 0
    assert drop(server, b"") == 0


def test_a_value_of_another_type_is_removed(server: Client) -> None:
    server.rpush(HOLD, "x")
    assert drop(server) == 1
    assert not server.exists(HOLD)
