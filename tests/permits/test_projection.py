"""The state's copy in Redis: forged bytes fall, a wipe frees nothing, a race with another reader is no alarm."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.db import Error as DatabaseError

from apply.acting.mirror import AGAIN_S, EVERY_S, StateMirror
from permits.models import TradingState
from permits.state import holds, trading
from permits.state.trading import State
from quantum.models import AuditEvent
from quantum.redis import Client, RedisError

pytestmark = pytest.mark.usefixtures("db")


def activate() -> TradingState:
    return trading.change(state=State.ACTIVE, by="nina", reason="all is well")


def standing() -> tuple[int, str, str, dt.datetime | None]:
    row = trading.newest()
    assert row is not None
    return row.version, row.state, row.scope, row.until


def in_redis(redis: Client) -> bytes | None:
    found: bytes | None = redis.get(settings.KEYS.trading_state)
    return found


def events(kind: str) -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(kind=kind).order_by("id"))


@pytest.fixture
def mirror() -> StateMirror:
    return StateMirror(stopping=lambda: True)


def forged(version: object, **said: object) -> bytes:
    row = trading.newest()
    members = json.loads(trading._written(row)) | {"state": "ACTIVE", "version": version, **said}
    return json.dumps(members, separators=(",", ":")).encode()


def of_the_row(version: int) -> bytes:
    return trading._written(TradingState.objects.get(version=version))


@pytest.mark.parametrize(
    "bytes_of",
    [
        lambda: forged(999),
        lambda: forged(2**40),
        lambda: forged(10**30),
        lambda: forged(2, state="HALTED"),
        lambda: forged(1, by="mallory"),
        lambda: forged(0),
        lambda: forged(-1),
        lambda: forged(True),
        lambda: forged("2"),
        lambda: b"",
        lambda: b"ACTIVE",
        lambda: b"\xff\x00",
        lambda: b"[1]",
        lambda: b'{"state":"ACTIVE","version":1}',
        lambda: b'{"version":1}',
    ],
)
def test_state_bytes_the_database_does_not_know_halt_and_fall(
    redis: Client, mirror: StateMirror, bytes_of: Callable[[], bytes]
) -> None:
    activate()
    activate()
    TradingState.objects.filter(version=2).update(reason="the second")
    redis.set(settings.KEYS.trading_state, bytes_of())
    mirror.arm()
    version, state, scope, _ = standing()
    assert (version, state, scope) == (3, "HALTED", "automatic")
    assert events("trading_halted")[0].data["cause"] == "tampering"
    assert in_redis(redis) == of_the_row(3)
    assert 0 < redis.pttl(settings.KEYS.trading_state) <= trading.LEASE_MS


def test_a_forged_value_of_another_type_halts_and_falls(redis: Client, mirror: StateMirror) -> None:
    activate()
    redis.hset(settings.KEYS.trading_state, "state", "ACTIVE")
    mirror.arm()
    assert standing()[:2] == (2, "HALTED")
    assert in_redis(redis) == of_the_row(2)


def test_after_tampering_a_person_resumes_and_it_stays(redis: Client, mirror: StateMirror) -> None:
    activate()
    redis.set(settings.KEYS.trading_state, forged(999))
    mirror.arm()
    activate()
    for _ in range(3):
        mirror.arm()
    assert standing()[:2] == (3, "ACTIVE")
    assert in_redis(redis) == of_the_row(3)


def test_bytes_that_hide_a_high_version_from_json_fall_too(redis: Client, mirror: StateMirror) -> None:
    """Told by JSON it is version 1, by the script's look version 999: it would stand for ever."""
    activate()
    raw = of_the_row(1).replace(b"{", b'{"x":{"version":999},', 1)
    redis.set(settings.KEYS.trading_state, raw)
    mirror.arm()
    assert in_redis(redis) == trading.current().raw


def test_tampering_again_and_again_makes_one_version(redis: Client, mirror: StateMirror) -> None:
    activate()
    for version in (999, 1000, 1001):
        redis.set(settings.KEYS.trading_state, forged(version))
        mirror.arm()
        assert in_redis(redis) == of_the_row(2)
    assert standing()[0] == 2


def test_someone_who_read_the_database_after_us_is_no_tamperer(
    redis: Client, mirror: StateMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    """We read version 1; version 2 is committed and projected; then we look at Redis."""
    activate()
    renew = trading.renew

    def overtaken(client: Client, state: trading.Projection, **more: Any) -> bool:
        activate()
        trading.project(redis, trading.current())
        return renew(client, state, **more)

    monkeypatch.setattr(trading, "renew", overtaken)
    mirror.arm()
    assert standing()[:2] == (2, "ACTIVE")
    assert in_redis(redis) == of_the_row(2)
    assert mirror.state(fresh=False).version == 2


def test_someone_who_projects_between_our_look_and_our_write_is_not_overwritten(
    redis: Client, mirror: StateMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    activate()
    redis.set(settings.KEYS.trading_state, forged(999))
    project = trading.project

    def overtaken(client: Client, state: trading.Projection, **more: Any) -> bool:
        newer = trading.change(state=State.HALTED, by="omar", reason="stop")
        redis.set(settings.KEYS.trading_state, of_the_row(newer.version))
        return project(client, state, **more)

    monkeypatch.setattr(trading, "project", overtaken)
    mirror.arm()
    assert in_redis(redis) == of_the_row(3)


def test_an_older_version_of_ours_is_replaced_without_alarm(redis: Client, mirror: StateMirror) -> None:
    activate()
    mirror.arm()
    activate()
    mirror.arm()
    assert standing()[:2] == (2, "ACTIVE")
    assert in_redis(redis) == of_the_row(2)


def test_bytes_of_a_newer_program_with_more_members_are_replaced_without_alarm(
    redis: Client, mirror: StateMirror
) -> None:
    activate()
    newer = json.dumps(json.loads(of_the_row(1)) | {"colour": "green"}).encode()
    redis.set(settings.KEYS.trading_state, newer)
    mirror.arm()
    assert standing()[:2] == (1, "ACTIVE")
    assert in_redis(redis) == of_the_row(1)


def test_after_a_wipe_holds_are_there_before_the_state_is(
    redis: Client, mirror: StateMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    activate()
    holds.place(redis, symbol="BTCUSDT", by="nina", reason="looks odd")
    mirror.arm()
    redis.flushall()
    project = holds.project
    armed_before: list[object] = []

    def watched(client: Client) -> None:
        armed_before.append(in_redis(redis))
        project(client)

    monkeypatch.setattr(holds, "project", watched)
    mirror.arm()
    assert armed_before == [None]
    assert redis.exists(settings.KEYS.hold("BTCUSDT"), settings.KEYS.trading_state) == 2


def test_a_state_whose_holds_cannot_be_projected_is_not_armed(
    redis: Client, mirror: StateMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    activate()

    def down(_client: Client) -> None:
        raise DatabaseError

    monkeypatch.setattr(holds, "project", down)
    with pytest.raises(DatabaseError):
        mirror.arm()
    assert in_redis(redis) is None


def test_the_lease_lapses_when_the_database_cannot_be_read(
    redis: Client, mirror: StateMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    activate()
    mirror.arm()
    redis.pexpire(settings.KEYS.trading_state, 500)

    def down() -> trading.Projection:
        raise DatabaseError

    monkeypatch.setattr(trading, "current", down)
    with pytest.raises(DatabaseError):
        mirror.arm()
    assert redis.pttl(settings.KEYS.trading_state) <= 500


def test_a_round_of_the_mirror_costs_two_commands(redis: Client, mirror: StateMirror) -> None:
    activate()
    mirror.arm()
    mirror.arm()
    before = redis.info("stats")["total_commands_processed"]
    mirror.arm()
    # EVALSHA, the two calls inside it, MGET, and the INFO that counts.
    assert redis.info("stats")["total_commands_processed"] - before <= 5


@pytest.mark.parametrize("fails", [DatabaseError, trading.StateChanged, RedisError])
def test_the_mirror_goes_on_after_a_round_that_failed(
    redis: Client, transactional_db: None, monkeypatch: pytest.MonkeyPatch, fails: type[Exception]
) -> None:
    """A mirror that ended would leave the instance unarmed for as long as its process lives."""
    activate()
    rounds: list[int] = []
    mirror = StateMirror(stopping=lambda: len(rounds) == 2)
    pauses: list[float] = []
    monkeypatch.setattr("apply.acting.mirror.clock.sleep_s", pauses.append)
    arm = mirror.arm

    def fails_first() -> None:
        rounds.append(1)
        if len(rounds) == 1:
            raise fails
        arm()

    monkeypatch.setattr(mirror, "arm", fails_first)
    mirror.start()
    mirror.join(5)
    assert in_redis(redis) == of_the_row(1)
    assert pauses == [AGAIN_S, EVERY_S]  # a second's lease lost is a second in which every exit is refused
