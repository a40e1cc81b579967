"""Home asks one question for what is rarely there. Whatever it overlooks, nobody is shown."""

from __future__ import annotations

import datetime as dt
import secrets
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from apply.glance import glance, rare
from apply.glance.rare import Rare
from apply.models import BreakGlass
from permits.models import Approval, Hold
from positions.models import CorrectionRequest, Incident
from quantum import clock
from quantum.models import Verification
from quantum.redis import Client
from tests.flow.test_home import plans

pytestmark = pytest.mark.django_db(transaction=True)
NOTHING = Rare(holds=False, incidents=False, unknown=False, broken=False, waiting=0)


def in_an_hour() -> dt.datetime:
    return clock.now() + dt.timedelta(hours=1)


def approval(**more: Any) -> None:
    fields = {
        "asked_plan_id": secrets.token_hex(8),
        "symbol": "BTCUSDT",
        "fields": {"action": "PARTIAL_25"},
        "rule": "size",
    }
    Approval.objects.create(**{**fields, "expires_at": in_an_hour(), **more})


def correction(**more: Any) -> None:
    fields = {
        "account": "main",
        "mode": "paper",
        "typed": False,
        "asked_by": "nina",
        "reason": "my own trade",
    }
    CorrectionRequest.objects.create(**{**fields, "lines": [], "expires_at": in_an_hour(), **more})


def glass(**more: Any) -> None:
    fields = {
        "account": "main", "mode": "paper", "symbol": "BTCUSDT", "action": "PARTIAL_25", "gates": "p33",
        "quantity": Decimal(1), "stands_on": {}, "asked_by": "nina", "reason": "no way out",
    }  # fmt: skip
    BreakGlass.objects.create(**{**fields, "expires_at": in_an_hour(), **more})


def incident(**more: Any) -> None:
    fields = {
        "account": "main", "symbol": "SOLUSDT", "kind": "quantity", "cause": "manual_trade", "evidence": [],
        "exchange_amt": Decimal(1), "ledger_amt": Decimal(2), "diff": Decimal(1), "tolerance": Decimal(0),
    }  # fmt: skip
    Incident.objects.create(**{**fields, **more})


def hold(**more: Any) -> None:
    Hold.objects.create(**{"symbol": "ETHUSDT", "by": "omar", "reason": "drift", **more})


def verified(outcome: str) -> Verification:
    return Verification.objects.create(outcome=outcome, text="as told", seals=1, events=1)


WAITING = (approval, correction, glass)


def test_in_a_house_where_nothing_is_wrong_there_is_nothing(redis: Client) -> None:
    ended = clock.now() - dt.timedelta(minutes=1)
    hold(lifted_at=ended)
    incident(state="resolved")
    incident(account="other")
    plans(1, state="unknown", result_id="1-0")
    plans(1, first=1)
    verified("broken")
    verified("whole")
    for ask in WAITING:
        ask(expires_at=ended)
        ask(state="refused")
    for ask in (correction, glass):
        ask(account="other")
    assert rare.look(clock.now()) == NOTHING


def test_each_thing_that_is_there_is_seen_and_its_rows_are_read(redis: Client) -> None:
    hold()
    assert rare.look(clock.now()) == replace(NOTHING, holds=True)
    assert [each.symbol for each in glance.look().holds] == ["ETHUSDT"]
    incident()
    assert rare.look(clock.now()) == replace(NOTHING, holds=True, incidents=True)
    assert [each.symbol for each in glance.look().incidents] == ["SOLUSDT"]
    [plan_id] = plans(1, state="unknown", result_id="", ended_at=None)
    assert rare.look(clock.now()).unknown
    assert [each.plan_id for each in glance.look().unknown] == [plan_id]
    verified("whole")
    assert not rare.look(clock.now()).broken
    last = verified("broken")
    assert rare.look(clock.now()).broken
    assert glance.look().broken == last


def test_whoever_waits_for_a_person_is_counted_in_all_three_tables(redis: Client) -> None:
    for number, ask in enumerate(WAITING, 1):
        ask()
        assert rare.look(clock.now()).waiting == glance.look().waiting == number
