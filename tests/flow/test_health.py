"""What machines are told: /healthz and /metrics."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError
from django.test import Client as WebClient
from django.test import override_settings

from apply.acting.lanes import Lanes
from apply.glance import glance
from permits.models import TradingState
from permits.state import holds, trading
from quantum import ailing, clock, metrics, roles
from quantum.health import STARTS_OF_A_STORM
from quantum.lease import HEARTBEAT_LIFE_MS, Lease
from quantum.redis import Client
from quantum.stream import Consumer, Entry
from tests.house import Terms

NOWHERE = "unix:///nowhere/at-all.sock"


def beat(redis: Client, *names: str, host: str = settings.QUANTUM_HOST) -> None:
    for name in names or [role.name for role in roles.registered()]:
        lease = Lease(client=redis, keys=settings.KEYS, role=name, host=host, pid=1, versions={})
        assert lease.take() is None


def health() -> tuple[int, dict[str, Any]]:
    answer = WebClient().get("/healthz")
    return answer.status_code, json.loads(answer.content)


def test_health_is_good_while_every_role_beats(redis: Client, transactional_db: None) -> None:
    beat(redis)
    status, said = health()
    assert (status, said["ok"], said["database"], said["redis"]) == (200, True, "ok", "ok")
    assert set(said["roles"]) == {"governor", "p33", "apply", "warden"}


def test_health_sees_a_role_that_another_host_runs(redis: Client, transactional_db: None) -> None:
    beat(redis, host="other-host")
    assert health()[0] == 200


def test_health_names_the_role_that_fell_silent(redis: Client, transactional_db: None) -> None:
    beat(redis, "governor", "apply", "warden")
    status, said = health()
    assert (status, said["roles"]["p33"]) == (503, "SILENT, not seen")
    beat(redis, "p33")
    redis.pexpire(settings.KEYS.heartbeat("p33", settings.QUANTUM_HOST), HEARTBEAT_LIFE_MS - 6100)
    status, said = health()
    assert status == 503
    assert said["roles"]["p33"].startswith("SILENT, seen 6.")
    assert said["roles"]["governor"].startswith("ok")


@pytest.fixture
def cannot_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ailing, "_last", None)
    ailing.note(OperationalError("disk is full, password=pass-word"))


def test_health_is_red_while_a_role_cannot_use_its_database(
    redis: Client, transactional_db: None, cannot_write: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat(redis, "apply")
    monkeypatch.setattr(ailing, "_last", None)
    beat(redis, "governor", "p33", "warden")
    status, said = health()
    assert (status, said["ok"]) == (503, False)
    assert said["roles"]["apply"].startswith("FAILING, seen 0.")
    assert said["roles"]["apply"].endswith("database: OperationalError")
    assert said["roles"]["p33"].startswith("ok")
    assert "pass-word" not in json.dumps(said)
    found = glance.look()
    assert not found.flows
    [trouble] = [each for each in found.troubles if each.kind == "ailing"]
    assert trouble.text == "apply cannot use the database"


def fails(*_: object) -> Any:
    raise OperationalError("disk is full")


def in_a_lane() -> None:
    lanes = Lanes()
    lanes.put("BTCUSDT", fails, done=lambda: None)
    lanes.drain()


def in_a_handler() -> None:
    consumer = Consumer(terms=Terms("tests"), stream="a-stream", group="a-group", handle=fails)
    consumer._hand_over(Entry(entry_id="1-1", fields={}))


@pytest.mark.parametrize("meet", [in_a_lane, in_a_handler])
def test_whoever_meets_a_database_that_fails_notes_it(
    redis: Client, transactional_db: None, monkeypatch: pytest.MonkeyPatch, meet: Callable[[], None]
) -> None:
    monkeypatch.setattr(ailing, "_last", None)
    meet()
    assert ailing.now() == "database: OperationalError"


def test_a_failure_of_half_a_minute_ago_is_not_told_any_more(
    cannot_write: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = clock.boot_s()
    assert ailing.now() == "database: OperationalError"
    monkeypatch.setattr(clock, "boot_s", lambda: now_s + ailing.STANDS_S)
    assert ailing.now() == ""


def test_a15_health_says_that_a_role_keeps_restarting(redis: Client, transactional_db: None) -> None:
    """It is alive, and exits flow: a word and a number, and health stays good."""
    beat(redis)
    for start in range(STARTS_OF_A_STORM):
        redis.hset(roles.starts_key("apply"), str(start), 1)
    status, said = health()
    assert status == 200
    assert said["roles"]["apply"].startswith("RESTARTING, seen 0.")
    assert said["roles"]["apply"].endswith("5 starts in an hour")
    assert [each.about for each in glance.look().troubles if each.kind == "restarting"] == ["apply"]


def test_a_heartbeat_that_is_none_of_ours_breaks_no_page(redis: Client, transactional_db: None) -> None:
    beat(redis)
    for name, text in (("apply", b"\xff{"), ("governor", b"[1]"), ("p33", b'{"ailing": {"a": 1}}')):
        redis.set(settings.KEYS.heartbeat(name, settings.QUANTUM_HOST), text, px=HEARTBEAT_LIFE_MS)
    assert set(health()[1]["roles"]) == {"governor", "p33", "apply", "warden"}


def test_health_without_redis_says_so_and_gives_nothing_away(redis: Client, transactional_db: None) -> None:
    with override_settings(REDIS_URL="redis://:pass-word@127.0.0.1:1/0"):
        status, said = health()
    assert (status, said["redis"], said["database"]) == (503, "no answer", "ok")
    assert "pass-word" not in json.dumps(said)


# ---- metrics


def scraped() -> dict[str, float]:
    lines = str(WebClient().get("/metrics").content.decode()).splitlines()
    rows = [line.rpartition(" ") for line in lines if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in rows}


@pytest.fixture
def crowded(redis: Client, transactional_db: None) -> Client:
    """Three plans on the stream, two in the governor's hands; one dead letter; one hold; ACTIVE."""
    stream = settings.KEYS.plan_stream
    for _ in range(3):
        redis.xadd(stream, {"plan_id": "x"})
    redis.xgroup_create(stream, "governor", id="0")
    redis.xreadgroup("governor", "tests", {stream: ">"}, count=2)
    redis.xadd(settings.KEYS.dead_letters(stream), {"error": "x"})
    holds.place(redis, symbol="ETHUSDT", by="omar", reason="drift")
    trading.change(state=TradingState.State.ACTIVE, by="nina", reason="all is well")
    return redis


def test_gauges_tell_what_is_true_at_the_scrape(crowded: Client) -> None:
    found = scraped()
    assert found['quantum_stream_lag{group="governor"}'] == 1
    assert found['quantum_stream_pending{group="governor"}'] == 2
    assert 0 <= found['quantum_stream_oldest_pending_seconds{group="governor"}'] < 60
    assert found["quantum_dead_letters"] == 1
    assert found["quantum_holds"] == 1
    assert (found["quantum_trading_active"], found["quantum_trading_armed"]) == (1, 0)
    trading.project(crowded, trading.current())
    assert scraped()["quantum_trading_armed"] == 1
    crowded.delete(settings.KEYS.dead_letters(settings.KEYS.plan_stream))
    assert scraped()["quantum_dead_letters"] == 0


def test_a_gauge_that_cannot_be_read_is_left_out_not_shown_old(crowded: Client) -> None:
    with override_settings(REDIS_URL=NOWHERE):
        found = scraped()
    assert "quantum_dead_letters" not in found
    assert found['quantum_gauges_readable{source="stream"}'] == 0


def test_what_another_process_counts_is_in_the_scrape(redis: Client, transactional_db: None) -> None:
    program = (
        "import django; django.setup(); from quantum import metrics;"
        "metrics.DEAD_LETTERS.labels(group='from-elsewhere').inc(5)"
    )
    metrics.DEAD_LETTERS.labels(group="from-elsewhere").inc(1)
    environment = {"DJANGO_SETTINGS_MODULE": "quantum.settings"}
    subprocess.run(
        [sys.executable, "-c", program], check=True, cwd=settings.BASE_DIR, timeout=60,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert scraped()['quantum_dead_letters_total{group="from-elsewhere"}'] == 6
