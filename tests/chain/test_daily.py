"""The chain is verified once a day, and what was found broken stands on home until somebody has looked again."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.core.cache import caches
from django.db import Error as DatabaseError
from django.urls import reverse

from apply.glance import glance
from quantum import clock, daily
from quantum.models import Verification
from tests.chain.hand import Chain
from tests.flow.test_admin import someone, text_of

pytestmark = pytest.mark.usefixtures("transactional_db", "redis")


class Runs:
    """As much of a Child as is needed here."""

    def __init__(self) -> None:
        self.times, self.alive = 0, False

    def start(self) -> None:
        self.times += 1

    def end(self) -> None: ...


@pytest.fixture
def now_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    at = [1000.0]
    monkeypatch.setattr(clock, "boot_s", lambda: at[0])
    return at


def looked(at: dt.datetime, outcome: str = "whole") -> None:
    Verification.objects.create(at=at, outcome=outcome, text="seal 3 is gone", seals=1, events=1, head="")


def test_a_chain_is_verified_a_minute_after_the_start_and_then_once_a_day(
    chain: Chain, now_s: list[float]
) -> None:
    chain.seal(2)
    runs: Any = Runs()
    each_day = daily.Daily(child=runs)
    each_day.turn()
    assert runs.times == 0, "a start has better things to do"
    now_s[0] += 61
    each_day.turn()
    assert runs.times == 1
    looked(clock.now())
    now_s[0] += 601
    each_day.turn()
    assert runs.times == 1, "a restart, or one by hand, does not make it due again"
    Verification.objects.update(at=clock.now() - dt.timedelta(hours=25))
    now_s[0] += 601
    each_day.turn()
    assert runs.times == 2


def test_no_second_look_is_begun_beside_one_that_takes_long(chain: Chain, now_s: list[float]) -> None:
    chain.seal(2)
    runs: Any = Runs()
    each_day = daily.Daily(child=runs)
    runs.alive = True
    now_s[0] += 700
    each_day.turn()
    assert runs.times == 0


def test_a_database_that_is_away_keeps_nobody_from_watching_the_rest(
    chain: Chain, now_s: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise DatabaseError("away")

    runs: Any = Runs()
    each_day = daily.Daily(child=runs)
    monkeypatch.setattr(Verification.objects, "values_list", away)
    now_s[0] += 61
    each_day.turn()
    assert runs.times == 0


def test_a_chain_that_was_found_broken_stands_on_home_until_it_was_found_whole(chain: Chain) -> None:
    web = someone("root", superuser=True)
    looked(clock.now(), "broken")
    caches["pages"].clear()
    assert "The audit chain is broken" in [each.text for each in glance.look().troubles]
    assert "seal 3 is gone" in text_of(web.get(reverse("admin:index")))
    looked(clock.now(), "whole")
    assert "The audit chain is broken" not in [each.text for each in glance.look().troubles]
