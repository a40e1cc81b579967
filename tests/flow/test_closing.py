"""Close what is left: out of a frozen symbol through both gates, with the ledger told the truth."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError, connection
from msgspec.structs import replace
from redis.exceptions import ConnectionError as RedisConnectionError

from apply.models import Order, Plan
from apply.plans import publish
from permits.models import Hold, Permit
from permits.state import freezing, holds
from positions.drift import incidents
from positions.reconcile import closing, reconcile
from positions.reconcile.closing import CannotClose
from quantum.fault import FaultRaised
from quantum.plan import ExitPlan
from quantum.redis import Client
from tests.flow.test_admin import someone, text_of
from tests.flow.test_halts_and_holds import leave_to_operators
from tests.flow.test_reconcile import WHY, balance, incident_of, run, trade_by_hand
from tests.flow.test_reconcile_page import LOOKS, act, mark_on, page
from tests.house import House, wait_for


@pytest.fixture
def frozen(house: House) -> House:
    """1 in the ledger, 0.75 left at the exchange, all four roles at work, operators may sign up to 1."""
    leave_to_operators()
    house.start()
    trade_by_hand(house, "BTCUSDT", "0.750")
    incident_of()
    wait_for(lambda: house.redis.exists(settings.KEYS.hold("BTCUSDT")), what="the hold told to Redis")
    return house


def ended(plan_id: str) -> Plan:
    found: Plan = wait_for(
        lambda: Plan.objects.filter(plan_id=plan_id).exclude(result_id="").first(), what="the end of the plan"
    )
    return found


def orders(house: House, plan_id: str) -> list[dict[str, Any]]:
    return [row for row in house.paper.log() if row["client_id"].startswith(f"q-{plan_id}")]


def at_exchange() -> str:
    found = [each for each in run("positions")[1]["positions"] if each["symbol"] == "BTCUSDT"]
    return str(found[0]["exchange_amt"])


def test_a_frozen_symbol_is_closed_by_one_order_through_both_gates_and_the_ledger_told_truthfully(
    frozen: House,
) -> None:
    incident = incident_of()
    assert frozen.exit("BTCUSDT").gate_reason == "reconcile_hold_active", "the Brain's own answer is no"
    code, told, talk = run("reconcile", "BTCUSDT", "--close", reason=WHY, by="nina")
    assert code == 0, talk
    assert "holds 0.75 -> 0 by one reduce-only order" in talk and "ledger then says 0.25" in talk
    row = ended(told["plan_id"])
    assert (row.state, row.action) == ("filled", "FULL_CLOSE_PROPOSED"), (row.error, row.gate_reason)
    assert len(orders(frozen, row.plan_id)) == 1
    order = Order.objects.get(plan_id=row.plan_id)
    assert (order.side, order.quantity) == ("SELL", Decimal("0.75"))
    permits = {each.gate: each for each in Permit.objects.filter(plan_id=row.plan_id)}
    assert permits["p33"].issuer.startswith("operator:nina@") and permits["governor"].issuer.startswith(
        "governor@"
    )
    wait_for(lambda: str(balance()) == "0.25", what="the ledger to be moved by the fill")
    assert at_exchange() == "0"
    incident.refresh_from_db()
    assert incident.state == "open", "they still differ, and nobody has said which side is right"
    assert Hold.objects.get(symbol="BTCUSDT", lifted_at=None).pk == incident.hold_id
    code, _, talk = run("reconcile", "BTCUSDT", "--adopt", reason=WHY, by="nina")
    assert (code, balance() == 0) == (0, True), talk
    assert not incidents.standing().exists() and not Hold.objects.filter(lifted_at=None).exists()


def test_what_policy_does_not_leave_to_operators_is_refused_and_nothing_is_published(house: House) -> None:
    house.start()
    trade_by_hand(house, "BTCUSDT", "0.750")
    incident_of()
    code, _, talk = run("reconcile", "BTCUSDT", "--close", reason=WHY, by="nina")
    assert (code, "the policy has no rule for operators" in talk) == (4, True), talk
    leave_to_operators()
    trade_by_hand(house, "BTCUSDT", "3.000")
    code, _, talk = run("reconcile", "BTCUSDT", "--close", reason=WHY, by="nina")
    assert (code, "Nothing was done" in talk) == (4, True), talk
    assert not Plan.objects.exists() and at_exchange() == "3"


def test_mistakes_and_a_preview_close_nothing(frozen: House) -> None:
    for words, code, says in (
        (("BTCUSDT", "--close", "--reason", "oops"), 2, "at least 8"),
        (("--close", "--reason", WHY), 2, "one symbol"),
        (("BTCUSDT", "--close", "--dry-run", "--reason", WHY), 0, "0.75 -> 0"),
        (("ETHUSDT", "--close", "--reason", WHY), 4, "is not frozen"),
    ):
        found, _, talk = run("reconcile", *words)
        assert (found, says in talk) == (code, True), (words, found, talk)
    assert not Plan.objects.exists() and not Permit.objects.exists()


def test_a_death_after_signing_publishes_nothing(frozen: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "QUANTUM_FAULT", "closing_signed:raise")
    with pytest.raises(FaultRaised):
        run("reconcile", "BTCUSDT", "--close", reason=WHY, by="nina")
    monkeypatch.setattr(settings, "QUANTUM_FAULT", "")
    assert not Plan.objects.exists()
    assert at_exchange() == "0.75"


def test_the_page_closes_past_the_hold_that_it_showed_and_no_other(frozen: House) -> None:
    web = someone("nina", *LOOKS, "issue_permit")
    viewer = someone("olga", *LOOKS, "reconcile")
    mark = mark_on(web)
    assert "Close 0.75 at the exchange" in text_of(web.get(page()))
    assert "Close 0.75 at the exchange" not in text_of(viewer.get(page()))
    assert act(viewer, "close", mark).status_code == 403
    holds.place(frozen.redis, symbol="BTCUSDT", by="omar", reason="nobody touches this")
    assert "not any more what this page showed" in text_of(act(web, "close", mark))
    assert not Plan.objects.exists()
    assert "Published: plan" in text_of(act(web, "close", mark_on(web)))
    row = ended(Plan.objects.get().plan_id)
    assert row.state == "filled", (row.error, row.gate_reason)
    assert "Nothing was changed" in text_of(act(web, "close", mark)), "a second click"
    assert Plan.objects.count() == 1


def test_a_close_that_is_asked_for_twice_at_once_is_one(frozen: House) -> None:
    """A double click: both saw the same. The second permit could close what is opened after the first."""
    [line] = reconcile.look(frozen.redis, names=["BTCUSDT"], within_s=4)
    together = threading.Barrier(2)

    def click(_: int) -> str:
        together.wait(5)
        try:
            return closing.close(frozen.redis, line, by="nina", reason=WHY).plan_id
        except CannotClose as refused:
            return str(refused)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as hands:
        said = list(hands.map(click, range(2)))
    [row] = Plan.objects.filter(source="operator")
    assert ended(row.plan_id).state == "filled", said
    assert Permit.objects.filter(issuer__startswith="operator:").count() == 1


def test_the_command_closes_past_the_hold_that_it_showed_and_no_other(
    frozen: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nina thinks about it a person takes the hold over: he wants that nothing leaves."""

    def thinks(*_: Any) -> None:
        freezing.place(frozen.redis, symbol="BTCUSDT", by="otto", reason="nothing leaves until I am back")

    monkeypatch.setattr(reconcile, "FRESH_S", -1)
    monkeypatch.setattr("positions.management.commands.reconcile.Command._confirmed", thinks)
    code, _, talk = run("reconcile", "BTCUSDT", "--close", reason=WHY, by="nina")
    assert (code, Plan.objects.filter(source="operator").count()) == (4, 0), talk
    assert "another hold" in talk


def test_a_close_waits_for_the_end_of_the_one_before(frozen: House) -> None:
    """Asked for by two people, who saw it at two moments."""
    [line] = reconcile.look(frozen.redis, names=["BTCUSDT"], within_s=4)
    frozen.stop("apply")
    plan_id = closing.close(frozen.redis, line, by="nina", reason=WHY).plan_id
    later = replace(line, seen_s=line.seen_s + Decimal("0.3"))
    with pytest.raises(CannotClose, match=plan_id):
        closing.close(frozen.redis, later, by="otto", reason=WHY)


def close_while(way: str, breaks: Callable[[], None], first: list[str]) -> str:
    """What somebody is told whose close is not heard to be published; first: the plan that it made."""
    web = someone("nina", *LOOKS, "issue_permit")
    mark = mark_on(web)
    breaks()
    if way == "command":
        code, told, talk = run("reconcile", "BTCUSDT", "--close", reason=WHY, by="nina")
        assert (code, told["plan_id"], told["published"]) == (5, *first, False), talk
    else:
        talk = text_of(act(web, "close", mark))
    assert "Nothing was changed" not in talk
    return talk


@pytest.mark.parametrize("way", ["command", "page"])
def test_a_close_whose_recording_the_database_did_not_answer_may_be_recorded_and_is_told_so(
    frozen: House, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The row is committed and the answer to that is lost; the janitor publishes it."""
    really = publish._insert
    first: list[str] = []

    def goes(plan: ExitPlan, *given: Any, **more: Any) -> Any:
        answer = really(plan, *given, **more)
        if first:
            return answer
        first.append(plan.plan_id)
        raise OperationalError("the server closed the connection")

    talk = close_while(way, lambda: monkeypatch.setattr(publish, "_insert", goes), first)
    assert f"Perhaps recorded as plan {first[0]}" in talk and "the database is back" in talk
    assert ended(first[0]).state == "filled" and len(orders(frozen, first[0])) == 1


@pytest.mark.parametrize(("way", "lost"), [("command", "call"), ("command", "answer"), ("page", "call")])
def test_a_close_whose_publishing_redis_did_not_answer_is_told_as_recorded(
    frozen: House, monkeypatch: pytest.MonkeyPatch, way: str, lost: str
) -> None:
    """The permit past the hold stands and the row is committed when Redis goes: the order leaves all the same, and who
    was told that nothing was changed would have closed by hand."""
    really = publish.put_on_stream
    first: list[str] = []

    def goes(client: Client, plan: ExitPlan) -> str:
        if first:
            return really(client, plan)
        first.append(plan.plan_id)
        if lost == "answer":
            really(client, plan)
        raise RedisConnectionError("gone")

    talk = close_while(way, lambda: monkeypatch.setattr(publish, "put_on_stream", goes), first)
    assert f"Recorded as plan {first[0]}" in talk and "when Redis is back" in talk
    assert ended(first[0]).state == "filled" and len(orders(frozen, first[0])) == 1
