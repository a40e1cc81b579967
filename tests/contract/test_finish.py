"""finish.lua: a plan's end told once, the slot freed by its owner, the feed woken when something moved."""

from __future__ import annotations

from typing import Any

import pytest

from quantum.keys import Keys
from quantum.redis import Client
from tests.contract.servers import contents, lua

FINISH = lua("finish")
KEYS = Keys()
PLAN, SYMBOL = "67e6da21fa9fe506", "BTCUSDT"
RESERVED = KEYS.reserved("governor")
ONCE, RESULTS, SLOT, FEED = KEYS.result_published(PLAN), KEYS.result_stream, KEYS.slot(SYMBOL), KEYS.feed_wake


def finish(
    server: Client, *, token: str = "mine", moved: bool = True, once: str = ONCE, **fields: Any
) -> bytes:
    said = {"plan_id": PLAN, "executed": "True", **fields}
    flat = [part for pair in said.items() for part in pair]
    stream_id: bytes = FINISH(
        server,
        keys=(once, RESULTS, SLOT, FEED, RESERVED),
        args=(token, int(moved), 86_400, said["plan_id"], *flat),
    )
    return stream_id


def test_the_result_is_one_entry_with_its_fields(server: Client) -> None:
    stream_id = finish(server, error=bytes(range(256)))
    assert server.xrange(RESULTS) == [
        (stream_id, {b"plan_id": PLAN.encode(), b"executed": b"True", b"error": bytes(range(256))})
    ]
    assert server.get(ONCE) == stream_id
    assert 86_300 < server.ttl(ONCE) <= 86_400


def test_told_again_it_gives_the_same_id_and_adds_nothing(server: Client) -> None:
    first = finish(server)
    before = contents(server)
    assert finish(server, executed="False", error="another text") == first
    assert contents(server) == before


def test_the_feed_is_woken_once_for_ten_seconds_when_the_position_moved(server: Client) -> None:
    finish(server)
    finish(server)
    assert server.llen(FEED) == 1
    assert 0 < server.ttl(FEED) <= 10


def test_the_feed_is_left_alone_when_nothing_moved(server: Client) -> None:
    finish(server, moved=False)
    assert not server.exists(FEED)


def test_the_slot_is_freed_for_the_next_in_line(server: Client) -> None:
    server.set(SLOT, "mine", px=5000)
    finish(server)
    assert not server.exists(SLOT)


@pytest.mark.parametrize("token", ["mine", ""])
def test_the_slot_of_another_attempt_is_left_alone(server: Client, token: str) -> None:
    server.set(SLOT, "other", px=5000)
    finish(server, token=token)
    assert server.get(SLOT) == b"other"


def test_an_attempt_without_a_token_never_frees_a_slot(server: Client) -> None:
    server.set(SLOT, "", px=5000)
    finish(server, token="")
    assert server.exists(SLOT)


def test_a_second_run_frees_a_slot_that_the_first_left(server: Client) -> None:
    """Result told by the janitor, which has no token; then apply comes with its own."""
    server.set(SLOT, "mine", px=5000)
    finish(server, token="")
    assert server.exists(SLOT)
    finish(server)
    assert not server.exists(SLOT)


def test_results_of_two_plans_are_two_entries(server: Client) -> None:
    finish(server)
    finish(server, once=KEYS.result_published("f" * 16), plan_id="f" * 16)
    assert server.xlen(RESULTS) == 2


def test_what_the_plan_had_reserved_is_free_and_nothing_else(server: Client) -> None:
    server.hset(RESERVED, mapping={"version": "7", PLAN: "BTCUSDT 1 1 1 2", "f" * 16: "BTCUSDT 1 1 1 2"})
    finish(server)
    assert server.hgetall(RESERVED) == {b"version": b"7", b"f" * 16: b"BTCUSDT 1 1 1 2"}


def test_told_again_it_frees_what_was_reserved_since(server: Client) -> None:
    """A late permit of a plan that had ended, or a rebuild that raced with its end."""
    finish(server)
    server.hset(RESERVED, PLAN, "BTCUSDT 1 1 1 2")
    finish(server)
    assert not server.exists(RESERVED)
