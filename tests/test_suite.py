"""What `.ci/run` does with tests that fail: see docs/decisions/036."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tools import machine as machines
from tools import suite
from tools.machine import Machine
from tools.suite import Failure, Look

GREEN = Look(0, [])


def failed(*tests: str) -> Look:
    return Look(suite.FAILED, [Failure(test, float(test), float(test)) for test in tests])


class Runs:
    """Looks that come out as told; a test whose name is negative ran while the machine stood still."""

    def __init__(self, *looks: Look) -> None:
        self.looks = list(looks)
        self.failed: list[str] = []

    def __call__(self, only: Sequence[str]) -> Look:
        assert list(only) == self.failed
        found = self.looks.pop(0)
        self.failed = [failure.test for failure in found.failures]
        return found

    @staticmethod
    def away(failure: Failure) -> str:
        return "the machine stood still" if failure.began < 0 else ""


@pytest.mark.parametrize(
    ("looks", "status"),
    [
        ([GREEN], 0),
        ([failed("1"), GREEN], 0),
        ([failed("1", "2", "3"), GREEN], 0),
        ([failed("1", "2", "3", "4")], 1),
        ([failed("1"), failed("1")], 1),
        ([failed("-1", "-2", "-3", "-4", "5"), GREEN], 0),
        ([failed("-1"), failed("-1"), failed("-1"), GREEN], 0),
        ([failed("-1"), failed("-1"), failed("-1"), failed("-1")], 1),
        ([failed("-1"), failed("1")], 1),
        ([failed("-1"), failed("-1", "2")], 1),
        ([failed("1"), Look(2, [])], 2),
        ([Look(2, [])], 2),
        ([Look(suite.FAILED, [])], 1),
    ],
)
def test_what_fails_on_a_machine_that_ran_fails_the_suite(looks: list[Look], status: int) -> None:
    runs = Runs(*looks)
    assert suite.judged(runs, runs.away, again=True) == status
    assert runs.looks == [], "it did not look so often"


def test_outside_ci_a_failure_is_a_failure() -> None:
    runs = Runs(failed("-1"), GREEN)
    assert suite.judged(runs, runs.away, again=False) == suite.FAILED


def test_time_that_nobody_had_is_seen_and_a_busy_processor_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.time()
    machine, sleep = Machine(), time.sleep
    sleep(0.1)
    quiet = time.time()
    assert machine.stood_s(began - 9, began) == 0
    monkeypatch.setattr("tools.machine.time.sleep", lambda seconds: sleep(seconds + 0.3))
    sleep(0.5)
    monkeypatch.undo()
    assert machine.stood_s(quiet, time.time()) >= 0.3
    assert machine.stood_s(time.time() + 9, time.time() + 10) == 0


def test_time_that_the_host_takes_in_slices_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "COUNT_EVERY_S", 0.0)
    for share, away in ((50, "50 % of the machine was taken meanwhile"), (0, "")):
        wanted = itertools.count(0, 100)
        monkeypatch.setattr("tools.machine.stolen.counted", lambda: ((at := next(wanted)) * share // 100, at))
        machine, began = Machine(), time.time()
        time.sleep(0.3)
        assert machine.away(began + 0.05, began + 0.2) == away


FAILS_TWICE = """
import pytest, time
@pytest.fixture
def slow():
    time.sleep(0.2)
    yield
    assert False
@pytest.mark.parametrize("of", ["a@b"])
@pytest.mark.xdist_group("a group")
def test_fails_twice(slow, of):
    assert False
def test_passes():
    pass
"""


def test_a_failed_test_is_told_once_with_the_time_of_its_setup(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(FAILS_TWICE)
    told = tmp_path / "told"
    run = _pytest(tmp_path, f"--failures={told}", *suite.IN_COMPANY)
    assert run.returncode == suite.FAILED, run.stdout.decode()
    [failure] = [Failure(**json.loads(line)) for line in told.read_text().splitlines()]
    assert failure.test.endswith("test_it.py::test_fails_twice[a@b]")
    assert failure.ended - failure.began >= 0.2


DIES = """
import os, time
def test_dies():
    time.sleep(0.2)
    os._exit(3)
"""


def test_a_worker_that_dies_is_told_with_the_time_in_which_it_did(tmp_path: Path) -> None:
    """xdist says none: a test that hung while the machine stood still would count as one that failed on a machine that
    ran."""
    (tmp_path / "test_it.py").write_text(DIES)
    told, before = tmp_path / "told", time.time()
    run = _pytest(tmp_path, f"--failures={told}", *suite.IN_COMPANY)
    assert run.returncode == suite.FAILED, run.stdout.decode()
    [failure] = [Failure(**json.loads(line)) for line in told.read_text().splitlines()]
    assert failure.test.endswith("test_it.py::test_dies")
    assert before < failure.began < failure.ended < time.time()
    assert failure.ended - failure.began >= 0.2


def test_what_failed_in_company_is_found_by_its_name_and_runs_alone(tmp_path: Path) -> None:
    """Behind the name of a test xdist writes its group: asked for by that, pytest found none and ran them all."""
    (tmp_path / "test_it.py").write_text(FAILS_TWICE)
    run = _pytest(tmp_path, "--only=test_it.py::test_fails_twice[a@b]")
    assert "1 failed, 1 deselected, 1 error" in run.stdout.decode()
    assert run.returncode == suite.FAILED
    unknown = _pytest(tmp_path, "--only=test_it.py::test_gone")
    assert "no such test: test_it.py::test_gone" in (unknown.stdout + unknown.stderr).decode()
    assert unknown.returncode not in (0, suite.FAILED)


def test_what_belongs_together_runs_on_one_worker(tmp_path: Path) -> None:
    """pytest 9.2 left out what xdist 3.8 writes into the name of a test, and said nothing: three Chromiums at once, and
    each module's own exchange started on every worker."""
    (tmp_path / "test_it.py").write_text(
        "import os, pathlib, pytest, time\n"
        "@pytest.mark.parametrize('number', range(8))\n"
        "@pytest.mark.xdist_group('together')\n"
        "def test_together(number):\n"
        "    time.sleep(0.05)\n"
        "    worker = os.environ['PYTEST_XDIST_WORKER']\n"
        f"    pathlib.Path({str(tmp_path)!r}, f'{{number}}.ran').write_text(worker)\n"
    )
    run = _pytest(tmp_path, *suite.IN_COMPANY)
    assert run.returncode == 0, run.stdout.decode()
    ran = [path.read_text() for path in tmp_path.glob("*.ran")]
    assert len(ran) == 8
    assert len(set(ran)) == 1


def _pytest(folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Of its own, without this suite's settings and plugins."""
    plain = (
        f"-q -p tests.failures -p xdist.plugin -p no:cacheprovider -c {os.devnull} --rootdir {folder}".split()
    )
    root = Path(suite.__file__).resolve().parents[1]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *plain, *words, str(folder)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(root), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        check=False,
    )
