"""A claim is a command: what it says of a good run, and that it names each wrong that somebody seeds."""

from __future__ import annotations

import datetime as dt
import json
import threading

import pytest
from django.conf import settings
from django.db import connection
from django.test import override_settings

from apply.management.commands import proof
from apply.models import Order, Plan
from apply.proof_report import look, plans, races, report, told, venue
from apply.proof_report.report import Outcome, Part, Report, Span
from permits.models import Permit
from positions.models import Balance, Fill, LedgerEntry
from quantum import clock, version
from quantum.models import AuditEvent, ProofRun
from quantum.plan import Action
from tests.house import House
from tests.proof_report.by_hand import figure, proved, said, wrongs
from tests.unguarded import unguarded

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


def exits(house: House, *symbols: str) -> list[Plan]:
    made = [house.exit(symbol) for symbol in symbols or SYMBOLS]
    assert {plan.state for plan in made} == {"filled"}
    return made


def forged_permit(plan: Plan, gate: str = "p33") -> None:
    permit = Permit.objects.get(plan_id=plan.plan_id, gate=gate)
    permit.pk, permit.issued_at = None, permit.issued_at + dt.timedelta(seconds=1)
    permit.save(force_insert=True)


def lost_fill(plan: Plan) -> int:
    entry = LedgerEntry.objects.get(plan_id=plan.plan_id)
    fill = entry.fill
    assert fill is not None
    entry.delete()
    fill.delete()
    return fill.trade_id


def test_a_good_run_is_clean_and_every_figure_says_of_how_many_records_it_is(house: House) -> None:
    house.start()
    exits(house)
    house.stop()
    code, found = proved()
    assert (code, found["outcome"], wrongs(found)) == (0, "clean", {})
    assert (figure(found, "plans", "plans"), figure(found, "exchange", "orders of ours")) == (3, 3)
    assert figure(found, "permits", "p33") == {"granted": 3}
    assert found["version"] == version.of_the_code()
    assert figure(found, "services", "versions of apply") == {version.of_the_code(): 1}
    few = found["parts"]["waits"]["figures"]["wait p95 ms"]
    assert few == {"value": None, "of": 3, "needs": 100}
    assert sum(figure(found, "waits", "wait histogram ms").values()) == 3
    assert ProofRun.objects.get().outcome == "clean"
    words = said("proof")[1]
    assert "too few: 3 of the 100 it needs" in words
    assert "%" not in words  # no percentages of three plans


def test_a_span_without_an_exit_proves_nothing_and_says_so(house: House) -> None:
    code, found = proved()
    assert (code, found["outcome"], figure(found, "plans", "plans")) == (7, "cannot tell", 0)
    assert found["parts"]["plans"]["doubts"] == [plans.NO_EXIT]
    words = said("proof")[1]
    assert words.startswith("CANNOT TELL, no exit in this span: PAPER main")
    assert "cannot tell: no exit passed" in words
    house.start()
    refused = house.ended(house.publish(house.make("SOLUSDT", Action.HOLD)))
    house.stop()
    assert refused.state != "filled"
    assert proved()[0] == 7, "nothing that was refused is an exit that passed"


def test_each_seeded_wrong_is_named(house: House) -> None:
    house.start()
    twice, gone, _ = exits(house)
    house.stop()
    trade_id = lost_fill(gone)
    with unguarded():
        forged_permit(twice)
    ghost, hand = f"q-{House.next_number():016x}-25", f"web_{House.next_number()}"
    house.paper.set_position(symbol="SOLUSDT", amount="50.00", client_order_id=hand)
    house.paper.set_position(symbol="BTCUSDT", amount="0.500", client_order_id=ghost)
    code, found = proved()
    named = wrongs(found)
    assert (code, found["outcome"]) == (6, "wrong")
    assert f"({hand})" in named["order_by_hand"][0]
    assert ghost in named["order_unknown_to_us"][0]
    assert named["permit_spent_twice"] == [f"p33's permit of plan {twice.plan_id} was spent 2 times"]
    assert f"trade {trade_id}" in named["fill_missing"][0]
    assert gone.plan_id in named["executed_not_in_ledger"][0]
    assert set(named) == {
        "order_by_hand", "order_unknown_to_us", "permit_spent_twice", "fill_missing", "executed_not_in_ledger",
        "balance_is_not_the_ledger",
    }  # fmt: skip


def test_wrongs_that_only_other_tables_show_are_named_too(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.start()
    plan, other, third = exits(house)
    house.stop()
    raw = Order.objects.get(plan_id=plan.plan_id).governor_permit
    Order.objects.filter(plan_id=other.plan_id).update(governor_permit=raw)
    Order.objects.filter(plan_id=third.plan_id).delete()
    fill = Fill.objects.get(client_order_id__startswith=f"q-{plan.plan_id}")
    Fill.objects.create(
        account=fill.account, symbol=fill.symbol, trade_id=fill.trade_id + 10_000, order_id=fill.order_id + 1,
        client_order_id=fill.client_order_id, side=fill.side, quantity=fill.quantity, price=fill.price, realized_pnl=0,
        commission=0, commission_asset="USDT", at=fill.at - dt.timedelta(milliseconds=1), booked=True,
    )  # fmt: skip
    Plan.objects.filter(plan_id=other.plan_id).update(
        result_id="", ended_at=clock.now() - dt.timedelta(minutes=5)
    )
    monkeypatch.setattr(races, "YOUNG", dt.timedelta())
    monkeypatch.setattr(venue, "SKEW", dt.timedelta())
    found = wrongs(proved()[1])
    assert any(plan.plan_id in text and other.plan_id in text for text in found["permit_spent_twice"])
    assert found["order_without_permit"] == [
        f"the order of plan {other.plan_id} carries no permit that governor granted"
    ]
    assert third.plan_id in found["order_row_missing"][0]
    assert third.plan_id in found["order_unknown_to_us"][0]
    assert "2 orders of the exchange" in found["two_orders_of_a_plan"][0]
    assert f"{fill.trade_id + 10_000}" in found["fill_not_at_exchange"][0]
    assert f"{fill.trade_id + 10_000}" in found["fill_not_in_ledger"][0]
    assert other.plan_id in found["plan_without_result"][0]


@pytest.mark.django_db
def test_books_that_do_not_add_up_are_named(redis: object) -> None:
    at = clock.now()
    mine = {"account": settings.ACCOUNT, "symbol": "BTCUSDT", "actor": "tests", "at": at}
    LedgerEntry.objects.create(**mine, kind="adopted", delta=1, balance=1)
    sold = Fill.objects.create(
        account=settings.ACCOUNT, symbol="BTCUSDT", trade_id=1, order_id=1, side="SELL", quantity=1, price=1,
        realized_pnl=0, commission=0, commission_asset="USDT", at=at,
    )  # fmt: skip
    LedgerEntry.objects.create(**mine, kind="exit", delta=2, balance=4, fill=sold, plan_id="a" * 16)
    Balance.objects.create(account=settings.ACCOUNT, symbol="BTCUSDT", amount=3, moved_ms=1, trades_from_ms=1)
    AuditEvent.objects.bulk_create(
        AuditEvent(kind="order_intended", plan_id="b" * 16, symbol="BTCUSDT", actor="apply") for _ in range(2)
    )
    Permit.objects.create(
        plan_id="a" * 16, gate="p33", verdict=True, reason="r", symbol="BTCUSDT", digest="d", mode="live",
        account="main", issuer="tests", raw="{}", issued_at=at, expires_at=at,
    )  # fmt: skip
    found = look.from_records(Span(at - dt.timedelta(minutes=1), clock.now()))
    assert {each.wrong for each in found.findings()} == {
        "ledger_chain_broken", "entry_is_not_its_fill", "balance_is_not_the_ledger", "permit_of_another_instance",
        "two_orders_of_a_plan", "order_row_missing",
    }  # fmt: skip


def test_an_exchange_that_cannot_be_asked_is_said_and_the_other_parts_stand(house: House) -> None:
    house.start()
    plan = exits(house, "BTCUSDT")[0]
    house.stop()
    house.paper.push_scenario({"next": "allOrders", "do": "reply", "status": 500, "times": 20, "body": {}})
    code, found = proved()
    assert (code, found["outcome"], figure(found, "plans", "plans")) == (7, "cannot tell", 1)
    assert any(doubt.startswith("BTCUSDT: HTTP 500") for doubt in found["parts"]["exchange"]["doubts"])
    forged_permit(plan)
    assert proved()[0] == 6  # what is wrong weighs more than what cannot be told
    house.paper.clear_scenario()
    with override_settings(PAPER_URL="http://127.0.0.1:9"):
        assert proved()[1]["parts"]["exchange"]["outcome"] == "cannot tell"


def test_live_watches_until_so_many_exits_have_passed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.start()
    exits(house, "BTCUSDT")  # before: it is none of them

    def go() -> None:
        exits(house, "ETHUSDT", "SOLUSDT")
        connection.close()

    thread, tell = threading.Thread(target=go), proof.Command._progress

    def told_first(command: proof.Command, text: str) -> None:
        tell(command, text)
        if not thread.ident:
            thread.start()

    monkeypatch.setattr(proof.Command, "_progress", told_first)
    code, out, err = said("proof", "--live", "2", "--within", "20", "--json")
    thread.join()
    assert "2 of 2 exits have passed" in err
    assert figure(json.loads(out), "plans", "exits that passed") == 2
    assert code == 0
    code, _, err = said("proof", "--live", "1", "--within", "0")
    assert (code, "Only 0 of 1 exits passed" in err) == (7, True)


@pytest.mark.parametrize(
    "options", [("--live", "0"), ("--live", "2", "--since", "1h"), ("--since", "2999-01-01")]
)
@pytest.mark.django_db
def test_a_span_that_makes_no_sense_is_refused(options: tuple[str, ...]) -> None:
    assert said("proof", *options)[0] == 2
    assert not ProofRun.objects.exists()


def with_finding(text: str) -> Report:
    part = Part("orders", "Orders")
    part.wrong("order_by_hand", text)
    now = clock.now()
    return Report(now, Span(now, now), "main", "paper", "", "0" * 16, [part], 0.1)


def test_a_strangers_client_id_is_text_in_every_form() -> None:
    found = with_finding("order 1 (<script>`x`\n| y)")
    assert "<script>" not in told.html(found)
    assert "&lt;script&gt;" in told.html(found)
    assert all("\n" not in line for line in told.lines(found))
    assert "- `order_by_hand: order 1 (<script>'x'\\x0a| y)`" in told.markdown(found)


def test_what_is_not_named_is_counted() -> None:
    part = Part("orders", "Orders")
    for number in range(report.NAMED_MOST + 3):
        part.wrong("order_by_hand", str(number), plan_id=str(number))
    assert (len(part.findings), part.more_findings, part.wrongs) == (200, 3, 203)
    assert len(part.plans) == 203
    assert part.outcome is Outcome.WRONG
