"""Holds: the row freezes, the key follows. Whatever was lost or overtaken on the way heals within a round."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from redis.exceptions import ConnectionError as RedisConnectionError

from apply.acting.mirror import StateMirror
from permits.models import Hold, PolicyVersion
from permits.policy import policies
from permits.state import holds, trading
from quantum.models import AuditEvent
from quantum.redis import Client

pytestmark = pytest.mark.usefixtures("db")

SYMBOL = "BTCUSDT"


def place(redis: Client, symbol: str = SYMBOL) -> Hold:
    return holds.place(redis, symbol=symbol, by="nina", reason="looks odd")


def lift(redis: Client, symbol: str = SYMBOL) -> bool:
    return holds.lift(redis, symbol=symbol, by="omar", reason="it was fine")


def key(redis: Client, symbol: str = SYMBOL) -> bytes | None:
    found: bytes | None = redis.get(settings.KEYS.hold(symbol))
    return found


class Loses:
    """A line that loses what is named."""

    def __init__(self, client: Client, *names: str) -> None:
        self._client, self._names = client, names

    def __getattr__(self, name: str) -> Any:
        if name in self._names:
            raise RedisConnectionError("cut")
        return getattr(self._client, name)


class Meanwhile:
    """Somebody else acts right before our first call of that name."""

    def __init__(self, client: Client, name: str, act: Any) -> None:
        self._client, self._name, self._act = client, name, act

    def __getattr__(self, name: str) -> Any:
        if name == self._name and self._act is not None:
            act, self._act = self._act, None
            act()
        return getattr(self._client, name)


def test_placing_and_lifting_are_facts_with_who_and_why(redis: Client) -> None:
    hold = place(redis)
    assert holds.allowed(hold_id=hold.pk, symbol=SYMBOL) == key(redis)
    assert lift(redis)
    assert key(redis) is None
    told = {(event.kind, event.actor, event.reason) for event in AuditEvent.objects.all()}
    assert told == {("hold_placed", "nina", "looks odd"), ("hold_lifted", "omar", "it was fine")}


def test_placing_twice_keeps_the_first_and_lifting_twice_lifts_once(redis: Client) -> None:
    assert place(redis).pk == place(redis).pk
    assert (lift(redis), lift(redis)) == (True, False)
    assert AuditEvent.objects.count() == 2


def test_a_hold_whose_key_was_never_written_is_a_hold_and_gets_its_key(redis: Client) -> None:
    with pytest.raises(RedisConnectionError):
        place(Loses(redis, "set"))
    assert Hold.objects.filter(lifted_at=None).count() == 1
    holds.project(redis)
    assert key(redis) is not None


def test_a_lifted_hold_whose_key_could_not_be_removed_does_not_stay(redis: Client) -> None:
    place(redis)
    with pytest.raises(RedisConnectionError):
        lift(Loses(redis, "evalsha", "eval"))
    assert key(redis) is not None
    holds.project(redis)
    assert key(redis) is None
    assert not AuditEvent.objects.filter(kind="hold_forged").exists()


def test_a_projection_that_read_before_the_lift_writes_the_key_at_most_until_the_next_round(
    redis: Client,
) -> None:
    """It read the open row; the row is lifted and the key removed; then its SET arrives."""
    place(redis)
    redis.delete(settings.KEYS.hold(SYMBOL))
    holds.project(Meanwhile(redis, "set", lambda: lift(redis)))
    assert key(redis) is not None
    holds.project(redis)
    assert key(redis) is None


def test_a_hold_placed_while_the_last_ones_key_is_removed_keeps_its_own(redis: Client) -> None:
    """The projection saw the key of a lifted hold and no open row; a new hold comes before it removes."""
    place(redis)
    with pytest.raises(RedisConnectionError):
        lift(Loses(redis, "evalsha", "eval"))
    holds.project(Meanwhile(redis, "evalsha", lambda: place(redis)))
    opened = Hold.objects.get(lifted_at=None)
    assert key(redis) == holds.allowed(hold_id=opened.pk, symbol=SYMBOL)


def test_a_hold_placed_between_our_looks_at_keys_and_rows_keeps_its_key(
    redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are read first, so a key that was seen has a row that is read: the other order would remove it."""
    before = holds._keys

    def then_placed(client: Client, symbols: Any) -> dict[str, bytes | None]:
        seen = before(client, symbols)
        if not Hold.objects.exists():
            place(redis)
        return seen

    monkeypatch.setattr(holds, "_keys", then_placed)
    holds.project(redis)
    assert key(redis) is not None


def test_a_lift_that_is_overtaken_by_a_new_hold_leaves_that_ones_key(redis: Client) -> None:
    place(redis)
    lift(Meanwhile(redis, "evalsha", lambda: place(redis)))
    assert Hold.objects.filter(lifted_at=None).count() == 1
    assert key(redis) is not None


def test_a_key_without_any_hold_is_removed_and_recorded(redis: Client) -> None:
    for forged in (b'{"hold_id":99}', b"x", b"", b"[]", b'{"hold_id":[1]}', b'{"hold_id":"1"}'):
        redis.set(settings.KEYS.hold(SYMBOL), forged)
        holds.project(redis)
        assert key(redis) is None, forged
    assert AuditEvent.objects.filter(kind="hold_forged", symbol=SYMBOL).count() == 6


def test_other_bytes_in_an_open_holds_key_are_put_right(redis: Client) -> None:
    place(redis)
    right = key(redis)
    redis.set(settings.KEYS.hold(SYMBOL), b'{"hold_id":99}')
    holds.project(redis)
    assert key(redis) == right


def test_a_value_of_another_type_is_put_right_or_removed(redis: Client) -> None:
    place(redis)
    right = key(redis)
    for symbol in (SYMBOL, "ETHUSDT"):
        redis.delete(settings.KEYS.hold(symbol))
        redis.rpush(settings.KEYS.hold(symbol), "x")
    holds.project(redis)
    assert key(redis) == right
    holds.drop_unreadable(redis)
    assert not redis.exists(settings.KEYS.hold("ETHUSDT"))
    assert key(redis) == right


def test_a_hold_on_a_symbol_that_is_not_allowed_keeps_its_key_too(redis: Client) -> None:
    place(redis, "DOGEUSDT")
    redis.flushall()
    holds.project(redis)
    assert key(redis, "DOGEUSDT") is not None
    lift(redis, "DOGEUSDT")
    assert key(redis, "DOGEUSDT") is None


def test_every_round_of_the_mirror_compares_the_holds(redis: Client) -> None:
    """While the state is renewed, not only when it is armed anew."""
    trading.ensure_first_state()
    mirror = StateMirror(stopping=lambda: True)
    mirror.arm()
    place(redis)
    redis.delete(settings.KEYS.hold(SYMBOL))
    redis.set(settings.KEYS.hold("ETHUSDT"), b"x")
    mirror.arm()
    assert (key(redis) is not None, key(redis, "ETHUSDT")) == (True, None)


def test_the_mirror_finds_a_value_of_another_type_now_and_then(redis: Client) -> None:
    trading.ensure_first_state()
    mirror = StateMirror(stopping=lambda: True)
    mirror.arm()
    redis.rpush(settings.KEYS.hold(SYMBOL), "x")
    for _ in range(15):
        mirror.arm()
    assert not redis.exists(settings.KEYS.hold(SYMBOL))


def test_symbols_that_only_the_policy_lists_are_looked_after_too(redis: Client) -> None:
    version, rules = policies.newest()
    policies.change(
        rules=rules | {"allowlist": ["DOGEUSDT"]}, by="nina", reason="another coin", expected_version=version
    )
    redis.set(settings.KEYS.hold("DOGEUSDT"), b"x")
    holds.project(redis)
    assert key(redis, "DOGEUSDT") is None


def test_a_policy_nobody_can_read_stops_no_projection(redis: Client) -> None:
    PolicyVersion.objects.create(version=7, rules={}, by="mallory", reason="past the command")
    policies.forget()
    place(redis)
    redis.flushall()
    holds.project(redis)
    assert key(redis) is not None
