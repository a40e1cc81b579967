"""Freeze and stop the processes of a running system; stopping leaves nothing. Kills: test_running_system.py."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quantum import embedded
from tests.stand_ins.apps import NAMES
from tests.stand_ins.running import BACK_S, STARTED_S, Place, within

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def everything() -> Iterator[Place]:
    """`up`, once for both: what one test did must not matter to the next."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        place = Place(Path(folder))
        place.start("up")
        try:
            within(STARTED_S, place.all_roles_live, "every role lives after `up`")
            yield place
        finally:
            place.end()


@pytest.fixture
def place() -> Iterator[Place]:
    """A Valkey of its own, for tests that start the qcluster or a role themselves."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        place = Place(Path(folder))
        socket = place.directory / "valkey.sock"
        server = embedded.start(directory=place.directory / "valkey", unix_socket=socket)
        assert embedded.wait_until_ready(unix_socket=socket)
        try:
            yield place
        finally:
            place.end()
            server.terminate()
            server.wait(5)


@pytest.fixture
def place_of_up() -> Iterator[Place]:
    """Empty: `up` makes what it needs."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        place = Place(Path(folder))
        try:
            yield place
        finally:
            place.end()


# ---- frozen and stuck


def test_a17_a_frozen_role_loses_its_lease_and_leaves_when_it_wakes(everything: Place) -> None:
    within(BACK_S, everything.is_whole, "every role lives")
    frozen = everything.holders()["p33"]
    os.kill(frozen, signal.SIGSTOP)
    try:
        took_s = within(
            6, lambda: everything.holders().get("p33", frozen) != frozen, "another worker took the role"
        )
        assert took_s > 1.5, "a lease is not taken from one who may still be acting"
        time.sleep(max(0.0, 5 - took_s))
    finally:
        os.kill(frozen, signal.SIGCONT)
    within(4, lambda: not Path(f"/proc/{frozen}").exists(), "the frozen one has left")
    assert everything.all_roles_live()


def test_a_stuck_loop_loses_its_lease_although_its_process_lives(everything: Place) -> None:
    within(BACK_S, everything.is_whole, "every role lives")
    stuck = everything.holders()["warden"]
    hold = everything.directory / "stuck-warden"
    hold.touch()
    try:
        within(
            BACK_S, lambda: everything.holders().get("warden") != stuck, "the lease of the stuck loop ended"
        )
        assert Path(f"/proc/{stuck}").exists()
    finally:
        hold.unlink()
    within(4, lambda: not Path(f"/proc/{stuck}").exists(), "it left when it could")
    within(BACK_S, everything.is_whole, "every role lives again")


# ---- never there


def test_a_role_that_nobody_takes_has_the_qcluster_restarted(place_of_up: Place) -> None:
    """Nothing has died, so only who watches from outside can find it."""
    absent = place_of_up.directory / "absent-warden"
    absent.touch()
    place_of_up.start("up")
    others = [name for name in NAMES if name != "warden"]
    within(20, lambda: sorted(place_of_up.holders()) == sorted(others), "the other roles live")
    first = place_of_up.main()
    absent.unlink()
    within(BACK_S * 2, place_of_up.is_whole, "all roles live in a qcluster that was started again")
    assert place_of_up.main() != first
    assert "role warden has had no lease for " in place_of_up.log.read_text()


# ---- SIGTERM


def harm_nobody(_: Place) -> None:
    pass


def kill_idle_worker(place: Place) -> None:
    os.kill(place.idle_worker(), signal.SIGKILL)


def kill_role(place: Place) -> None:
    os.kill(place.holders()["governor"], signal.SIGKILL)


def freeze_idle_worker(place: Place) -> None:
    os.kill(place.idle_worker(), signal.SIGSTOP)


@pytest.mark.parametrize("to_group", [False, True], ids=["main", "group"])
@pytest.mark.parametrize("harm", [harm_nobody, kill_idle_worker, kill_role])
def test_a18_sigterm_ends_the_qcluster_within_ten_seconds(
    place: Place, harm: Callable[[Place], None], to_group: bool
) -> None:
    main = place.start("qcluster")
    within(BACK_S, place.all_roles_live, "every role lives")
    harm(place)
    if to_group:
        os.killpg(main.pid, signal.SIGTERM)
    else:
        main.terminate()
    assert main.wait(BACK_S) == 0
    assert place.processes() == []
    if harm is harm_nobody:
        assert place.holders() == {}, "roles gave their leases back"


def test_a18_a_role_that_is_just_being_taken_is_given_back(place: Place) -> None:
    """Its lease was there, and the worker did not know yet that it had one: it left at once, and nobody could take
    the role for six seconds."""
    main = place.start("qcluster", QUANTUM_FAULT="lease_taken:sleep:1")
    within(BACK_S, lambda: place.holders() != {}, "a lease is taken")
    os.killpg(main.pid, signal.SIGTERM)
    assert main.wait(BACK_S) == 0
    assert place.holders() == {}


def test_sigterm_ends_a_qcluster_with_a_frozen_worker(place: Place) -> None:
    main = place.start("qcluster")
    within(BACK_S, place.all_roles_live, "every role lives")
    freeze_idle_worker(place)
    main.terminate()
    main.wait(BACK_S)
    assert place.processes() == []


def test_without_its_sentinel_the_qcluster_ends_and_says_so(place: Place) -> None:
    """django-q2 ends with code 0 here, and nobody starts it again."""
    main = place.start("qcluster")
    within(BACK_S, place.all_roles_live, "every role lives")
    os.kill(place.sentinel(), signal.SIGKILL)
    assert main.wait(BACK_S) == 1
    assert place.processes() == []
    assert "the sentinel died" in place.log.read_text()


def test_without_its_main_process_the_qcluster_ends_by_itself(place: Place) -> None:
    main = place.start("qcluster")
    within(BACK_S, place.all_roles_live, "every role lives")
    main.kill()
    main.wait()
    within(BACK_S, lambda: place.processes() == [], "everybody left")


def test_run_once_does_what_waits_and_ends(place: Place) -> None:
    job = "from django_q.tasks import async_task as a; a('quantum.tasks.canary', 7)"
    env = {"SECRET_KEY": "the same for both " * 4}
    assert place.start("shell", "-v0", "-c", job, **env).wait(BACK_S) == 0
    assert place.start("qcluster", "--run-once", **env).wait(BACK_S) == 0
    assert place.canary() == b"7"
    assert place.processes() == []


# ---- one role in the foreground


def test_a16_a_second_host_stands_by_says_for_whom_and_takes_over(place: Place) -> None:
    first = place.start("consume", "governor", QUANTUM_HOST="one")
    within(BACK_S, lambda: place.holders().get("governor") == first.pid, "the first host runs the role")
    second = place.start("consume", "governor", QUANTUM_HOST="two")
    within(
        BACK_S,
        lambda: f"held by one/{first.pid}" in place.log.read_text(),
        "the second says for whom it waits",
    )
    first.terminate()
    assert first.wait(BACK_S) == 0
    within(2.5, lambda: place.holders().get("governor") == second.pid, "the second host took over at once")
    second.send_signal(signal.SIGINT)
    assert second.wait(BACK_S) == 0
    assert place.holders() == {}
