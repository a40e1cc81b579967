"""publish.lua: one plan, one stream entry, however often it is asked; old entries go by age."""

from __future__ import annotations

import pytest

from quantum.keys import Keys
from quantum.redis import Client
from tests.contract.servers import contents, lua, now_ms

PUBLISH = lua("publish")
KEYS = Keys()
STREAM = KEYS.plan_stream
HOUR_MS = 3_600_000
FIELDS = {"plan_id": b"67e6da21fa9fe506", "symbol": b"BTCUSDT", "raw": bytes(range(256))}


def publish(server: Client, plan_id: str = "67e6da21fa9fe506", *, age_ms: int = HOUR_MS) -> bytes:
    flat = [part for pair in FIELDS.items() for part in pair]
    stream_id: bytes = PUBLISH(
        server, keys=(KEYS.stream_published(plan_id), STREAM), args=(300, age_ms, *flat)
    )
    return stream_id


def test_an_entry_carries_its_fields_as_they_were_given(server: Client) -> None:
    stream_id = publish(server)
    assert server.xrange(STREAM) == [(stream_id, {name.encode(): value for name, value in FIELDS.items()})]


def test_the_id_is_the_servers_own_time(server: Client) -> None:
    before = now_ms(server)
    assert before <= int(publish(server).partition(b"-")[0]) <= now_ms(server)


def test_the_same_plan_twice_is_one_entry_and_the_same_id(server: Client) -> None:
    first = publish(server)
    before = contents(server)
    assert publish(server) == first
    assert contents(server) == before


def test_publish_once_holds_the_stream_id_for_its_life(server: Client) -> None:
    assert server.get(KEYS.stream_published("67e6da21fa9fe506")) is None
    first = publish(server)
    assert server.get(KEYS.stream_published("67e6da21fa9fe506")) == first
    assert 299 <= server.ttl(KEYS.stream_published("67e6da21fa9fe506")) <= 300


def test_two_plans_are_two_entries(server: Client) -> None:
    assert publish(server, "a" * 16) != publish(server, "b" * 16)
    assert server.xlen(STREAM) == 2


def fill(server: Client, *, from_ms: int, entries: int) -> None:
    """More than one node of the stream: `~` trims whole nodes of a hundred."""
    pipe = server.pipeline()
    for number in range(entries):
        pipe.xadd(STREAM, {"n": number}, id=f"{from_ms + number}-0")
    pipe.execute()


def test_what_is_older_than_an_hour_is_trimmed_and_the_rest_stays(server: Client) -> None:
    now = now_ms(server)
    fill(server, from_ms=now - 2 * HOUR_MS, entries=500)
    fill(server, from_ms=now - HOUR_MS + 60_000, entries=50)
    mine = publish(server)
    left = [int(entry_id.partition(b"-")[0]) for entry_id, _ in server.xrange(STREAM)]
    young = [at for at in left if at >= now - HOUR_MS]
    assert len(young) == 51
    assert len(left) - len(young) < 100, "whole nodes of old entries stand yet"
    assert int(mine.partition(b"-")[0]) in left


@pytest.mark.parametrize("group_has_read", [True, False])
def test_entries_are_trimmed_whatever_the_groups_have_read(server: Client, group_has_read: bool) -> None:
    """A dead group must not fill the memory."""
    fill(server, from_ms=now_ms(server) - 2 * HOUR_MS, entries=300)
    server.xgroup_create(STREAM, "apply", id="0")
    if group_has_read:
        server.xreadgroup("apply", "apply-here", {STREAM: ">"}, count=300)
    publish(server)
    assert server.xlen(STREAM) <= 101


def test_nothing_young_is_ever_trimmed(server: Client) -> None:
    fill(server, from_ms=now_ms(server) - HOUR_MS + 60_000, entries=500)
    publish(server)
    assert server.xlen(STREAM) == 501
