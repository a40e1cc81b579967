"""dead_letter_end.lua: a letter ends once, and where its entry is put back, only together with that."""

from __future__ import annotations

import pytest

from quantum.keys import Keys
from quantum.redis import Client
from tests.contract.servers import contents, lua

END = lua("dead_letter_end")
KEYS = Keys()
STREAM = KEYS.plan_stream
DEAD = KEYS.dead_letters(STREAM)
FIELDS = {b"plan_id": b"\xff\x00", b"symbol": b"BTCUSDT"}


def end(server: Client, letter: bytes, way: str = "back") -> bytes:
    answer: bytes = END(server, keys=(DEAD, STREAM), args=(letter, way))
    return answer


@pytest.fixture
def letter(server: Client) -> bytes:
    entry = server.xadd(STREAM, FIELDS)
    made: bytes = server.xadd(DEAD, {"error": "no plan", "entry": entry, "group": "apply"})
    return made


def test_the_entry_comes_back_byte_for_byte_as_a_new_one(server: Client, letter: bytes) -> None:
    made = end(server, letter)
    [(_, first), (entry_id, again)] = server.xrange(STREAM)
    assert (entry_id, again) == (made, first) and again == FIELDS
    assert not server.xrange(DEAD)


def test_two_people_put_it_back_once(server: Client, letter: bytes) -> None:
    end(server, letter)
    before = contents(server)
    assert end(server, letter) == b"gone"
    assert end(server, letter, "discard") == b"gone"
    assert contents(server) == before


def test_what_is_discarded_leaves_the_stream_as_it_is(server: Client, letter: bytes) -> None:
    other = server.xadd(DEAD, {"error": "another"})
    assert end(server, letter, "discard") == b"discarded"
    assert [found for found, _ in server.xrange(DEAD)] == [other]
    assert server.xlen(STREAM) == 1


@pytest.mark.parametrize("entry", ["5-0", "", "-", "+", "1-0 2-0"])
def test_a_letter_stays_where_its_entry_is_not_on_the_stream(
    server: Client, letter: bytes, entry: str
) -> None:
    """A letter that somebody wrote by hand names no range of entries."""
    forged = server.xadd(DEAD, {"entry": entry, "error": "x"})
    before = contents(server)
    assert end(server, forged) == b"trimmed"
    assert contents(server) == before


def test_an_entry_of_thousands_of_fields_is_not_put_back(server: Client) -> None:
    entry = server.xadd(STREAM, {f"f{number}": "x" for number in range(1001)})
    letter = server.xadd(DEAD, {"entry": entry})
    assert end(server, letter) == b"large"
    assert (server.xlen(STREAM), server.xlen(DEAD)) == (1, 1)
