"""What apply refuses before it waits for anyone: the row's state and the plan's age decide."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from django.conf import settings
from django.db import OperationalError

from apply.acting.executor import Executor
from apply.models import Plan
from permits.state import trading
from positions.models import SymbolLock
from quantum import clock
from quantum.exchange.types import RefusalKind, Refused
from quantum.models import AuditEvent
from quantum.plan import Action, ExitPlan
from quantum.redis import Client
from quantum.stream import Entry, Poison
from tests.house import House
from tests.orders_by_hand import intended, reborn

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture
def executor(redis: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[Executor]:
    """Without a gate: a plan that would have to wait for permits is only put into its lane."""
    made = Executor(
        gate=cast("Any", None), desk=cast("Any", None), rules={}, client=redis, stopping=lambda: True
    )
    monkeypatch.setattr(made._lanes, "put", lambda *_args, **_more: None)
    monkeypatch.setattr(made._cancels, "due", lambda: False)
    yield made
    made.drain()


def entry_of(plan: ExitPlan, number: int = 1, **more: str) -> Entry:
    fields = {name.encode(): value.encode() for name, value in (plan.fields() | more).items()}
    return Entry(entry_id=f"{clock.now_ms()}-{number}", fields=fields)


def test_a_plan_in_time_is_put_into_its_lane_and_acknowledged_later(executor: Executor) -> None:
    plan = House.make()
    assert executor.handle(entry_of(plan)) is False
    assert Plan.objects.get().state == "open"


@pytest.mark.parametrize(("age_s", "end"), [(29, "open"), (30, "expired"), (3600, "expired")])
def test_a_stale_plan_is_ended_unheard(executor: Executor, age_s: int, end: str) -> None:
    plan = House.make(timestamp_text=f"{clock.now_s() - age_s - 0.01:.3f}")
    assert executor.handle(entry_of(plan)) is False
    executor.idle()
    assert Plan.objects.get().state == end


@pytest.mark.parametrize(
    ("plan", "end", "error"),
    [
        ({"symbol": "DOGEUSDT"}, "blocked", "symbol_not_allowed"),
        ({"timestamp_text": "future"}, "blocked", "future_plan"),
        ({"action": Action.HOLD}, "skipped", "decision_skip"),
        ({"action": Action.UPDATE_SL}, "skipped", "action_unsupported"),
    ],
    ids=["symbol", "future", "hold", "update_sl"],
)
def test_what_needs_no_permit_to_be_refused_is_refused(
    executor: Executor, plan: dict[str, Any], end: str, error: str
) -> None:
    if "timestamp_text" in plan:
        plan["timestamp_text"] = f"{clock.now_s() + 60:.3f}"
    assert executor.handle(entry_of(House.make(**plan))) is True
    row = Plan.objects.get()
    assert (row.state, row.error) == (end, error)
    assert row.result_id


def test_a_stale_plan_whose_permits_were_spent_says_so(executor: Executor, redis: Client) -> None:
    """Dead between consume and intent: expired alone would hide that a pair is gone."""
    plan = House.make(timestamp_text=f"{clock.now_s() - 31:.3f}")
    redis.hset(settings.KEYS.receipt(plan.plan_id), "token", "of a process that died")
    executor.handle(entry_of(plan))
    executor.idle()
    assert Plan.objects.get().state == "spent_unsent"


def test_an_entry_in_hand_is_known_as_held_and_let_go(executor: Executor) -> None:
    plan = House.make()
    entry = entry_of(plan)
    executor.handle(entry)
    assert executor.holds(entry.entry_id)
    executor._let_go(plan)
    assert not executor.holds(entry.entry_id)


def test_the_same_id_with_other_content_is_a_conflict_and_changes_nothing(executor: Executor) -> None:
    plan = House.make()
    executor.handle(entry_of(plan))
    assert executor.handle(entry_of(plan, 2, kill_score="0.1")) is True
    assert AuditEvent.objects.filter(kind="plan_conflict").count() == 1
    assert Plan.objects.get().kill_score == plan.kill_score_text


@pytest.mark.parametrize("state", ["intended", "unknown"])
def test_a_plan_in_flight_belongs_to_the_resolver(executor: Executor, state: str) -> None:
    plan = House.make()
    executor.handle(entry_of(plan))
    reborn(plan.plan_id, state=state)
    assert executor.handle(entry_of(plan, 2)) is True
    assert Plan.objects.get().state == state


def test_what_is_no_plan_is_poison(executor: Executor) -> None:
    with pytest.raises(Poison, match="invalid_plan"):
        executor.handle(Entry(entry_id="1-1", fields={b"plan_id": b"\xff"}))


def test_a_halt_that_cannot_be_written_leaves_no_refused_order_in_flight(
    transactional_db: None, executor: Executor, keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short stumble of the database: the key is refused to the resolver too, so nobody could prove it later."""
    order = intended()

    def stumbles(**_: object) -> None:
        raise OperationalError("database is locked")

    monkeypatch.setattr(trading, "halt", stumbles)
    executor._refused(order, Refused(kind=RefusalKind.ACCOUNT, code=-2015, text="no"))
    plan = Plan.objects.get()
    assert (plan.state, plan.error) == ("rejected", "rejected_account")
    assert not SymbolLock.objects.exists()
