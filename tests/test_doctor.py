"""doctor finds what is wrong with real parts, names the remedy, and its exit code tells the kind."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import OperationalError, connection
from pytest_django.fixtures import Settings

from quantum import clock, doctor, instance
from quantum.commands import Exit
from quantum.doctor import Finding, State, place, server, work
from quantum.doctor.kernel import CHECKS
from quantum.models import Instance
from quantum.redis import Client
from tests.house import House

pytestmark = pytest.mark.usefixtures("db")


def only(found: Iterator[Finding]) -> Finding:
    [finding] = found
    return finding


def run() -> tuple[int, dict[str, list[dict[str, str]]]]:
    """The command itself, by its JSON: exit code, and findings by check."""
    out = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("doctor", json=True, stdout=out, stderr=io.StringIO())
    told = json.loads(out.getvalue())
    by_check: dict[str, list[dict[str, str]]] = {}
    for finding in told["findings"]:
        by_check.setdefault(finding["check"], []).append(finding)
    assert told["exit"] == ended.value.code
    return int(told["exit"]), by_check


# ---- the whole


def test_without_redis_one_check_fails_the_rest_waits_for_it_and_the_exit_code_is_5(
    settings: Settings, tmp_path: Path
) -> None:
    settings.REDIS_URL = f"unix://{tmp_path / 'nobody.sock'}?db=0"
    code, found = run()
    assert code == Exit.DEPENDENCY_DOWN
    assert found["redis"][0]["state"] == "fail"
    assert {name for name, rows in found.items() if "redis does not answer" in rows[0]["what"]} == {
        name for name, (_, needs) in CHECKS.items() if "redis" in needs
    }


def test_a_house_at_work_fails_only_for_what_the_tests_leave_out(house: House) -> None:
    """Roles run here without leases, so those two are missing; everything else is as it should be."""
    house.start()
    house.exit()
    instance.ensure(house.redis)
    code, found = run()
    failing = {name for name, rows in found.items() for row in rows if row["state"] == "fail"}
    assert failing <= {"roles", "folder"}, found
    assert code == Exit.ERROR
    assert {row["state"] for row in found["groups"]} == {"ok"}
    assert {row["state"] for name in ("trading", "exchange", "keys", "instance") for row in found[name]} == {
        "ok"
    }


def test_every_finding_that_is_not_ok_names_a_remedy(redis: Client) -> None:
    _, found = run()
    assert set(found) == {*CHECKS, "policy", "user stream"}
    assert all(row["remedy"] for rows in found.values() for row in rows if row["state"] != "ok")
    with pytest.raises(ValueError, match="remedy"):
        Finding(State.WARN, "something")


def test_text_is_one_line_for_each_finding(redis: Client) -> None:
    out = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("doctor", stdout=out, stderr=io.StringIO())
    lines = out.getvalue().splitlines()
    assert len(lines) >= len(CHECKS)
    assert all(line.split()[0] in ("ok", "warn", "fail") for line in lines)


def test_upper_floors_add_checks_and_a_name_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_checks", {})
    doctor.register("ledger", lambda: [doctor.ok("fine")])
    with pytest.raises(ValueError, match="ledger"):
        doctor.register("ledger", list)
    assert ("ledger", doctor.ok("fine")) in list(doctor.examine())


def test_the_exit_code_tells_a_service_that_is_down_from_other_faults() -> None:
    other, down = doctor.fail("x", remedy="y"), doctor.fail("x", remedy="y", dependency=True)
    warned = doctor.warn("x", remedy="y")
    assert doctor.exit_code([doctor.ok("x"), warned]) == Exit.OK
    assert doctor.exit_code([warned, other]) == Exit.ERROR
    assert doctor.exit_code([other, down]) == Exit.DEPENDENCY_DOWN


def test_a_password_in_an_address_is_not_shown(settings: Settings) -> None:
    settings.REDIS_URL = "redis://user:hunter2hunter2@127.0.0.1:1/0"  # not-a-secret
    assert "hunter2" not in only(server.redis()).what


# ---- the place


def test_a_signing_key_that_others_can_read_is_found(settings: Settings, tmp_path: Path) -> None:
    from quantum import signing

    settings.PERMIT_KEYS_DIR = tmp_path / "keys"
    assert {finding.state for finding in place.signing_keys()} == {State.FAIL}
    signing.ensure_keys(settings.PERMIT_KEYS_DIR)
    assert only(place.signing_keys()).state is State.OK
    (settings.PERMIT_KEYS_DIR / "p33.key").chmod(0o644)
    found = only(place.signing_keys())
    assert (found.state, "chmod 600" in found.remedy) == (State.FAIL, True)


@pytest.mark.parametrize(("name", "mode", "fails"), [("", 0o755, True), ("admin_password", 0o640, True)])
def test_a_folder_or_secret_that_others_can_read_is_found(
    settings: Settings, tmp_path: Path, name: str, mode: int, fails: bool
) -> None:
    settings.VAR_DIR = tmp_path / "var"
    settings.VAR_DIR.mkdir(mode=0o700)
    (settings.VAR_DIR / "admin_password").touch(mode=0o600)
    assert {finding.state for finding in place.folder()} == {State.OK}
    (settings.VAR_DIR / name).chmod(mode)
    assert (State.FAIL in {finding.state for finding in place.folder()}) is fails


def test_migrations_that_are_not_applied_are_found(transactional_db: None) -> None:
    assert only(place.migrations()).state is State.OK
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'apply'")
    try:
        found = only(place.migrations())
    finally:
        call_command("migrate", "apply", fake=True, verbosity=0)
    assert (found.state, found.remedy) == (State.FAIL, "run manage.py migrate")


def test_a_database_that_may_lose_a_committed_intent_is_found(transactional_db: None) -> None:
    assert only(place.database()).state is State.OK
    lose = {"sqlite": "PRAGMA synchronous=OFF", "postgresql": "SET synchronous_commit = off"}
    with connection.cursor() as cursor:
        cursor.execute(lose[connection.vendor])
    try:
        found = only(place.database())
    finally:
        connection.close()  # the next connection is made with the right settings again
    assert (found.state, "synchronous" in found.what) == (State.FAIL, True)


def test_a_database_that_does_not_answer_is_a_dependency_that_is_down(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OperationalError("connection refused")

    settings.DATABASE_URL = "postgres://user:hunter2hunter2@127.0.0.1:1/x"  # not-a-secret
    with monkeypatch.context() as patched:  # undone before the database's own fixture ends
        patched.setattr(connection, "ensure_connection", refuse)
        found = only(place.database())
    assert (found.state, found.dependency, "hunter2" in found.what) == (State.FAIL, True, False)


# ---- the server


@pytest.mark.parametrize(
    ("check", "name", "wrong", "right"),
    [
        (server.eviction, "maxmemory-policy", "allkeys-lru", "noeviction"),
        (server.durability, "appendonly", "no", "yes"),
    ],
)
def test_a_server_that_may_forget_is_found(
    redis: Client, check: Callable[[], Iterator[Finding]], name: str, wrong: str, right: str
) -> None:
    assert only(check()).state is State.OK
    redis.config_set(name, wrong)
    try:
        found = only(check())
    finally:
        redis.config_set(name, right)
    assert found.state is State.FAIL
    assert name in found.remedy


def test_a_server_without_a_command_we_need_is_found(redis: Client, settings: Settings) -> None:
    """A user who may not use a command is refused by rights; here the command is really not known."""
    assert only(server.features()).state is State.OK
    assert not server._has(redis, lambda client: client.eval("return redis.call('XNOTHERE')", 0))


@pytest.mark.parametrize(("ahead_ms", "state"), [(0, State.OK), (2000, State.WARN), (-6000, State.FAIL)])
def test_e25_a_clock_that_is_off_is_found(
    redis: Client, monkeypatch: pytest.MonkeyPatch, ahead_ms: int, state: State
) -> None:
    true_ms = clock.now_ms
    monkeypatch.setattr(clock, "now_ms", lambda: true_ms() + ahead_ms)
    assert only(server.skew()).state is state


@pytest.mark.parametrize(("ahead_ms", "state"), [(0, State.OK), (-6000, State.WARN)])
def test_c10_a_clock_of_the_database_that_is_off_is_shown_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, ahead_ms: int, state: State
) -> None:
    true_ms = clock.now_ms
    monkeypatch.setattr(clock, "now_ms", lambda: true_ms() + ahead_ms)
    sqlite = connection.vendor == "sqlite"
    assert only(server.database_skew()).state is (State.OK if sqlite else state)


# ---- what is at work


def test_a_role_that_nobody_runs_is_found_with_the_time_it_was_last_seen(redis: Client) -> None:
    keys = settings.KEYS
    beat = json.dumps({"at_ms": clock.now_ms() - 120_000})
    redis.set(keys.lease("p33"), f"{settings.QUANTUM_HOST}/1/abc")
    redis.set(keys.heartbeat("governor", settings.QUANTUM_HOST), beat)
    found = {finding.what.split()[0]: finding for finding in work.at_work()}
    assert (found["p33"].state, found["governor"].state) == (State.OK, State.FAIL)
    assert "2 min ago" in found["governor"].what
    assert "never" in found["warden"].what


@pytest.mark.parametrize(("raw", "state"), [(None, "warn"), ("old", "warn"), ("new", "ok"), ("x", "warn")])
def test_a_queue_that_carries_nothing_is_found(redis: Client, raw: str | None, state: str) -> None:
    now_ms = clock.now_ms()
    value = {"old": str(now_ms - 60_000), "new": str(now_ms)}.get(raw or "", raw)
    if value is not None:
        redis.set(settings.KEYS.canary, value)
    assert only(work.queue()).state.value == state


def test_a_group_that_left_an_entry_unacknowledged_is_found(
    redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = settings.KEYS.plan_stream
    redis.xgroup_create(stream, "apply", id="0", mkstream=True)
    redis.xadd(stream, {"a": "b"})
    redis.xreadgroup("apply", "someone", {stream: ">"})
    by_group = {finding.what.split(":")[0]: finding.state for finding in work.groups()}
    assert by_group["apply"] is State.OK
    true_ms = clock.now_ms
    monkeypatch.setattr(clock, "now_ms", lambda: true_ms() + 40_000)
    by_group = {finding.what.split(":")[0]: finding.state for finding in work.groups()}
    assert by_group["apply"] is State.WARN


def test_dead_letters_are_counted_and_shown_safely(redis: Client) -> None:
    assert only(work.dead_letters()).state is State.OK
    redis.xadd(settings.KEYS.dead_letters(settings.KEYS.plan_stream), {"error": b"bad \x1b[31m\n\xff"})
    found = only(work.dead_letters())
    assert found.state is State.WARN
    assert "\x1b" not in found.what
    assert "\n" not in found.what


@pytest.mark.parametrize(
    ("raw", "state"),
    [
        (None, State.FAIL),
        ({"state": "ACTIVE", "by": "x", "reason": "y"}, State.OK),
        ({"state": "HALTED", "by": "x", "reason": "y"}, State.WARN),
        ("[1, 2", State.WARN),
    ],
)
def test_a_trading_state_that_stops_exits_is_found(redis: Client, raw: Any, state: State) -> None:
    if raw is not None:
        redis.set(settings.KEYS.trading_state, raw if isinstance(raw, str) else json.dumps(raw), px=5000)
    assert only(work.trading()).state is state


def test_an_exchange_that_p33_cannot_read_is_found_by_the_age_of_its_snapshots(redis: Client) -> None:
    found = only(work.exchange())
    assert (found.state, found.dependency) == (State.FAIL, True)
    for symbol in settings.APPLY_ALLOWLIST:
        redis.hset(settings.KEYS.snapshot(symbol), "ts_epoch", f"{clock.now_s():.3f}")
    assert only(work.exchange()).state is State.OK
    redis.hset(settings.KEYS.snapshot("BTCUSDT"), "ts_epoch", f"{clock.now_s() - 60:.3f}")
    assert only(work.exchange()).state is State.FAIL


# ---- the identity of the instance (I15)


def test_an_instance_is_stored_once_and_a_wiped_redis_learns_it_again(redis: Client) -> None:
    first = instance.ensure(redis)
    assert instance.ensure(redis) == first
    redis.flushall()
    assert instance.check(redis) == first
    assert instance.ensure(redis) == first
    assert redis.exists(settings.KEYS.instance)
    assert Instance.objects.count() == 1


@pytest.mark.parametrize(("name", "other"), [("APPLY_MODE", "testnet"), ("ACCOUNT", "other")])
def test_another_mode_or_account_on_the_same_database_is_refused(
    redis: Client, settings: Settings, name: str, other: str
) -> None:
    instance.ensure(redis)
    setattr(settings, name, other)
    with pytest.raises(instance.WrongInstance, match=name):
        instance.ensure(redis)
    assert only(server.identity()).state is State.FAIL


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b"{}", b'{"id":"x","mode":"paper","account":"main"}'])
def test_keys_of_another_instance_are_refused_and_left_alone(redis: Client, raw: bytes) -> None:
    redis.set(settings.KEYS.instance, raw)
    with pytest.raises(instance.WrongInstance, match="KEY_PREFIX"):
        instance.ensure(redis)
    assert redis.get(settings.KEYS.instance) == raw
    assert only(server.identity()).state is State.FAIL


def test_doctor_stores_no_identity(redis: Client) -> None:
    assert only(server.identity()).state is State.WARN
    assert not Instance.objects.exists()
    assert not redis.exists(settings.KEYS.instance)
