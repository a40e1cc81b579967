"""The command `redis_acl`: passwords made once, and a file that holds none of them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from django.core.management import call_command
from pytest_django.fixtures import Settings

from quantum.redis_users import USERS


@pytest.fixture
def acl_place(settings: Settings, tmp_path: Path) -> Path:
    settings.REDIS_USERS_DIR = ""
    return tmp_path


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_command_makes_passwords_once_and_a_file_without_them(acl_place: Path) -> None:
    out, folder = acl_place / "users.acl", acl_place / "users"
    asked = {"passwords": folder, "out": out, "separate": "yes"}
    call_command("redis_acl", **asked)
    first = out.read_text()
    passwords = {path.stem: path.read_text().strip() for path in folder.iterdir()}
    assert set(passwords) == set(USERS)
    assert {mode_of(path) for path in (out, *folder.iterdir())} == {0o600}
    assert len(set(passwords.values())) == len(USERS)
    assert all(len(one) >= 40 and one not in first for one in passwords.values())

    call_command("redis_acl", **asked)
    assert out.read_text() == first
    call_command("redis_acl", **asked, rotate=["p33"])
    changed = [one.split()[1] for one, two in zip(out.read_text().splitlines(), first.splitlines(), strict=True)
               if one != two]  # fmt: skip
    assert changed == ["p33"]


def test_without_passwords_the_file_is_one_that_no_server_takes(
    acl_place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("redis_acl", separate="no")
    text = capsys.readouterr().out
    assert "#{governor}" in text and "nopass" not in text and "%R~" not in text
    assert text.startswith("user default off")
