"""What `up` sees from outside: a start that hangs is made again, a slow one is given its time."""

from __future__ import annotations

from typing import cast

import pytest
from django.conf import settings

from quantum import clock, roles, tasks
from quantum.redis import Client
from quantum.supervise import Child, Supervisor
from quantum.watching import ROLE_SILENT_S, START_GRACE_S, START_GRACE_S_MAX, Watching


class Slow:
    """A qcluster whose roles need `needs_s` from each start until they hold their leases; supervisor and child in one,
    on a clock of its own."""

    alive = True

    def __init__(self, redis: Client, monkeypatch: pytest.MonkeyPatch, *, needs_s: float) -> None:
        self.now_s = self.started_s = 1000.0
        self.needs_s = needs_s
        self.starts = [self.now_s]
        self.never: set[str] = set()
        self._redis = redis
        monkeypatch.setattr(clock, "monotonic_s", lambda: self.now_s)
        monkeypatch.setattr(tasks, "send_canary", lambda **_: None)
        self.watching = Watching(supervisor=cast("Supervisor", self), qcluster=cast("Child", self))

    def restart(self, _child: object, *, because: str) -> None:
        assert "has had no lease" in because, because
        self.started_s = self.now_s
        self.starts.append(self.now_s)
        self._redis.delete(*self._leases)

    @property
    def _leases(self) -> set[str]:
        return {settings.KEYS.lease(role.name) for role in roles.registered()}

    def run(self, *, for_s: float) -> None:
        end_s = self.now_s + for_s
        while self.now_s < end_s:
            if self.now_s - self.started_s >= self.needs_s:
                self._redis.mset(dict.fromkeys(self._leases - self.never, "somebody"))
                self._redis.set(settings.KEYS.canary, str(self.now_s))
            self.watching.turn()
            self.now_s += 0.5

    @property
    def graces(self) -> list[float]:
        return [round(later - before) for before, later in zip(self.starts, self.starts[1:], strict=False)]


@pytest.mark.parametrize(("needs_s", "starts"), [(20, 3), (40, 4)])
def test_a_machine_that_starts_more_slowly_than_the_grace_gets_there(
    redis: Client, monkeypatch: pytest.MonkeyPatch, needs_s: float, starts: int
) -> None:
    """After 8 s, after 16, after 32. The canary comes through the same workers, and has as much more time."""
    slow = Slow(redis, monkeypatch, needs_s=needs_s)
    slow.run(for_s=300)
    assert slow.watching.all_alive
    assert len(slow.starts) == starts


def test_a_start_that_hangs_is_made_again_each_time_and_a_good_one_makes_the_next_quick(
    redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(redis, monkeypatch, needs_s=float("inf"))
    slow.run(for_s=250)
    assert slow.graces == [pytest.approx(grace, abs=1) for grace in (8, 16, 32, 64, 64)]
    assert START_GRACE_S_MAX == 64 and START_GRACE_S == 8

    slow.needs_s = 0
    slow.run(for_s=5)
    assert slow.watching.all_alive
    slow.needs_s, was = float("inf"), len(slow.starts)
    slow.restart(None, because="somebody killed it: has had no lease")
    slow.run(for_s=START_GRACE_S + 1)
    assert len(slow.starts) == was + 2


def test_who_lived_in_this_start_is_silent_after_his_six_seconds_however_long_the_grace_of_others(
    redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(redis, monkeypatch, needs_s=float("inf"))
    slow.run(for_s=8 + 16 + 32 + 2)
    assert len(slow.starts) == 4, "the fourth start has 64 s"
    slow.needs_s, slow.never = 0, {settings.KEYS.lease("warden")}
    slow.run(for_s=20)
    assert len(slow.starts) == 4
    slow.never.add(settings.KEYS.lease("apply"))
    redis.delete(settings.KEYS.lease("apply"))
    slow.run(for_s=ROLE_SILENT_S + 3)
    assert len(slow.starts) == 5, "nobody noticed that apply hangs"
