"""What a newcomer's machine may lack or break: each is one line, and the line says what to do."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest
from pytest_django.fixtures import Settings

from quantum import up

ROOT = Path(__file__).resolve().parents[1]
FIND = ROOT / "tools" / "find_python.sh"


def found(script: Path, **env: str) -> tuple[int, str, str]:
    done = subprocess.run(["/bin/sh", str(script)], env=env, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout, done.stderr


def test_a_named_python_that_does_not_run_is_one_line_with_the_remedy() -> None:
    assert found(FIND, PYTHON="/nonexistent", PATH=os.environ["PATH"]) == (
        1,
        "",
        "set-up: PYTHON=/nonexistent does not run, or is older than Python 3.11; name one that is 3.11 or newer\n",
    )


def test_a_python_that_is_too_old_is_refused_like_one_that_does_not_run(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    code, out, said = found(FIND, PYTHON=str(old), PATH=os.environ["PATH"])
    assert (code, out) == (1, "")
    assert "name one that is 3.11 or newer" in said


def test_a_machine_without_python_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    """The script's one fixed folder is led astray too: this machine has a Python there."""
    script = tmp_path / "find_python.sh"
    text = FIND.read_text()
    assert "/usr/bin/python" in text
    script.write_text(text.replace("/usr/bin/python", f"{tmp_path}/python"))
    code, out, said = found(script, PATH="/nonexistent")
    assert (code, out) == (1, "")
    assert said.startswith(
        "set-up: no Python 3.11 or newer found; install one (Debian, Ubuntu: apt-get install"
    )
    assert said.endswith("or name it: make PYTHON=/path/to/python3\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "; free space on that disk, or set QUANTUM_VAR_DIR to a folder on another"),
        (errno.EDQUOT, "; free space on that disk, or set QUANTUM_VAR_DIR to a folder on another"),
        (
            errno.EIO,
            "; that disk is failing: set QUANTUM_VAR_DIR to a folder on another, with what can be saved",
        ),
        (errno.EROFS, "; set QUANTUM_VAR_DIR to a folder that can be written"),
    ],
    ids=lambda value: errno.errorcode.get(value, "") if isinstance(value, int) else "",
)
def test_a_disk_that_takes_nothing_is_one_line_with_the_remedy(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, remedy: str
) -> None:
    def refuse(_descriptor: int) -> NoReturn:
        raise OSError(number, os.strerror(number))

    settings.VAR_DIR = tmp_path / "var"
    monkeypatch.delenv("QUANTUM_ENV_FILE", raising=False)
    monkeypatch.setattr(os, "fsync", refuse)
    said: list[str] = []
    with pytest.raises(up.CannotStart) as refusal:
        up.run(stop=up.Stop(), say=said.append, show=said.append)
    assert str(refusal.value) == f"{tmp_path / 'var'}: {os.strerror(number)}{remedy}"
    assert (refusal.value.exit_code, said) == (5, [])


METRICS_ON_A_FULL_DISK = """
import os, django
real = os.statvfs
def full(path):
    disk = list(real(path)); disk[4] = 0
    return os.statvfs_result(disk)
os.statvfs = full
django.setup()
from quantum import metrics
metrics.DEAD_LETTERS.labels(group="apply").inc()
[told] = [found for found in metrics.registry().collect() if found.name == "quantum_dead_letters"]
for _ in range(2):  # each scrape adds what it reads then
    from quantum import gauges
    scraped = metrics.registry()
    scraped.register(gauges.Sources())
print(told.samples[0].value, os.listdir(os.environ["QUANTUM_VAR_DIR"] + "/metrics"))
"""


def test_a_full_disk_ends_no_process_by_its_counters(tmp_path: Path) -> None:
    """They are mapped files: a page that finds no block is SIGBUS, of which nobody can say anything. `up` hands its
    folder on to its children, so it is not only the first who looks."""
    env = {
        "PATH": os.environ["PATH"],
        "DJANGO_SETTINGS_MODULE": "quantum.settings",
        "QUANTUM_VAR_DIR": str(tmp_path),
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"),
    }
    done = subprocess.run(
        [sys.executable, "-c", METRICS_ON_A_FULL_DISK],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("1.0 []\n", "")
