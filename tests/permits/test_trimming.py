"""What the warden takes away: alerts that are over and what the Governor saw at decisions, when both are old. What is
open, what a replay can still ask for, and every proof stays."""

from __future__ import annotations

import datetime as dt

import pytest
from django.conf import settings
from pytest_django.fixtures import Settings

from apply.alerts import book
from apply.models import Alert, Notice
from apply.trimming import Trimming
from permits.governor import replay
from permits.models import Judgement, Permit
from permits.policy import judgements
from quantum import clock
from quantum.models import AuditEvent
from tests.house import House, wait_for
from tests.permits.governors import Start

LONG_AGO = dt.timedelta(days=91)


def judged(number: int, *, ago: dt.timedelta) -> None:
    Judgement.objects.create(
        plan_id=f"{number:016x}",
        symbol="BTCUSDT",
        at=clock.now() - ago,
        policy_version=1,
        reason="approved",
        inputs={},
    )


def left() -> list[int]:
    return [
        int(plan_id, 16) for plan_id in Judgement.objects.order_by("id").values_list("plan_id", flat=True)
    ]


def turn() -> None:
    Trimming().tick()


def test_the_last_decisions_stay_however_old_and_young_ones_however_many(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "MOST", 2)
    for number in range(4):
        judged(number, ago=LONG_AGO)
    turn()
    assert left() == [2, 3], "the last two are what a replay of the last two asks for"
    for number in (4, 5, 6):
        judged(number, ago=dt.timedelta(days=89))
    turn()
    assert left() == [4, 5, 6]


def test_a_decision_of_a_clock_that_was_ahead_does_not_stand_in_the_way(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "MOST", 1)
    monkeypatch.setattr(judgements, "BATCH", 2)
    for number in (0, 1):
        judged(number, ago=-LONG_AGO)
    for number in (2, 3):
        judged(number, ago=LONG_AGO)
    turn()
    turn()
    assert left() == [3]


@pytest.mark.usefixtures("transactional_db", "keys")
def test_what_a_replay_asks_for_is_there_after_the_trimming(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    governor = start()
    assert [governor.reason() for _ in range(4)] == ["approved"] * 4
    governor.end()
    Judgement.objects.update(at=clock.now() - LONG_AGO)
    monkeypatch.setattr(replay, "MOST", 3)
    turn()
    assert Judgement.objects.count() == 3
    assert [past.kept is not None for past in replay.recent(3).pasts] == [True] * 3


def test_the_setting_says_how_long(db: None, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MOST", 1)
    for number in range(3):
        judged(number, ago=LONG_AGO)
    settings.QUANTUM_KEEP_DAYS = 92
    turn()
    assert left() == [0, 1, 2]


def alert(key: str, *, ended_ago: dt.timedelta | None) -> Alert:
    ended_at = None if ended_ago is None else clock.now() - ended_ago
    row = Alert.objects.create(
        key=key, text=key, since=clock.now() - 2 * LONG_AGO, told_at=clock.now(), ended_at=ended_at
    )
    Notice.objects.create(
        alert=row, event="alert", target="webhook", mark=key, body="{}", told_at=clock.now()
    )
    return row


def test_an_alert_that_is_long_over_goes_with_what_was_told_and_an_open_one_stays(db: None) -> None:
    alert("halted:", ended_ago=LONG_AGO)
    alert("role:p33", ended_ago=dt.timedelta(days=89))
    alert("hold:BTCUSDT", ended_ago=None)
    turn()
    assert set(Alert.objects.values_list("key", flat=True)) == {"role:p33", "hold:BTCUSDT"}
    assert set(Notice.objects.values_list("mark", flat=True)) == {"role:p33", "hold:BTCUSDT"}


@pytest.mark.usefixtures("transactional_db", "keys")
def test_what_is_proof_is_never_taken_away(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    governor = start()
    assert [governor.reason() for _ in range(3)] == ["approved"] * 3
    governor.end()
    permits, events = Permit.objects.count(), AuditEvent.objects.count()
    monkeypatch.setattr(replay, "MOST", 0)
    long_after = clock.now() + dt.timedelta(days=settings.QUANTUM_KEEP_DAYS + 1)
    monkeypatch.setattr(clock, "now", lambda: long_after)
    turn()
    assert Judgement.objects.count() == 0
    assert (Permit.objects.count(), AuditEvent.objects.count()) == (permits, events)


def test_a_turn_takes_so_many_alerts_and_the_next_the_rest(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "BATCH", 2)
    for number in range(3):
        alert(f"hold:{number}", ended_ago=LONG_AGO)
    turn()
    assert Alert.objects.count() == 1
    turn()
    assert not Alert.objects.exists()


def test_the_role_itself_does_it(house: House) -> None:
    alert("halted:", ended_ago=LONG_AGO)
    house.begin("warden")
    wait_for(lambda: not Alert.objects.exists(), what="the old alert to go")
