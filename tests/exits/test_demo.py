"""The demo's feed shows a newcomer exits that flow: its first one is none that must be refused."""

from __future__ import annotations

import pytest
from django.conf import settings

from apply.exits import demo
from apply.proposals.proposal import Proposal
from quantum.redis import Client


@pytest.fixture
def proposed(redis: Client, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []

    def take(_client: Client, said: Proposal, **_: object) -> None:
        found.append(said.symbol)

    monkeypatch.setattr(demo, "take", take)
    redis.set(settings.KEYS.trading_state, "ACTIVE")
    for symbol in settings.APPLY_ALLOWLIST:
        redis.hset(settings.KEYS.snapshot(symbol), "position_amt", "1")
    return found


def test_nothing_is_proposed_for_a_position_that_the_ledger_has_not_adopted(
    redis: Client, proposed: list[str]
) -> None:
    feed = demo.DemoFeed(client=redis)
    feed.tick()
    assert proposed == []
    adopted = settings.APPLY_ALLOWLIST[-1]
    redis.hset(settings.KEYS.ledger(adopted), "last_known_amt", "1")
    feed.tick()
    assert proposed == [adopted]


def test_nothing_is_proposed_before_the_gate_is_armed(redis: Client, proposed: list[str]) -> None:
    redis.delete(settings.KEYS.trading_state)
    for symbol in settings.APPLY_ALLOWLIST:
        redis.hset(settings.KEYS.ledger(symbol), "last_known_amt", "1")
    demo.DemoFeed(client=redis).tick()
    assert proposed == []
