"""manage.py export: the same bytes as the link below the page, a whole file or none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import OperationalError, connection

from quantum import lists
from quantum.commands import Exit
from quantum.models import AuditEvent
from tests.exports.by_hand import KINDS, NAMES, address, ended, failing_after, rows, text_of
from tests.flow.test_admin import someone
from tests.house import database_url


def run(*said: str) -> int:
    try:
        call_command("export", *said)
    except SystemExit as left:
        return int(left.code or 0)
    return int(Exit.OK)


def left_behind(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_it_gives_the_bytes_of_the_link(kind: str, tmp_path: Path) -> None:
    rows(3)
    web = someone("root", superuser=True)
    for name in NAMES:
        file, query = tmp_path / f"{name}.{kind}", "symbol=btcusdt"
        assert run(name, query, "--format", kind, "--out", str(file)) == Exit.OK
        assert file.read_bytes().decode() == text_of(web.get(address(name, kind, f"?{query}"))), name
    assert left_behind(tmp_path) == [f"{name}.{kind}" for name in NAMES]


def test_data_goes_to_stdout_and_talk_to_stderr(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    rows(2)
    assert run("plans", "symbol=BTCUSDT", "source=", "--format", "ndjson", "--by", "nina") == Exit.OK
    out, err = capsysbinary.readouterr()
    assert out.count(b"\n") == 3 and out.endswith(b'{"end":true,"rows":2}\n')
    assert err == b"2 rows.\n"
    begun = AuditEvent.objects.get(kind="export_begun")
    assert (begun.actor, begun.data["filters"]) == ("nina", {"symbol": "BTCUSDT"})


@pytest.mark.parametrize("said", ["symbl=BTCUSDT", "state=nonsense", "q=ab", "state"])
def test_what_makes_no_sense_is_refused_with_what_there_is(
    said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "plans.csv"
    assert run("plans", said, "--out", str(file)) == Exit.USAGE
    assert "Nothing was exported. " in capsys.readouterr().err
    assert left_behind(tmp_path) == []


def test_a_database_that_dies_leaves_the_older_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lists, "AT_ONCE", 2)
    rows(5)
    file = tmp_path / "plans.csv"
    file.write_text("of yesterday")
    with connection.execute_wrapper(failing_after(4)):
        assert run("plans", "--out", str(file)) == Exit.DEPENDENCY_DOWN
    assert "the database failed: OperationalError. No file was made." in capsys.readouterr().err
    assert (left_behind(tmp_path), file.read_text()) == (["plans.csv"], "of yesterday")


def test_without_the_record_nothing_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refused(**_: Any) -> None:
        raise OperationalError("no space")

    monkeypatch.setattr("quantum.exports.running.audit.record", refused)
    assert run("plans", "--out", str(tmp_path / "plans.csv")) == Exit.DEPENDENCY_DOWN
    assert left_behind(tmp_path) == []


def test_a_place_that_takes_no_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows(1)
    nowhere = tmp_path / "not" / "there.csv"
    assert run("plans", "--out", str(nowhere)) == Exit.ERROR
    assert f"{nowhere} cannot be written: No such file or directory." in capsys.readouterr().err
    assert ended() == [("cut", 0, "it was not read to its end")]


def test_who_reads_only_the_head_ends_it_without_a_traceback() -> None:
    """head closes the pipe: one line of talk, exit 1, and the event says that it was cut."""
    rows(400)
    told = {"DATABASE_URL": database_url()}
    program = [sys.executable, "manage.py", "export", "plans"]
    done = subprocess.run(
        ["/bin/bash", "-c", 'set -o pipefail; "$@" | head -1; exit "${PIPESTATUS[0]}"', "x", *program],
        cwd=settings.BASE_DIR, env={**os.environ, **told}, capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    assert done.returncode == Exit.ERROR, done.stderr
    assert done.stdout.startswith("id,plan_id,") and done.stdout.count("\n") == 1
    assert "nobody reads any more" in done.stderr and "Traceback" not in done.stderr
    assert [outcome for outcome, _, _ in ended()] == ["cut"]
