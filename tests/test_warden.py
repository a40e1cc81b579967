"""The warden's round: duties one after the other, and the lease kept between them."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest
from django.conf import settings as django_settings
from pytest_django.fixtures import Settings

from apply import warden
from apply.exits import apart
from apply.exits.apart import Apart
from quantum.lease import Lease, Watch
from quantum.log import log
from quantum.redis import Client, RedisError
from tests.house import wait_for


@pytest.mark.django_db(transaction=True)
def test_slow_duties_do_not_cost_the_warden_its_lease(redis: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two duties of 1.3 s and the pause are longer than a lease may go without renewal (2 s)."""
    done: list[float] = []

    def slow() -> None:
        time.sleep(1.3)
        done.append(time.monotonic())

    monkeypatch.setattr(warden, "duties_of", lambda _client: [slow, slow])
    lease = Lease(client=redis, keys=django_settings.KEYS, role="warden", host="here", pid=1, versions={})
    assert lease.take() is None
    watch = Watch(lease=lease, consumer="warden-here", told_to_stop=lambda: len(done) == 4)
    warden.run(watch)
    assert watch.why == "told to stop"


# ---- a stranger's code on a thread of its own


def test_a_scorer_that_never_answers_does_not_hold_the_warden_up_and_is_told_of_once(
    redis: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    answer, turns = threading.Event(), list[str]()

    def hangs() -> None:
        turns.append(threading.current_thread().name)
        assert answer.wait(10), "the warden's round waited for it"

    settings.EXIT_BRAIN = "rules"
    monkeypatch.setattr(apart, "STUCK_AFTER_S", 0.05)
    monkeypatch.setattr(log, "error", lambda line, **_: said.append(line))
    monkeypatch.setattr(warden, "exit_brain", lambda *_: SimpleNamespace(tick=hangs))
    brain = warden.duties_of(redis)[-1]
    brain()
    time.sleep(0.1)
    for _ in range(3):
        brain()
    assert turns == ["exit brain"], "no second turn beside one that has not ended"
    assert len(said) == 1 and "stuck" in said[0]
    answer.set()
    wait_for(lambda: (brain(), len(turns) == 2)[1], what="it goes on when it can")


def test_what_a_thread_of_its_own_raised_is_raised_in_the_wardens_round() -> None:
    def fails() -> None:
        raise RedisError("away")

    brain = Apart(fails, name="exit brain")
    brain.tick()

    def raised() -> bool:
        try:
            brain.tick()
        except RedisError:
            return True
        return False

    wait_for(raised, what="the failure")
