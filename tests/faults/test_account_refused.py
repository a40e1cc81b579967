"""The account class of refusals: no plan can pass with that key, so none may burn its permits."""

from __future__ import annotations

import pytest

from apply.acting import account
from permits.models import TradingState
from permits.state import trading
from quantum.redis import RedisError
from tests.faults.ends import ledger_agrees, told_once
from tests.house import House

CODES = (-2014, -2015, -1022, -4109)


def refuse_next(house: House, code: int) -> None:
    body = {"code": code, "msg": "no"}
    house.paper.push_scenario({"next": "order", "do": "reply", "status": 400, "body": body})


def test_a_refused_key_or_account_halts_with_its_code_until_a_person_resumes(row: House) -> None:
    row.start()
    for code in CODES:
        refuse_next(row, code)
        plan = row.publish()
        told_once(row, plan, state="rejected", error="rejected_account")
        state = trading.newest()
        assert state is not None
        assert (state.state, state.by, state.cause) == ("HALTED", "apply", account.CAUSE)
        assert str(code) in state.reason
        assert plan.plan_id in state.reason
        after = row.exit("SOLUSDT")
        assert after.state == "blocked"
        assert "halted" in (after.error, after.gate_reason)
        trading.change(state=TradingState.State.ACTIVE, by="nina", reason="the key was mended")
        trading.arm(row.redis, actor="nina")
    assert row.exit("SOLUSDT").state == "filled"
    ledger_agrees(row)


def test_a_halt_that_redis_does_not_hear_stands_in_the_database(
    row: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    row.start()

    def away(*_: object, **__: object) -> None:
        raise RedisError("away")

    refuse_next(row, -2015)
    monkeypatch.setattr("apply.acting.account.trading.arm", away)
    told_once(row, row.publish(), state="rejected", error="rejected_account")
    state = trading.newest()
    assert state is not None
    assert state.state == "HALTED"
