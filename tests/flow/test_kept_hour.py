"""The hour's figures: kept while nothing happens, and never older than what did."""

from __future__ import annotations

import pytest
import time_machine
from django.core.cache import caches

from apply.glance import hour
from quantum import audit
from quantum.redis import Client
from tests.flow.test_home import plans

pytestmark = pytest.mark.django_db(transaction=True)
AT = "2026-03-01 12:00:10+00:00"


@pytest.fixture
def looks(redis: Client, monkeypatch: pytest.MonkeyPatch) -> list[hour.Hour]:
    caches["pages"].clear()
    made, look = list[hour.Hour](), hour.look

    def counted() -> hour.Hour:
        made.append(look())
        return made[-1]

    monkeypatch.setattr(hour, "look", counted)
    return made


def next_look() -> None:
    """Three seconds later, by the cache's own clock."""
    caches["pages"].delete("kept:hour:stand")


def test_while_nothing_happens_one_look_serves_the_minute(looks: list[hour.Hour]) -> None:
    with time_machine.travel(AT, tick=False) as now:
        for _ in range(5):
            hour.kept()
            now.shift(5)
        assert len(looks) == 1
        now.shift(30)
        next_look()
        hour.kept()
        assert len(looks) == 2, "a minute began: what is an hour old leaves the picture"


def test_whatever_becomes_of_a_plan_is_in_the_next_look(looks: list[hour.Hour]) -> None:
    with time_machine.travel(AT, tick=False):
        before = hour.kept()
        plans(3)
        audit.record(kind="plan_ended", actor="tests", reason="", data={})
        next_look()
        after = hour.kept()
    assert sum(after.states.values()) == sum(before.states.values()) + 3
    assert len(looks) == 2
