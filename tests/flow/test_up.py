"""The one command: what it makes, what it says, what it refuses, and that it takes everything down again."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stand_ins.running import BACK_S, STARTED_S, Place, within

pytestmark = pytest.mark.slow


@pytest.fixture
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        place = Place(Path(folder) / "var")
        place.directory.mkdir()
        try:
            yield place
        finally:
            place.end()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def shown(up: subprocess.Popen[str]) -> str:
    """Address and login, on stdout once everything is there."""
    assert up.stdout
    return up.stdout.readline() + up.stdout.readline()


def stop(process: subprocess.Popen[str], number: signal.Signals = signal.SIGINT) -> None:
    process.send_signal(number)
    process.wait(BACK_S)


def test_a_first_start_makes_secrets_and_a_login_and_a_second_finds_them_again(place: Place) -> None:
    first = place.start("up")
    within(STARTED_S, place.all_roles_live, "every role lives")
    said = shown(first)
    with urllib.request.urlopen(f"http://127.0.0.1:{place.web_port}/admin/login/", timeout=5) as page:
        assert page.status == 200
    stop(first)
    assert first.returncode == 0
    assert place.processes() == []

    password = (place.directory / "admin_password").read_text().strip()
    secrets = (place.directory / "quantum.env").read_text()
    assert f"http://127.0.0.1:{place.web_port}/admin/" in said
    assert f"admin  {password}" in said
    assert mode(place.directory) == 0o700
    assert mode(place.directory / "quantum.env") == mode(place.directory / "admin_password") == 0o600
    assert "SECRET_KEY=" in secrets
    assert "BINANCE_TRADE_SECRET=paper-" in secrets
    assert password not in place.log.read_text()

    second = place.start("up")
    within(STARTED_S, place.all_roles_live, "every role lives again")
    within(5, lambda: place.canary() is not None, "and a job comes through the queue")
    assert f"admin  {password}" in shown(second)
    stop(second, signal.SIGTERM)
    assert second.returncode == 0
    assert (place.directory / "quantum.env").read_text() == secrets


def test_a_second_up_on_the_same_folder_says_who_is_there(place: Place) -> None:
    first = place.start("up")
    within(STARTED_S, place.all_roles_live, "every role lives")
    second = place.start("up", QUANTUM_WEB_PORT="1")
    assert second.wait(STARTED_S) == 1
    assert last_line(place) == (
        f"up: another `up` (pid {first.pid}) runs on {place.directory}; stop it or set QUANTUM_VAR_DIR"
    )
    assert place.all_roles_live()


def test_a_killed_up_takes_everything_with_it_and_the_next_one_starts(place: Place) -> None:
    first = place.start("up")
    within(STARTED_S, place.all_roles_live, "every role lives")
    first.kill()
    first.wait()
    within(BACK_S, lambda: place.processes() == [], "nobody outlives it")
    place.start("up")
    within(STARTED_S, place.all_roles_live, "every role lives again")


def test_sigterm_to_all_processes_at_once_ends_them_all(place: Place) -> None:
    """As a service manager or a closed container does it."""
    up = place.start("up")
    within(STARTED_S, place.all_roles_live, "every role lives")
    for pid in place.processes():
        os.kill(pid, signal.SIGTERM)
    assert up.wait(BACK_S) == 0
    assert place.processes() == []


@pytest.mark.parametrize("name", ["QUANTUM_WEB_PORT", "PAPER_URL"])
def test_a_taken_port_is_one_line_with_the_remedy(place: Place, name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        env = (
            {"QUANTUM_WEB_PORT": str(port)}
            if name == "QUANTUM_WEB_PORT"
            else {"PAPER_URL": f"http://127.0.0.1:{port}"}
        )
        assert (
            place.start("up", **{"APPLY_MODE": "paper", "DRY_RUN_HOST": "paper", **env}).wait(STARTED_S) == 5
        )
    assert last_line(place).startswith(f"up: port {port} is taken; ")
    assert last_line(place).endswith(f"or set {name} to another")
    assert not (place.directory / "valkey").exists(), "checked before anything starts"


def test_a_folder_that_cannot_be_written_is_one_line_with_the_remedy(place: Place) -> None:
    (place.directory / "file").touch()
    assert place.start("up", QUANTUM_VAR_DIR=str(place.directory / "file" / "var")).wait(STARTED_S) == 5
    assert last_line(place).endswith("set QUANTUM_VAR_DIR to a folder that can be written")
    assert len(place.log.read_text().splitlines()) == 1


def test_an_env_file_without_a_secret_key_is_refused(place: Place) -> None:
    own = place.directory / "own.env"
    own.write_text("ACCOUNT=main\n")
    assert place.start("up", QUANTUM_ENV_FILE=str(own)).wait(STARTED_S) == 2
    assert last_line(place).startswith("up: SECRET_KEY is not set in")


def test_a_redis_that_does_not_answer_is_one_line_with_the_remedy(place: Place) -> None:
    nowhere = "redis://127.0.0.1:1/0"
    up = place.start("up", REDIS_URL=nowhere, QUEUE_URL=nowhere, CACHE_URL=nowhere)
    assert up.wait(20) == 5
    assert "Redis does not answer" in last_line(place)


@pytest.mark.parametrize(
    ("address", "refusal", "remedy"),
    [
        (
            "sqlite:///{}/no/such.sqlite3",
            "unable to open",
            "make sure that its folder and its disk can be written",
        ),
        ("sqlite:///{}/broken.sqlite3", "is not a database", "put its last backup in its place"),
        (
            "postgres://nobody@127.0.0.1:1/exits",
            "exits at 127.0.0.1 refuses",
            "start it and free space on its disk",
        ),
    ],
    ids=["no_folder", "broken", "down"],
)
def test_a_database_that_refuses_is_one_line_with_the_remedy(
    place: Place, address: str, refusal: str, remedy: str
) -> None:
    (place.directory / "broken.sqlite3").write_text("this was a database once\n" * 100)
    assert place.start("up", DATABASE_URL=address.format(place.directory)).wait(20) == 5
    said = last_line(place)
    assert said.startswith("up: the database ")
    assert refusal in said
    assert remedy in said
    assert "Traceback" not in place.log.read_text()


def last_line(place: Place) -> str:
    said = [line for line in place.log.read_text().splitlines() if line.startswith("up: ")]
    return said[-1] if said else ""
