"""Wrong settings refuse to start: the variable is named, what would be right is said, no value is shown."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from django.conf import settings

MARK = "zq7value"
"""Part of every wrong value and secret below: it must never be printed."""
KEY = f"{MARK}{'k' * 60}"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "var"


def check(place: Path, *words: str, program: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """A fresh process that knows nothing of the tests' own environment."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    command = [sys.executable, "-c", program] if program else [sys.executable, "manage.py", "check", *words]
    done = subprocess.run(
        command,
        cwd=settings.BASE_DIR,
        env={**kept, "QUANTUM_VAR_DIR": str(place), **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert MARK not in done.stdout + done.stderr, "a value was printed"
    return done


def refusals(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """What was said of each variable. A refusal is exit code 2 and no traceback."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if ": " in line and line.split(":")[0].isupper()]
    return dict(line.split(": ", 1) for line in lines)


def value_of(place: Path, name: str, **variables: str) -> str:
    show = f"from quantum import settings; print(settings.{name})"
    done = check(place, program=show, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


WRONG = {
    "APPLY_MODE": "one of dry_run, paper, testnet, live",
    "ACCOUNT": "1-32 of a-z 0-9 _ -",
    "KEY_PREFIX": "a short word",
    "APPLY_ALLOWLIST": "BTCUSDT,ETHUSDT",
    "APPLY_PERMIT_WAIT_MS": "a whole number from 50 to 10000",
    "APPLY_PLAN_TTL_SEC": "a number from 1 to 300",
    "EXIT_BRAIN": "off, demo, rules",
    "EXIT_INTERVAL": "one of 1m, 3m",
    "EXIT_RISK_PCT": "a number from 0.01 to 50",
    "PERMIT_TTL_SEC": "a whole number from 15 to 60",
    "PERMIT_SIGNATURES": "one of required, optional",
    "P33_STALE_THRESHOLD_SEC": "a number from 0.5 to 60",
    "P33_QTY_TOLERANCE_PCT": "a number from 0 to 10",
    "LEDGER_SOURCES": "client-id prefixes",
    "GOV_MAX_EXEC_PER_5MIN": "a whole number from 1",
    "GOV_MAX_REDUCE_QTY_PER_DAY": "a number from 0",
    "REDIS_URL": "redis://, rediss://, unix://",
    "DATABASE_URL": "sqlite://, postgres://, postgresql://",
    "PAPER_URL": "http://",
    "QUANTUM_WEB_PORT": "a whole number from 1 to 65535",
    "LOG_LEVEL": "one of DEBUG, INFO, WARNING, ERROR",
    "QUANTUM_FAULT": "<point>",
}


def test_one_start_names_everything_that_is_wrong_and_what_would_be_right(place: Path) -> None:
    found = refusals(check(place, **dict.fromkeys(WRONG, f"{MARK}, §")))
    for name, right in WRONG.items():
        assert right in found.get(name, ""), f"{name}: {found.get(name)}"


def test_numbers_are_taken_strictly(place: Path) -> None:
    wrong = {
        "APPLY_PLAN_TTL_SEC": "NaN",
        "P33_COOLDOWN_SEC": "-1",
        "PERMIT_TTL_SEC": "14",
        "QUANTUM_WEB_PORT": "8000.5",
        "RESOLVER_GAP_SEC": "inf",
        "ALLOWED_HOSTS": "*",
    }
    assert set(refusals(check(place, **wrong))) == set(wrong)


def test_an_unknown_name_of_ours_is_refused_and_a_name_of_others_is_not(place: Path) -> None:
    ours = (
        *("APPLY_MODUS", "GOV_MAX", "P33_STALE", "QUANTUM_PORT", "PERMIT_TTL", "APPROVER_REQUIRED"),
        *("BREAK_GLASS_SECOND_PERSON", "RECONCILE_AT_START", "RESOLVER_GAP", "LEDGER_SOURCE"),
    )
    found = refusals(check(place, **dict.fromkeys((*ours, "BINANCE_REGION", "APPLICATION"), MARK)))
    assert set(found) == set(ours)
    assert all("unknown setting" in text and "README" in text for text in found.values())


def test_f4_settings_contradict_each_other_with_both_names(place: Path) -> None:
    found = refusals(check(place, APPLY_PERMIT_WAIT_MS="60", APPLY_PERMIT_STEP_MS="60"))
    assert "APPLY_PERMIT_WAIT_MS" in found["APPLY_PERMIT_STEP_MS"]


def test_codes_for_everybody_need_a_key_that_outlives_a_restart(place: Path) -> None:
    assert "WEB_TOTP_REQUIRED" in refusals(check(place, WEB_TOTP_REQUIRED="on"))["SECRET_KEY"]


def test_f4_limits_that_make_each_other_useless_or_disarm_exits_are_refused(place: Path) -> None:
    found = refusals(check(place, GOV_MAX_EXEC_PER_5MIN="61", GOV_MAX_REDUCE_QTY_PER_DAY="0"))
    assert "GOV_MAX_EXEC_PER_5MIN" in found["GOV_MAX_EXEC_PER_HOUR"]
    assert "a number from 0.000001" in found["GOV_MAX_REDUCE_QTY_PER_DAY"]


def test_nothing_at_all_is_right(place: Path) -> None:
    done = check(place)
    assert done.returncode == 0, done.stderr
    assert value_of(place, "APPLY_MODE") == "paper"


# ---- where values come from


def test_a_value_may_come_from_a_file_of_its_own(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "account"
    file.write_text("from_a_file\n")
    assert value_of(place, "ACCOUNT", ACCOUNT_FILE=str(file)) == "from_a_file"


def test_a_file_that_cannot_be_read_is_named_by_its_variable(place: Path, tmp_path: Path) -> None:
    found = refusals(check(place, SECRET_KEY_FILE=str(tmp_path / f"{MARK}-missing")))
    assert "file that can be read" in found["SECRET_KEY_FILE"]


def test_an_env_file_is_read_and_the_process_environment_wins(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.env"
    file.write_text(f"ACCOUNT=from_env_file\nLOG_LEVEL=ERROR\nSECRET_KEY={KEY}\n")
    given = {"QUANTUM_ENV_FILE": str(file), "LOG_LEVEL": "WARNING"}
    assert value_of(place, "ACCOUNT", **given) == "from_env_file"
    assert value_of(place, "LOG_LEVEL", **given) == "WARNING"


def test_no_database_url_has_the_server_bind_values(place: Path) -> None:
    """It takes one statement at a time then: no intent, and no settlement, would ever be written."""
    url = "postgres://u@127.0.0.1:1/x?server_side_binding=true&application_name=mine"
    options = value_of(place, "DATABASES['default']['OPTIONS']", DATABASE_URL=url)
    assert "'server_side_binding': False" in options
    assert "'application_name': 'mine'" in options


def test_no_database_url_takes_away_that_a_commit_is_written(place: Path) -> None:
    """What PostgreSQL hears last holds; an intent that was told as committed could be lost with the power."""
    url = "postgres://u@127.0.0.1:1/x?options=-c%20work_mem%3D8MB%20-c%20synchronous_commit%3Doff"
    options = value_of(place, "DATABASES['default']['OPTIONS']['options']", DATABASE_URL=url)
    assert options.strip("'") == "-c work_mem=8MB -c synchronous_commit=off -c synchronous_commit=on"


def test_an_env_file_is_held_to_the_same_rules(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.env"
    file.write_text(f"APPLY_MODUS={MARK}\nPERMIT_TTL_SEC={MARK}\n")
    assert set(refusals(check(place, QUANTUM_ENV_FILE=str(file)))) == {"APPLY_MODUS", "PERMIT_TTL_SEC"}


def test_an_env_file_that_is_not_there_is_refused(place: Path, tmp_path: Path) -> None:
    found = refusals(check(place, QUANTUM_ENV_FILE=str(tmp_path / "missing.env")))
    assert "correct the path" in found["QUANTUM_ENV_FILE"]


# ---- live


def test_live_needs_its_confirmation_a_secret_key_signatures_and_no_fault(place: Path) -> None:
    given = {"PERMIT_SIGNATURES": "optional", "QUANTUM_FAULT": "pair_spent:kill", "LIVE_CONFIRM": MARK}
    found = refusals(check(place, APPLY_MODE="live", **given))
    assert set(found) == {"LIVE_CONFIRM", "SECRET_KEY", "PERMIT_SIGNATURES", "QUANTUM_FAULT"}


@pytest.mark.parametrize("confirmed", ["", "main2"])
def test_f2_live_starts_only_for_the_account_that_was_confirmed(place: Path, confirmed: str) -> None:
    given = {"APPLY_MODE": "live", "SECRET_KEY": KEY, "ACCOUNT": "main"}
    assert set(refusals(check(place, LIVE_CONFIRM=confirmed, **given))) == {"LIVE_CONFIRM"}


def test_f3_live_starts_when_everything_it_needs_is_there_and_djangos_own_list_is_clean(place: Path) -> None:
    given = {"SECRET_KEY": KEY, "ACCOUNT": "main", "LIVE_CONFIRM": "main"}
    done = check(place, "--deploy", "--fail-level", "WARNING", APPLY_MODE="live", **given)
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout


def test_a_fault_point_is_allowed_outside_live(place: Path) -> None:
    assert check(place, QUANTUM_FAULT="pair_spent:kill").returncode == 0


def test_passwords_are_kept_by_the_slow_hasher_of_django(place: Path) -> None:
    """Those of the tests are not: tests/conftest.py."""
    setup = "import os, django; os.environ['DJANGO_SETTINGS_MODULE'] = 'quantum.settings'; django.setup(); "
    made = "from django.contrib.auth.hashers import make_password; print(make_password('a long phrase'))"
    assert check(place, program=setup + made, SECRET_KEY=KEY).stdout.startswith("pbkdf2_sha256$")


@pytest.mark.parametrize(("journal", "lock"), [("WAL", "IMMEDIATE"), ("DELETE", "EXCLUSIVE")])
def test_a_command_begins_while_somebody_else_writes(place: Path, journal: str, lock: str) -> None:
    """As the paper exchange does while `up` makes the tables, and `halt` on a busy night."""
    place.mkdir()
    with closing(sqlite3.connect(place / "quantum.sqlite3", isolation_level=None)) as line:
        line.execute(f"PRAGMA journal_mode={journal}")
        line.execute(f"BEGIN {lock}")
        line.execute("CREATE TABLE being_made (n INTEGER)")
        done = check(place, SECRET_KEY=KEY)
    assert done.returncode == 0, done.stderr
