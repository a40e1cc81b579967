"""Who watches the processes: what is silent for too long is restarted, and what keeps dying comes back ever later."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from quantum import clock, roles, tasks, watching
from quantum.log import log
from quantum.redis import RedisError
from quantum.supervise import STORM_STARTS, STORM_WAIT_S_MAX, STORM_WINDOW_S, Child, Supervisor
from quantum.watching import (
    CANARY_EVERY_S,
    CANARY_SILENT_S,
    LOOK_EVERY_S,
    ROLE_SILENT_S,
    START_GRACE_S,
    Watching,
)

TURN_S = 0.5
NAMES = ("governor", "p33", "apply", "warden")


class Seen:
    """The server as `up` sees it: who holds a lease, the last canary, and whether it answers at all."""

    def __init__(self) -> None:
        self.leases = set(NAMES)
        self.canary: bytes | None = b"1"
        self.away = False
        self.canaries_sent = 0

    def mget(self, keys: list[str]) -> list[bytes | None]:
        if self.away:
            raise RedisError("gone")
        of_roles = {settings.KEYS.lease(name): name for name in NAMES}
        return [
            self.canary if key == settings.KEYS.canary else b"held" if of_roles[key] in self.leases else None
            for key in keys
        ]

    def send_canary(self, **_: object) -> None:
        self.canaries_sent += 1


class Told(Supervisor):
    """Writes down what it was told to restart, and starts the clock of that child anew."""

    def __init__(self) -> None:
        super().__init__(told_to_stop=lambda: False)
        self.because: list[str] = []

    def restart(self, child: Child, *, because: str) -> None:
        self.because.append(because)
        child.started_s = clock.monotonic_s()


class Watched:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        self.seen, self.told = Seen(), Told()
        monkeypatch.setattr(clock, "monotonic_s", lambda: self.now_s)
        monkeypatch.setattr(
            roles, "registered", lambda: [roles.Role(name, 0, lambda _: None) for name in NAMES]
        )
        monkeypatch.setattr(watching, "command_client", lambda: self.seen)
        monkeypatch.setattr(watching, "get_broker", lambda: None)
        monkeypatch.setattr(tasks, "send_canary", self.seen.send_canary)
        qcluster = _lives_for_long()
        qcluster.start()
        self.qcluster = qcluster
        self.watching = Watching(supervisor=self.told, qcluster=qcluster)

    def turns(self, seconds: float, *, canaries: bool = True) -> list[str]:
        """What was restarted for which reason, as time goes by."""
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            if canaries and not self.seen.away:
                self.seen.canary = str(self.seen.canaries_sent).encode()
            self.watching.turn()
            self.now_s += TURN_S
        told, self.told.because = self.told.because, []
        return told


def _lives_for_long() -> Child:
    return Child(name="qcluster", argv=["sleep", "60"], env={"PATH": "/usr/bin:/bin"}, cwd=Path("/"))


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    made = Watched(monkeypatch)
    yield made
    monkeypatch.undo()  # to end it takes a clock that goes
    made.qcluster.end()


# ---- a role that nobody runs, a queue that carries nothing


def test_who_lives_is_left_alone(watched: Watched) -> None:
    assert watched.turns(120) == []
    assert watched.watching.all_alive
    assert 11 <= watched.seen.canaries_sent <= 13


@pytest.mark.parametrize("name", NAMES)
def test_a_role_without_a_lease_for_six_seconds_has_the_qcluster_restarted(
    watched: Watched, name: str
) -> None:
    watched.turns(20)
    watched.seen.leases.discard(name)
    assert watched.turns(ROLE_SILENT_S - LOOK_EVERY_S) == []
    assert not watched.watching.all_alive
    assert watched.turns(LOOK_EVERY_S * 2) == [f"role {name} has had no lease for 6 s"]


def test_a_role_that_comes_back_within_them_costs_nobody_a_restart(watched: Watched) -> None:
    watched.turns(20)
    for _ in range(5):
        watched.seen.leases.discard("p33")
        assert watched.turns(4) == []
        watched.seen.leases.add("p33")
        assert watched.turns(3) == []


def test_every_start_has_its_grace_and_what_never_comes_is_restarted_again(watched: Watched) -> None:
    """The next one has more of it: tests/test_slow_starts.py."""
    watched.seen.leases.clear()
    assert watched.turns(START_GRACE_S) == []
    [because] = watched.turns(1.5)
    assert because.startswith("role governor has had no lease for ")
    assert watched.turns(START_GRACE_S - 1) == [], "it has only just been started"
    assert len(watched.turns(START_GRACE_S * 2)) == 1


def test_a_queue_that_carries_no_canary_for_half_a_minute_has_the_qcluster_restarted(
    watched: Watched,
) -> None:
    watched.turns(20)
    assert watched.turns(CANARY_SILENT_S - CANARY_EVERY_S, canaries=False) == [], "the last may be that old"
    reason = "no canary came through the queue for 30 s"
    assert watched.turns(CANARY_EVERY_S + LOOK_EVERY_S, canaries=False) == [reason]
    its_time_s = CANARY_SILENT_S - CANARY_EVERY_S - LOOK_EVERY_S
    assert watched.turns(its_time_s, canaries=False) == [], "the new one has its time too"


def test_without_redis_nobody_can_be_seen_and_everybody_gets_the_grace_of_a_start_after_it(
    watched: Watched,
) -> None:
    """Leases end with an outage: who looks in its last moment would restart roles that are about to come back."""
    watched.turns(20)
    watched.seen.away = True
    assert watched.turns(60) == []
    watched.seen.away = False
    watched.seen.leases.clear()
    assert watched.turns(START_GRACE_S - LOOK_EVERY_S) == []
    assert watched.turns(LOOK_EVERY_S * 2) == ["role governor has had no lease for 6 s"]


def test_what_is_dead_already_is_the_supervisors(watched: Watched) -> None:
    watched.qcluster.ask_to_end()
    watched.qcluster._process.wait(5)  # type: ignore[union-attr]
    watched.seen.leases.clear()
    assert watched.turns(60) == []


# ---- what keeps dying


class Dying:
    """A program that ends at once, under a clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s, self.said = 1000.0, list[tuple[str, dict[str, Any]]]()
        monkeypatch.setattr(clock, "monotonic_s", lambda: self.now_s)
        for level in ("warning", "error"):
            monkeypatch.setattr(log, level, lambda what, **more: self.said.append((what, more)))
        self.child = Child(name="qcluster", argv=[sys.executable, "-Sc", ""], env={}, cwd=Path("/"))

    def dies(self) -> None:
        assert self.child._process is not None
        assert self.child._process.wait(5) == 0

    def comes_back_after_s(self) -> float:
        died_s = self.now_s
        while not self._came_back():
            self.now_s += TURN_S
        self.dies()
        return self.now_s - died_s

    def _came_back(self) -> bool:
        before = self.child.pid
        self.child.come_back()
        return self.child.pid != before


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> Dying:
    made = Dying(monkeypatch)
    made.child.start()
    made.dies()
    return made


def test_what_keeps_dying_comes_back_ever_later_and_each_pause_is_told_once(dying: Dying) -> None:
    pauses_s = [dying.comes_back_after_s() for _ in range(STORM_STARTS + 4)]
    assert pauses_s == [0.0] * (STORM_STARTS - 1) + [1.0, 2.0, 4.0, 8.0, 16.0]
    words = [what for what, _ in dying.said]
    quick, slow = "[UP] ended, starting it again", "[UP] restart storm"
    assert words == [quick] * (STORM_STARTS - 1) + [slow] * 5
    last = dying.said[-1][1]
    assert (last["child"], last["starts_in_last_minute"], last["next_start_in_s"]) == ("qcluster", 10, 16.0)


def test_the_longest_pause_is_half_a_minute(dying: Dying) -> None:
    for _ in range(40):
        assert dying.comes_back_after_s() <= STORM_WAIT_S_MAX
    assert dying.child.alive is False


def test_a_storm_that_is_over_is_forgotten_after_a_minute(dying: Dying) -> None:
    for _ in range(STORM_STARTS):
        dying.comes_back_after_s()
    dying.now_s += STORM_WINDOW_S
    assert dying.comes_back_after_s() == 0.0


def test_who_is_told_to_stop_starts_nothing_again(dying: Dying) -> None:
    supervisor = Supervisor(told_to_stop=lambda: True)
    supervisor.children.append(dying.child)
    supervisor.turn()
    assert dying.said == []
    assert not dying.child.alive


def test_a_restart_ends_the_whole_group_and_the_next_turn_starts_it_again() -> None:
    """Told by the supervisor at work: a real process, which ends itself when it is asked to."""
    child = _lives_for_long()
    supervisor = Supervisor(told_to_stop=lambda: False)
    supervisor.add(child)
    first = child.pid
    try:
        supervisor.restart(child, because="a test")
        assert child.exit_code == -signal.SIGTERM
        supervisor.turn()
        assert child.alive
        assert child.pid != first
    finally:
        child.end()
