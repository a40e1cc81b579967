"""Halts and holds in the running house: at every moment between a plan and its order."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.db import Error as DatabaseError

from permits.gate import spending
from permits.models import Hold, TradingState
from permits.policy import policies
from permits.state import holds, resuming, trading
from permits.state.trading import Scope, State
from quantum import clock
from quantum.models import AuditEvent
from quantum.plan import ExitPlan
from tests.house import House, wait_for
from tests.permits_by_hand import GOVERNOR, P33, lay, lay_both, permit

OPERATORS = {"operator": {"gates": ["governor", "p33"], "max_quantity": {"BTCUSDT": "1"}}}


def halt(scope: TradingState.Scope = Scope.EVERYTHING) -> TradingState:
    return trading.halt(cause="person", by="omar", reason="somebody pulled the cord", scope=scope)


def resume() -> None:
    trading.change(state=State.ACTIVE, by="nina", reason="it was a false alarm")


def hold(house: House, symbol: str = "BTCUSDT") -> Hold:
    return holds.place(house.redis, symbol=symbol, by="omar", reason="looks odd")


def in_redis(house: House) -> bytes:
    return house.redis.get(settings.KEYS.trading_state) or b""


def leave_to_operators() -> None:
    version, rules = policies.newest()
    policies.change(rules=rules | OPERATORS, by="nina", reason="break-glass", expected_version=version)


def told(house: House) -> None:
    """At once, as the command does."""
    trading.arm(house.redis, actor="tests")


def projected(house: House) -> None:
    """By apply, every other second."""
    wait_for(lambda: in_redis(house) == trading.current().raw, what="the projection")


def exit_by_hand(house: House, plan: ExitPlan | None = None) -> str:
    """With the gates' own permits, laid before the plan is told. How it ended."""
    plan = plan or house.make()
    lay_both(house.redis, plan)
    return ended(house, plan)


def exit_by_operator(house: House, **bent: Any) -> str:
    plan = house.make()
    signed = {"signer": "operator", "issuer": "operator:nina", **bent}
    lay(house.redis, plan, governor=permit(plan, GOVERNOR, **signed), p33=permit(plan, P33, **signed))
    return ended(house, plan)


def ended(house: House, plan: ExitPlan) -> str:
    row = house.ended(house.publish(plan))
    assert bool(house.orders(plan)) == (row.state == "filled")
    return row.error or row.state


def test_e26_a_halt_while_a_plan_waits_for_its_second_permit(house: House, settings: Any) -> None:
    settings.APPLY_PERMIT_WAIT_MS = 8000
    house.start("apply", "warden")
    plan = house.make()
    lay(house.redis, plan, governor=permit(plan, GOVERNOR))
    house.publish(plan)
    time.sleep(0.2)
    halt()
    told(house)
    lay(house.redis, plan, p33=permit(plan, P33))
    assert house.ended(plan).error == "halted"
    assert house.orders(plan) == []


@pytest.mark.parametrize(
    ("happens", "error"), [(lambda _: halt(), "halted"), (hold, "hold")], ids=["halt", "hold"]
)
def test_e26_what_happens_between_the_consume_and_the_intent_sends_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch, happens: Callable[[House], object], error: str
) -> None:
    house.start("apply", "warden")
    consume = spending._CONSUME

    def then_it_happens(*args: Any, **more: Any) -> Any:
        answer = consume(*args, **more)
        if answer[0] == 1:
            happens(house)
        return answer

    monkeypatch.setattr(spending, "_CONSUME", then_it_happens)
    assert exit_by_hand(house) == error


def test_after_a_wipe_nothing_passes_that_was_halted_or_held(house: House) -> None:
    house.start("apply", "warden")
    hold(house)
    house.redis.flushall()
    assert exit_by_hand(house) in ("hold", "not_armed")
    wait_for(lambda: house.redis.exists(settings.KEYS.trading_state), what="the state to be armed again")
    assert exit_by_hand(house) == "hold"
    halt()
    house.redis.flushall()
    assert exit_by_hand(house) in ("halted", "not_armed")
    told(house)
    assert exit_by_hand(house, house.make("ETHUSDT")) == "halted"


def test_a_lease_that_lapses_while_the_database_is_down_is_halted(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.start("apply", "warden")

    def down() -> trading.Projection:
        raise DatabaseError("down")

    with monkeypatch.context() as outage:
        outage.setattr(trading, "current", down)
        time.sleep(2.1)
        assert 0 < house.redis.pttl(settings.KEYS.trading_state) <= 4000
        house.redis.pexpire(settings.KEYS.trading_state, 1)
        assert exit_by_hand(house) == "not_armed"
    wait_for(lambda: house.redis.exists(settings.KEYS.trading_state), what="the state to be armed again")
    assert exit_by_hand(house) == "filled"


def test_forged_state_bytes_halt_and_a_person_gets_out_of_it(house: House) -> None:
    house.start("apply", "warden")
    forged = json.dumps(json.loads(in_redis(house)) | {"version": 999, "by": "mallory"}).encode()
    house.redis.set(settings.KEYS.trading_state, forged)
    assert exit_by_hand(house) in ("not_armed", "halted")
    wait_for(lambda: not trading.current().active, what="the halt")
    projected(house)
    assert AuditEvent.objects.filter(kind="trading_halted", data__cause="tampering").count() == 1
    resume()
    projected(house)
    assert exit_by_hand(house) == "filled"


def test_a_halt_that_was_given_an_end_is_left_by_the_warden(house: House, settings: Any) -> None:
    house.start("apply", "warden")
    until = clock.now() + dt.timedelta(seconds=2)
    trading.halt(cause="person", by="omar", reason="a short look", scope=Scope.EVERYTHING, until=until)
    assert exit_by_hand(house) == "halted"
    wait_for(lambda: trading.current().active, what="the end of the halt")
    row = trading.newest()
    assert row is not None
    assert row.by == resuming.UNTIL
    told(house)
    assert exit_by_hand(house) == "filled"


def test_an_operator_gets_out_under_a_halt_of_automatic_plans(house: House) -> None:
    leave_to_operators()
    house.start("apply", "warden")
    halt(Scope.AUTOMATIC)
    told(house)
    assert exit_by_hand(house, house.make(source="operator")) == "halted"
    assert exit_by_operator(house) == "filled"


def test_no_operator_gets_out_under_a_halt_of_everything(house: House) -> None:
    leave_to_operators()
    house.start("apply", "warden")
    halt()
    told(house)
    assert exit_by_operator(house) == "halted"


def test_an_operator_gets_out_of_the_hold_his_permit_names(house: House) -> None:
    leave_to_operators()
    house.start("apply", "warden")
    placed = hold(house)
    assert exit_by_operator(house) == "hold"
    assert exit_by_operator(house, hold_id=placed.pk + 1) == "hold"
    assert exit_by_operator(house, hold_id=placed.pk) == "filled"
    assert Hold.objects.filter(lifted_at=None).exists()


def test_an_operator_whom_the_policy_does_not_name_gets_nowhere(house: House) -> None:
    house.start("apply", "warden")
    assert exit_by_operator(house) == "operator_refused"
    leave_to_operators()
    wait_for(lambda: exit_by_operator(house) == "filled", what="the new policy to be obeyed")
