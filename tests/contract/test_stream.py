"""The consumer loop on a real server: no entry is lost, none blocks the next, and it heals by itself."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest

from quantum import stream
from quantum.redis import Client
from quantum.stream import Entry, Poison
from tests.contract.consumers import DEAD, GROUP, STREAM, Running, add, all_acknowledged, left_by, pending
from tests.house import wait_for

# ---- reading


def test_what_came_before_the_group_was_made_is_read_too(
    redis: Client, consume: Callable[..., Running]
) -> None:
    add(redis, 1, 2)
    running = consume()
    wait_for(lambda: running.seen == [b"1", b"2"], what="the old entries")
    all_acknowledged(redis)


def test_after_a_restart_its_own_pending_entries_come_first_and_in_order(
    redis: Client, consume: Callable[..., Running]
) -> None:
    left_by(redis, "apply-test", 1, 2, 3)
    add(redis, 4)
    running = consume(batch=2, reclaim_idle_ms=60_000)
    wait_for(lambda: len(running.seen) >= 4, what="all four")
    assert running.seen == [b"1", b"2", b"3", b"4"]
    all_acknowledged(redis)


def test_entries_of_a_dead_consumer_are_claimed(redis: Client, consume: Callable[..., Running]) -> None:
    left_by(redis, "apply-of-a-dead-host", 1, 2)
    running = consume()
    wait_for(lambda: set(running.seen) == {b"1", b"2"}, what="the entries of the dead")
    all_acknowledged(redis)


def test_entries_of_a_living_consumer_are_left_to_it(redis: Client, consume: Callable[..., Running]) -> None:
    left_by(redis, "apply-elsewhere", 1)
    running = consume(reclaim_idle_ms=60_000)
    add(redis, 2)
    wait_for(lambda: running.seen, what="the fresh entry")
    time.sleep(0.3)
    assert running.seen == [b"2"]
    assert pending(redis) == 1


def test_an_entry_taken_over_is_acknowledged_only_by_whoever_took_it(
    redis: Client, consume: Callable[..., Running]
) -> None:
    running = consume(handle=lambda entry: False, reclaim_idle_ms=60_000)
    [entry_id] = add(redis, 1)
    wait_for(lambda: running.seen, what="the entry")
    time.sleep(0.2)
    assert pending(redis) == 1
    running.consumer.ack(entry_id.decode())
    assert pending(redis) == 0


# ---- poison


def test_a_poison_entry_is_parked_at_once_and_the_next_one_passes(
    redis: Client, consume: Callable[..., Running]
) -> None:
    def handle(entry: Entry) -> bool:
        if entry.fields[b"n"] == b"1":
            raise Poison("no plan:\n\x1b[31m evil \u202e text")
        return True

    running = consume(handle=handle)
    poison, _ = add(redis, 1, 2)
    wait_for(lambda: b"2" in running.seen, what="the next entry")
    all_acknowledged(redis)
    [(_, letter)] = redis.xrange(DEAD)
    assert (letter[b"entry"], letter[b"group"]) == (poison, b"apply")
    assert letter[b"error"].decode().isprintable()
    assert running.seen.count(b"1") == 1


def test_e19_an_entry_that_is_never_handled_is_parked_after_its_deliveries(
    redis: Client, consume: Callable[..., Running]
) -> None:
    def fail(entry: Entry) -> bool:
        if entry.fields[b"n"] == b"1":
            raise RuntimeError("always")
        return True

    running = consume(handle=fail)
    [poison, _] = add(redis, 1, 2)
    [(_, letter)] = wait_for(lambda: redis.xrange(DEAD), what="the dead letter")
    all_acknowledged(redis)
    assert letter[b"entry"] == poison
    assert int(letter[b"deliveries"]) == stream.DELIVERIES_MAX + 1
    assert running.seen.count(b"1") == stream.DELIVERIES_MAX, "handed over more often than it may be"
    assert running.seen.count(b"2") == 1


def test_a_failing_handler_leaves_its_entry_pending_and_the_next_one_passes(
    redis: Client, consume: Callable[..., Running]
) -> None:
    def fail(entry: Entry) -> bool:
        if entry.fields[b"n"] == b"1":
            raise RuntimeError("database is down")
        return True

    running = consume(handle=fail, reclaim_idle_ms=60_000)
    failed, _ = add(redis, 1, 2)
    wait_for(lambda: pending(redis) == 1 and b"2" in running.seen, what="the second to be acknowledged")
    [row] = redis.xpending_range(STREAM, GROUP, min="-", max="+", count=10)
    assert row["message_id"] == failed
    assert not redis.exists(DEAD)


def test_what_failed_is_delivered_again_and_handled(redis: Client, consume: Callable[..., Running]) -> None:
    failures = iter([True, True])

    def fail_twice(_entry: Entry) -> bool:
        if next(failures, False):
            raise RuntimeError("not yet")
        return True

    running = consume(handle=fail_twice)
    add(redis, 1)
    wait_for(lambda: len(running.seen) == 3, what="the third delivery")
    all_acknowledged(redis)
    assert not redis.exists(DEAD)


def test_trimmed_entries_of_its_own_are_acknowledged(redis: Client, consume: Callable[..., Running]) -> None:
    """Pending without a body: there is nothing left to handle, and they must not stay for ever."""
    left_by(redis, "apply-test", 1, 2)
    redis.xtrim(STREAM, maxlen=0, approximate=False)
    running = consume(reclaim_idle_ms=60_000)
    all_acknowledged(redis)
    add(redis, 3)
    wait_for(lambda: running.seen == [b"3"], what="the next entry")


def test_trimmed_entries_of_the_dead_do_not_stay_either(
    redis: Client, consume: Callable[..., Running]
) -> None:
    left_by(redis, "apply-of-a-dead-host", 1, 2)
    redis.xtrim(STREAM, maxlen=0, approximate=False)
    running = consume()
    all_acknowledged(redis)
    add(redis, 3)
    wait_for(lambda: running.seen == [b"3"], what="the next entry")


# ---- healing


@pytest.mark.parametrize("wipe", ["flushall", "delete", "group"])
def test_a_group_that_is_gone_is_made_again(
    redis: Client, consume: Callable[..., Running], wipe: str
) -> None:
    running = consume()
    add(redis, 1)
    wait_for(lambda: running.seen == [b"1"], what="the first entry")
    if wipe == "flushall":
        redis.flushall()
    elif wipe == "delete":
        redis.delete(STREAM)
    else:
        redis.xgroup_destroy(STREAM, GROUP)
    add(redis, 2)
    wait_for(lambda: b"2" in running.seen, what="an entry after the loss")
    all_acknowledged(redis)


def test_a_connection_that_is_cut_heals_again_and_again(
    redis: Client, consume: Callable[..., Running]
) -> None:
    running = consume()
    for number in range(3):
        wait_for(lambda: _blocked_readers(redis), what="the reader to wait")
        cut_all_others(redis)
        add(redis, number)
        wait_for(lambda: str(number).encode() in running.seen, what="an entry after the cut")
    assert running.alive
    all_acknowledged(redis)


def _blocked_readers(redis: Client) -> list[dict[str, str]]:
    return [row for row in redis.client_list() if "b" in row["flags"]]


def cut_all_others(redis: Client) -> None:
    me = redis.client_id()
    for row in redis.client_list():
        if int(row["id"]) != me:
            redis.execute_command("CLIENT", "KILL", "ID", row["id"])


def commands(redis: Client) -> Counter[str]:
    """How often each command ran since the server's start; a refused one counts too."""
    rows = redis.info("commandstats")
    return Counter(
        {
            name.removeprefix("cmdstat_"): int(row["calls"]) + int(row.get("rejected_calls", 0))
            for name, row in rows.items()
        }
    )


def ran_within(redis: Client, seconds: float) -> int:
    before = commands(redis)
    time.sleep(seconds)
    ran = commands(redis) - before
    return sum(count for name, count in ran.items() if name.startswith("x"))


def test_a_quiet_stream_costs_next_to_nothing(redis: Client, consume: Callable[..., Running]) -> None:
    consume(block_ms=500, reclaim_idle_ms=15_000)
    wait_for(lambda: _blocked_readers(redis), what="the reader to wait")
    assert ran_within(redis, 1.0) <= 6


def test_a_stream_that_refuses_every_read_is_not_asked_in_a_hot_loop(
    redis: Client, consume: Callable[..., Running]
) -> None:
    """WRONGTYPE on every turn: one try each RETRY_PAUSE_S, and it heals when the key is put right."""
    running = consume()
    wait_for(lambda: redis.exists(STREAM), what="the group")
    redis.set(STREAM, "no stream")
    time.sleep(0.3)
    assert running.alive, "the loop ended"
    assert ran_within(redis, 1.0) <= 4 / stream.RETRY_PAUSE_S
    assert running.alive
    redis.delete(STREAM)
    add(redis, 1)
    wait_for(lambda: running.seen == [b"1"], what="an entry after the refusals")


def test_a_group_that_cannot_be_made_does_not_end_the_loop(
    redis: Client, consume: Callable[..., Running]
) -> None:
    redis.set(STREAM, "no stream")
    running = consume()
    time.sleep(0.3)
    assert running.alive, "the loop ended at its start"
    redis.delete(STREAM)
    add(redis, 1)
    wait_for(lambda: running.seen == [b"1"], what="an entry once the key was put right")


def test_a_stop_ends_the_loop_and_leaves_what_was_not_handled(
    redis: Client, consume: Callable[..., Running]
) -> None:
    running = consume()
    wait_for(lambda: _blocked_readers(redis), what="the reader to wait")
    running.stop()
    add(redis, 1)
    time.sleep(0.1)
    assert running.seen == []
    assert redis.xinfo_groups(STREAM)[0]["pending"] == 0


def test_an_entry_that_is_still_in_hand_is_never_parked_however_often_it_is_claimed(
    redis: Client, consume: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan may wait in its lane for longer than five reclaims; it is slow, not poison."""
    monkeypatch.setattr(stream, "DELIVERIES_MAX", 2)
    [held] = left_by(redis, "the-dead", 1)
    consume(holds=lambda entry_id: entry_id == held.decode())

    def deliveries() -> int:
        return int(redis.xpending_range(STREAM, GROUP, min=held, max=held, count=1)[0]["times_delivered"])

    wait_for(lambda: deliveries() > 4, what="claims beyond the limit")
    assert not redis.exists(DEAD)


def test_lag_counts_pending_and_unread_and_knows_a_missing_group(redis: Client) -> None:
    assert stream.group_lag(redis, stream=STREAM, group=GROUP) is None
    left_by(redis, "apply-test", 1, 2)
    add(redis, 3)
    assert stream.group_lag(redis, stream=STREAM, group=GROUP) == 3
    assert stream.group_lag(redis, stream=STREAM, group="p33") is None
