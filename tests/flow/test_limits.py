"""Limits in the running house: reached, named with both numbers, charged on fills, freed at every other end."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command

from apply.alerts import duties
from apply.models import Order, Plan
from permits.desk.payloads import GOVERNOR
from permits.models import Judgement, Permit, Usage
from quantum.plan import Action
from tests.alerts_by_hand import aim
from tests.house import House, wait_for
from tests.permits.governors import limit
from tests.receiver import Receiver

pytestmark = pytest.mark.slow
RESERVED = settings.KEYS.reserved(GOVERNOR)


def reserved(house: House) -> set[str]:
    return {name.decode() for name in house.redis.hkeys(RESERVED)} - {"version"}


def denied_by(row: Plan) -> tuple[str, str]:
    return row.error, row.gate_reason


def test_a_limit_in_total_is_reached_named_and_raised(house: House) -> None:
    limit("permits_per_5min=2")
    house.start()
    rows = [house.exit(symbol) for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT")]
    assert [row.state for row in rows] == ["filled", "filled", "blocked"]
    assert denied_by(rows[2]) == ("permit_denied:governor_denied", "burst_limit")
    raw = wait_for(
        lambda: Permit.objects.filter(plan_id=rows[2].plan_id, gate=GOVERNOR).first(), what="the denial's row"
    ).raw
    context = json.loads(raw)["context"]
    assert (context["limit"], context["used"], context["unit"]) == (2, 2, "permits in 5 min")
    limit("permits_per_5min=3")
    wait_for(lambda: house.exit("SOLUSDT").state == "filled", what="an exit by the new limit", within_s=3)
    assert denied_by(house.exit())[1] == "burst_limit"


def test_e27_too_many_exits_of_a_symbol_stop_it_alone_and_somebody_is_told(
    house: House, receiver: Receiver, secrets_given: object, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What asks for ever more exits of a symbol gets no permit and so no order, and the warden tells of it."""
    monkeypatch.setattr(duties, "TURN_S", 0.3)
    settings.ALERT_BLOCKED_AFTER_SEC = 1
    aim(settings, receiver)
    limit("each.permits_per_5min=2")
    house.start()
    rows = [house.exit("BTCUSDT", Action.PARTIAL_25) for _ in range(4)]
    assert [row.state for row in rows] == ["filled", "filled", "blocked", "blocked"]
    assert [denied_by(row) for row in rows[2:]] == [("permit_denied:governor_denied", "burst_limit")] * 2
    assert Order.objects.count() == 2
    said = wait_for(
        lambda: next((got.said for got in receiver.got if got.said["kind"] == "exit_blocked"), None),
        what="the alert",
        within_s=15,
    )
    assert (said["event"], said["about"], said["plan_id"]) == ("alert", "BTCUSDT", rows[3].plan_id)
    assert said["why"].startswith("burst_limit, since ")
    raw = wait_for(
        lambda: Permit.objects.filter(plan_id=rows[3].plan_id, gate=GOVERNOR).first(), what="the denial's row"
    ).raw
    context = json.loads(raw)["context"]
    assert (context["scope"], context["limit"], context["used"]) == ("BTCUSDT", 2, 2)
    assert house.exit("ETHUSDT").state == "filled", "other symbols are none of its business"


def test_what_was_filled_is_charged_and_nothing_else_is_held(house: House) -> None:
    house.start()
    row = house.exit()
    order, used = Order.objects.get(), Usage.objects.get()
    assert (used.plan_id, used.kind, used.quantity) == (row.plan_id, "executed", order.executed_quantity)
    assert order.average_price is not None
    assert used.notional == order.average_price * used.quantity
    assert reserved(house) == set()
    permit = json.loads(order.governor_permit)
    assert Decimal(str(permit["computed_qty"])) == order.quantity
    assert permit["computed_notional"] > 0


def test_a_plan_that_the_other_gate_denies_frees_what_it_held(house: House) -> None:
    limit("permits_per_5min=1")
    house.paper.set_position(symbol="BTCUSDT", amount="0", client_order_id=House.entry_id())
    house.start()
    assert denied_by(house.exit("BTCUSDT"))[1] == "no_position"
    assert reserved(house) == set()
    assert house.exit("ETHUSDT").state == "filled"
    assert Usage.objects.count() == 1


def test_an_order_that_the_exchange_refuses_frees_what_it_held(house: House) -> None:
    limit("permits_per_5min=1")
    house.start()
    no = {"do": "reply", "status": 400, "body": {"code": -2019, "msg": "no"}}
    house.paper.push_scenario({"next": "order", **no})
    assert house.exit("BTCUSDT").state == "rejected"
    assert Usage.objects.get().kind == "failed"
    assert house.exit("ETHUSDT").state == "filled"


def test_a_restarted_governor_remembers_what_was_used(house: House) -> None:
    limit("permits_per_5min=1")
    house.start()
    assert house.exit("BTCUSDT").state == "filled"
    house.stop("governor")
    house.start("governor")
    assert denied_by(house.exit("ETHUSDT"))[1] == "burst_limit"


def test_a_wiped_redis_forgets_no_order_in_flight(house: House, settings: Any) -> None:
    """Its answer is lost: the order may have been taken, so its size stays held until there is proof."""
    settings.RESOLVER_MARGIN_SEC = Decimal(60)
    limit("permits_per_5min=1")
    house.start()
    house.paper.push_scenario({"next": "order", "do": "cut_before_accept"})
    plan = house.publish()
    wait_for(lambda: Plan.objects.get(plan_id=plan.plan_id).state == "unknown", what="an unknown outcome")
    assert reserved(house) == {plan.plan_id}
    house.redis.flushall()
    wait_for(lambda: reserved(house) == {plan.plan_id}, what="the reservation to be back", within_s=5)
    wait_for(lambda: house.redis.exists(settings.KEYS.trading_state), what="the state to be armed")
    assert denied_by(house.exit("ETHUSDT"))[1] in ("burst_limit", "inputs_unavailable")


def test_the_governors_cooldown_and_a_symbol_off_the_list(house: House) -> None:
    limit("each.cooldown_s=15")
    house.start()
    assert house.exit("BTCUSDT").state == "filled"
    assert denied_by(house.exit("BTCUSDT"))[1] == "cooldown"
    assert house.exit("ETHUSDT").state == "filled", "per symbol"
    limit("allowlist=BTCUSDT")
    wait_for(
        lambda: house.exit("SOLUSDT").error == "symbol_not_allowed", what="apply to obey it too", within_s=3
    )


def test_a_replay_shows_what_another_policy_would_have_decided(house: House) -> None:
    house.start()
    rows = [house.exit(symbol, Action.PARTIAL_25) for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT")]
    assert [row.state for row in rows] == ["filled"] * 3
    # Not their permits: a settlement writes those too, the Governor what it saw a moment later.
    wait_for(lambda: Judgement.objects.count() == 3, what="what the Governor saw of each")

    def replayed(*words: str) -> list[tuple[str, str, str]]:
        out = io.StringIO()
        call_command("policy_replay", *words, json=True, stdout=out, stderr=io.StringIO())
        told = json.loads(out.getvalue())
        assert told["plans"] == 3
        return [(one["plan_id"], one["was"], one["would_be"]) for one in told["differing"]]

    assert replayed() == []
    assert replayed("permits_per_5min=2") == [(rows[2].plan_id, "approved", "burst_limit")]
    assert replayed("allowlist=BTCUSDT,SOLUSDT") == [(rows[1].plan_id, "approved", "not_in_allowlist")]
    assert len(replayed("approval_above_usd=0")) == 3
