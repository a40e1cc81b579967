"""What is written beside the path: at once where it is quiet, together where much comes."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace
from pytest_django.fixtures import Settings

from permits.desk import approvals, records
from permits.desk.gatekeeper import Recorder, Written
from permits.models import Approval, Permit
from positions.books import ledger
from positions.books.ledger import SeenTrade
from positions.feed.ear import Ear
from positions.feed.gathered import GATHER_S, Gathered
from quantum import clock
from quantum.beside import DELAY_S, EVERY_S
from quantum.exchange.events import Event
from quantum.exchange.inbox import Received
from quantum.redis import Client
from tests.house import House
from tests.permits_by_hand import GOVERNOR, permit
from tests.test_ear import Heard, boot, fill, heard
from tests.test_picture import update

__all__ = ["boot", "heard"]
pytestmark = pytest.mark.usefixtures("db", "redis")
OURS = "q-0123456789abcdef-75"


def test_the_first_is_due_at_once_and_the_next_a_moment_after_it(boot: list[float]) -> None:
    gathered = Gathered[int]()
    assert gathered.due_in_s == math.inf
    gathered.add(1)
    assert gathered.due_in_s == 0
    assert gathered.take() == [1]
    gathered.add(2)
    gathered.add(3)
    assert gathered.due_in_s == pytest.approx(GATHER_S)
    boot[0] += GATHER_S
    assert gathered.due_in_s == 0
    assert gathered.take() == [2, 3]
    assert gathered.take() == []


class Line:
    """What the stream tells to an ear, and how long the ear would wait for it; time passes while it waits."""

    waiting = 0

    def __init__(self, boot: list[float], *events: Event) -> None:
        self.left = list(events)
        self.boot = boot
        self.waited: list[float] = []

    def take(self, *, timeout_s: float) -> Received | None:
        if self.left:
            return Received(self.left.pop(0), 0)
        self.boot[0] += timeout_s
        self.waited.append(timeout_s)
        return None


def listens(heard: Heard, *events: Event, monkeypatch: pytest.MonkeyPatch, line: Line | None = None) -> Line:
    line = line or Line(heard.boot, *events)
    ear = Ear(stream=cast("Any", line), feed=heard.feed, stopping=lambda: len(line.waited) > 1)
    monkeypatch.setattr("positions.feed.ear.connection", SimpleNamespace(close=lambda: None))
    ear.run()
    return line


def test_fills_of_ours_that_come_close_together_are_one_commit_and_none_is_forgotten(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[list[int]] = []

    def store(trades: list[SeenTrade]) -> None:
        stored.append([each.trade.trade_id for each in trades])

    monkeypatch.setattr(ledger, "store", store)
    told = [fill("0.1", client_order_id=OURS, trade_id=number) for number in (7, 8, 9)]
    line = listens(heard, *told, monkeypatch=monkeypatch)
    assert stored == [[7], [8, 9]]
    assert line.waited[0] == pytest.approx(GATHER_S)


def test_a_flood_keeps_no_fill_of_ours_from_being_told(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apply waits half a second for it, then it asks the exchange: under load for every order."""

    class Flood(Line):
        waiting = 1

        def take(self, *, timeout_s: float) -> Received | None:
            self.boot[0] += GATHER_S / 2 if self.left else 0
            return super().take(timeout_s=timeout_s)

    stored: list[int] = []
    monkeypatch.setattr(ledger, "store", lambda trades: stored.append(len(trades)))
    told = [fill("0.1", client_order_id=OURS, trade_id=number) for number in range(1, 11)]
    listens(heard, monkeypatch=monkeypatch, line=Flood(heard.boot, *told))
    assert sum(stored) == len(told)
    assert max(stored) <= 3


def test_the_snapshot_is_shown_before_the_fill_that_changed_it_is_told(
    heard: Heard, redis: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, shown = settings.KEYS.snapshot("BTCUSDT"), list[bytes]()
    monkeypatch.setattr(ledger, "store", lambda trades: shown.append(redis.hget(key, "position_amt")))
    now_ms = clock.now_ms()
    told: list[Event] = []
    for number, amount in ((7, "0.9"), (8, "0.8"), (9, "0.7")):
        told += [
            update(now_ms + number, amount),
            fill("0.1", client_order_id=OURS, trade_id=number),
        ]
    listens(heard, *told, monkeypatch=monkeypatch)
    assert shown == [b"0.9", b"0.7"]


def test_a_position_that_an_exit_of_ours_has_just_moved_costs_no_question(heard: Heard) -> None:
    """Apply books it at once. What differs a second later has another cause."""
    heard.tells(update(clock.now_ms(), "0.5"), fill("0.5", client_order_id=OURS))
    heard.exchange.held["BTCUSDT"] = "0.5"
    heard.feed._beat()
    assert heard.exchange.asked == []
    heard.beat()
    assert heard.exchange.asked == ["BTCUSDT"]


def test_permits_that_come_close_together_share_a_transaction(
    keys: None, boot: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, slept, batches = House.make(), list[float](), list[int]()
    recorder = Recorder(ack=lambda *_: None)
    one = Written(raw=permit(plan, GOVERNOR), gate=GOVERNOR, plan_id=plan.plan_id, entry_id="1-0")

    def write(rows: list[Permit], **_: Any) -> None:
        batches.append(len(rows))
        recorder.put(one) if len(batches) == 1 else recorder.finish(timeout_s=0)

    monkeypatch.setattr(records, "record_issued", write)
    monkeypatch.setattr(Recorder, "join", lambda *_: None)
    monkeypatch.setattr(clock, "sleep_s", slept.append)
    monkeypatch.setattr("quantum.beside.connection", SimpleNamespace(close=lambda: None))
    recorder.put(one)
    recorder.run()
    assert slept == pytest.approx([DELAY_S, EVERY_S])


@pytest.mark.usefixtures("transactional_db")
def test_what_was_decided_beside_a_permit_is_kept_where_its_plan_comes_again_at_once(keys: None) -> None:
    """The second time nothing is said beside it; the question to people went with that, and the entry was acked."""
    plan, acked = House.make(), list[str]()
    asked = approvals.question(plan=plan, rule="exits above 5 USD", compared={})
    first = Written(permit(plan, GOVERNOR), GOVERNOR, plan.plan_id, "1-0", beside=(asked,))
    recorder = Recorder(ack=lambda *entries: acked.extend(entries))
    recorder.write([first, replace(first, entry_id="2-0", beside=())])
    assert acked == ["1-0", "2-0"]
    assert Approval.objects.get().asked_plan_id == plan.plan_id
