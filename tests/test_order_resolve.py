"""A person decides an order of unknown fate: only where nobody can prove it, with a reason, and nothing is made up."""

from __future__ import annotations

import datetime as dt
import io
import json
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import call_command

from apply.acting import settle, settlement
from apply.models import Inquiry, Order, Plan
from apply.plans import results
from apply.proving import deciding, inquiries
from permits.models import Permit, Usage
from positions.books import ledger
from positions.books.ledger import SeenTrade
from positions.models import Balance, LedgerEntry, SymbolLock
from quantum import clock
from quantum.models import AuditEvent
from quantum.redis import Client
from tests.orders_by_hand import answer_of, intended, trade

pytestmark = pytest.mark.usefixtures("db", "keys")

WHY = "seen in the exchange's own app"
Finding = Inquiry.Finding


@pytest.fixture
def order(redis: Client, settings: Any) -> Order:
    """Intended a minute ago, and its symbol has a balance of one."""
    settings.RESOLVER_MARGIN_SEC = Decimal(10)
    Balance.objects.create(account="main", symbol="BTCUSDT", amount=Decimal(1), moved_ms=1, trades_from_ms=1)
    made = intended()
    Order.objects.update(intended_at=clock.now() - dt.timedelta(seconds=60))
    made.refresh_from_db()
    return made


def asked(
    order: Order, finding: Inquiry.Finding, *, doubt_s: float = 40, asked_s_ago: float = 1, **found: Any
) -> None:
    """What the resolver would have written."""
    inquiries.note(order, finding, text="as the test says")
    now = clock.now()
    doubtful = now - dt.timedelta(seconds=doubt_s) if finding in inquiries.DOUBTFUL else None
    asked_at = now - dt.timedelta(seconds=asked_s_ago)
    Inquiry.objects.update(doubtful_since=doubtful, asked_at=asked_at, found=found)


def run(order: Order, *arguments: str, code: int = 0, **options: Any) -> dict[str, Any]:
    out, talk = io.StringIO(), io.StringIO()
    try:
        call_command(
            "order_resolve", order.plan_id, *arguments, stdout=out, stderr=talk, json=True, **options
        )
        left = 0
    except SystemExit as ended:
        left = int(str(ended.code))
    assert left == code, talk.getvalue()
    told: dict[str, Any] = json.loads(out.getvalue() or "{}")
    return told


def nothing_changed(order: Order) -> None:
    assert Plan.objects.get().state == "intended"
    assert SymbolLock.objects.exists()
    assert not AuditEvent.objects.filter(kind="order_resolved").exists()


def test_the_evidence_is_shown_to_whoever_asks_and_nothing_is_decided(order: Order, redis: Client) -> None:
    asked(order, Finding.FAILING)
    ledger.store([SeenTrade(trade(quantity="0.1"), order.client_order_id)])
    told = run(order)
    assert told["exchange"]["finding"] == "failing"
    assert told["order"]["age_s"] >= 60
    assert told["trades"][0]["quantity"] == "0.1"
    assert told["position"] == {"locked": True, "ledger": "1", "snapshot": {}}
    assert told["may"]["filled"] == ""
    assert "trade of it" in told["may"]["not_at_exchange"]
    nothing_changed(order)


@pytest.mark.parametrize(
    ("finding", "more", "says"),
    [
        (None, {}, "has not asked"),
        (Finding.FAILING, {"asked_s_ago": 61}, "has not asked"),
        (Finding.OPEN, {}, "it is open"),
        (Finding.ABSENT, {}, "proves that by itself"),
        (Finding.FAILING, {"doubt_s": 29}, "only"),
        (Finding.CONTRADICTORY, {"doubt_s": 5}, "only"),
    ],
    ids=["never_asked", "asked_long_ago", "open", "absent", "too_soon", "contradiction_too_soon"],
)
@pytest.mark.parametrize("fate", deciding.FATES)
def test_what_the_exchange_can_still_prove_is_not_a_persons_to_decide(
    order: Order, finding: Inquiry.Finding | None, more: dict[str, Any], says: str, fate: str
) -> None:
    if finding:
        asked(order, finding, **more)
    told = run(order, fate, reason=WHY, code=4)
    assert says in told["why_not"]
    with pytest.raises(deciding.CannotDecide):
        deciding.decide(order.plan_id, fate, by="nina", reason=WHY)
    nothing_changed(order)


def test_nobody_can_say_that_what_was_seen_was_never_there(order: Order) -> None:
    asked(order, Finding.CONTRADICTORY, status="FILLED")
    run(order, "not_at_exchange", reason=WHY, code=4)
    asked(order, Finding.FAILING)
    ledger.store([SeenTrade(trade(), order.client_order_id)])
    run(order, "not_at_exchange", reason=WHY, code=4)
    nothing_changed(order)


def test_what_the_exchange_answered_to_the_order_itself_was_never_not_there(order: Order) -> None:
    """Answered FILLED; then both its interfaces are silent before a trade was read and before the resolver asked once.
    The answer stands in the order row alone, and whoever decides sees it."""
    settle.record_reply(order, answer_of(order))
    asked(order, Finding.FAILING)
    told = run(order)
    assert (told["order"]["order_id"], told["order"]["status"]) == (77, "FILLED")
    assert "answered it as order 77, FILLED" in told["may"]["not_at_exchange"]
    run(order, "not_at_exchange", reason=WHY, code=4)
    nothing_changed(order)
    run(order, "filled", reason=WHY)
    order.refresh_from_db()
    assert order.status == "BY_PERSON"
    seen = AuditEvent.objects.get(kind="order_resolved").data["evidence"]["order"]
    assert (seen["order_id"], seen["status"]) == (77, "FILLED"), "the row does not say it any more"


def test_an_answer_that_comes_in_while_a_person_denies_the_order_stands(
    order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The person's evidence is read; apply, which stood still for a minute, writes the answer; then the word."""
    asked(order, Finding.FAILING)
    allowed = deciding.refusal

    def answered_after(known: deciding.Evidence, fate: str) -> str:
        why_not = allowed(known, fate)
        settle.record_reply(order, answer_of(order))
        return why_not

    monkeypatch.setattr(deciding, "refusal", answered_after)
    with pytest.raises(deciding.CannotDecide, match="answer came in"):
        deciding.decide(order.plan_id, "not_at_exchange", by="nina", reason=WHY)
    nothing_changed(order)
    assert not Usage.objects.exists()
    order.refresh_from_db()
    assert (order.status, order.settled_at) == ("FILLED", None)


def test_what_may_still_arrive_is_not_to_be_called_missing(order: Order, settings: Any) -> None:
    settings.RESOLVER_MARGIN_SEC = Decimal(120)
    asked(order, Finding.FAILING)
    assert "still arrive" in run(order, "not_at_exchange", reason=WHY, code=4)["why_not"]
    nothing_changed(order)


def test_a_reason_is_wanted_and_a_dry_run_changes_nothing(order: Order) -> None:
    asked(order, Finding.FAILING)
    run(order, "filled", code=2)
    run(order, "filled", reason=WHY, dry_run=True)
    nothing_changed(order)


def test_filled_without_a_trade_frees_the_symbol_and_leaves_the_ledger_to_a_reconciliation(
    order: Order, redis: Client
) -> None:
    """I11: no entry is made up. The limits are charged in full: nobody knows that it was less."""
    asked(order, Finding.FAILING)
    run(order, "filled", reason=WHY, by="nina")
    plan = Plan.objects.get()
    assert (plan.state, plan.error) == ("filled", "resolved_by_person")
    assert not SymbolLock.objects.exists()
    assert Balance.objects.get().amount == 1
    assert not LedgerEntry.objects.exists()
    order.refresh_from_db()
    assert (order.status, order.executed_quantity) == ("BY_PERSON", None)
    assert (Usage.objects.get().kind, Usage.objects.get().quantity) == ("executed", Decimal("0.25"))
    assert {permit.fate for permit in Permit.objects.all()} == {"spent"}
    event = AuditEvent.objects.get(kind="order_resolved")
    assert (event.actor, event.reason) == ("nina", WHY)
    assert (event.data["before"], event.data["after"]) == ("intended", "filled")
    assert event.data["evidence"]["exchange"]["finding"] == "failing"
    results.finish(redis, plan.plan_id)  # the janitor's
    fields = results.result_fields(plan, order)
    assert (fields["executed"], fields["executed_qty"], fields["error"]) == ("True", "", "resolved_by_person")


def test_the_trades_that_were_seen_are_booked_and_no_others(order: Order) -> None:
    asked(order, Finding.CONTRADICTORY, status="FILLED", executed_quantity="0.25")
    ledger.store([SeenTrade(trade(quantity="0.1"), order.client_order_id), SeenTrade(trade(2), "q-other-25")])
    run(order, "filled", reason=WHY)
    assert Balance.objects.get().amount == Decimal("0.9")
    assert LedgerEntry.objects.get().plan_id == order.plan_id
    order.refresh_from_db()
    assert (order.executed_quantity, order.commission) == (Decimal("0.1"), {"USDT": "0.02"})


def test_not_at_exchange_by_a_persons_word_moves_nothing(order: Order) -> None:
    asked(order, Finding.FAILING)
    run(order, "not_at_exchange", reason=WHY, by="nina")
    assert (Plan.objects.get().state, Plan.objects.get().error) == ("not_at_exchange", "not_at_exchange")
    assert Balance.objects.get().amount == 1
    assert not SymbolLock.objects.exists()
    assert Usage.objects.get().kind == "failed"
    assert run(order, "filled", reason=WHY, code=4)["why_not"].startswith("It has ended already")


def test_in_live_the_account_is_typed(order: Order, settings: Any) -> None:
    asked(order, Finding.FAILING)
    settings.APPLY_MODE = "live"
    run(order, "filled", reason=WHY, code=2)
    nothing_changed(order)
    run(order, "filled", reason=WHY, confirm="main")
    assert Plan.objects.get().state == "filled"


@pytest.mark.parametrize("said", ["filled", "not_at_exchange"])
def test_the_end_by_a_persons_word_names_what_it_came_to(order: Order, said: str) -> None:
    """Of the rows as they stand then: a proof bundle makes the same digest from them."""
    asked(order, Finding.FAILING)
    if said == "filled":
        ledger.store([SeenTrade(trade(quantity="0.1"), order.client_order_id)])
    run(order, said, reason=WHY)
    order.refresh_from_db()
    fills = [ledger.trade_of(entry.fill) for entry in LedgerEntry.objects.exclude(fill=None) if entry.fill]
    told = settlement.told(order.status, order.executed_quantity, fills)
    event = AuditEvent.objects.get(kind=f"plan_{Plan.objects.get().state}")
    assert event.data["settled"] == told["settled"]
