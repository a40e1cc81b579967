"""The page of one plan: why it closed nothing and what to do, what was said to the exchange, and another attempt."""

from __future__ import annotations

import datetime as dt
import json
import re
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client as WebClient
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apply.glance import stopped, ways
from apply.models import Inquiry, Order, Plan
from apply.pages import views
from apply.plans import talk, timeline
from permits.models import Approval, Permit
from positions.models import SymbolLock
from quantum import clock
from quantum.exchange import binance
from quantum.exchange.types import OrderRequest, Side
from quantum.models import AuditEvent
from quantum.reasons import ApplyReason, BrainReason, GateReason, GovernorReason
from quantum.redis import Client
from tests.flow.test_admin import HOSTILE, plan_row, someone, text_of
from tests.flow.test_home import plans
from tests.permits.desk_by_hand import issued_both

WHY = "p33 is back, look again"
WAITED = {"state": "blocked", "error": "permit_timeout_or_missing:missing_p33", "result_id": "1-0"}


def page(plan_id: str) -> str:
    return reverse("admin:apply_plan_change", args=[plan_id])


def waited(number: int = 1, **more: Any) -> Plan:
    now = clock.now()
    said = {
        "wait_ms": 1201,
        "gov_ttl": 51,
        "p33_ttl": -2,
        "ended_at": now,
        "created_at": now,
        **WAITED,
        **more,
    }
    return plan_row(number, expires_at=now + dt.timedelta(seconds=30), **said)


def denied(number: int, gate: str, reason: str, **context: str) -> Plan:
    plan = waited(number, error=f"permit_denied:{gate}_denied", gate_reason=reason)
    Permit.objects.create(
        plan_id=plan.plan_id, gate=gate, verdict=False, reason=reason, symbol="BTCUSDT", digest="d",
        mode="paper", account="main", issuer="tests", raw=json.dumps({"context": context}),
        issued_at=clock.now(), expires_at=clock.now(),
    )  # fmt: skip
    return plan


def order_of(plan: Plan, **more: Any) -> Order:
    at = plan.created_at
    said: dict[str, Any] = {
        "plan_id": plan.plan_id, "step": "CLOSE_PARTIAL_25", "client_order_id": f"q-{plan.plan_id}-1",
        "symbol": plan.symbol, "side": "SELL", "quantity": Decimal("0.062"), "timestamp_ms": 1_700_000_000_123,
        "consumed_at": at, "token": "secret-of-the-attempt", "governor_permit": "{}", "p33_permit": "{}",
        "sent_at": at, "answered_at": at + dt.timedelta(milliseconds=7),
    }  # fmt: skip
    return Order.objects.create(**{**said, **more})


def retry(web: WebClient, plan: Plan, **said: str) -> str:
    sent = {"reason": WHY, "newest": "", **said}
    return text_of(web.post(reverse("admin:apply_plan_retry", args=[plan.plan_id]), sent, follow=True))


def ways_on(shown: str) -> dict[str, str]:
    found = re.search(r'<ul class="ways">(.*?)</ul>', shown, re.DOTALL)
    links = re.findall(r'<a href="([^"]*)">([^<]*)</a>', found[1]) if found else []
    return {words: address.replace("&amp;", "&") for address, words in links}


@pytest.fixture
def web(redis: Client, transactional_db: None) -> WebClient:
    return someone("root", superuser=True)


# ---- why it closed nothing, and what to do


def test_every_reason_has_been_thought_of() -> None:
    every = {str(each) for kind in (GateReason, ApplyReason, BrainReason, GovernorReason) for each in kind}
    assert set(ways.OF_REASON) == every
    assert {kind for kinds in ways.OF_REASON.values() for kind in kinds} == set(stopped._MAKES)


def test_drift_is_told_with_both_numbers_and_leads_to_the_symbol(web: WebClient) -> None:
    plan = denied(
        1,
        "p33",
        "reconcile_required_qty_mismatch",
        exchange_amt="0.500",
        ledger_amt="0.250",
        tolerance="0.001",
    )
    shown = text_of(web.get(page(plan.plan_id)))
    assert "Why it closed nothing: <strong>reconcile_required_qty_mismatch</strong>" in shown
    for name, number in (("exchange amt", "0.500"), ("ledger amt", "0.250"), ("tolerance", "0.001")):
        assert f'<dt>{name}</dt><dd><b class="num">{number}</b></dd>' in shown
    assert "They differ by more than the tolerance." in shown
    found = ways_on(shown)
    assert found["Look at BTCUSDT at the exchange and in the ledger"] == reverse(
        "admin:positions_reconcile_symbol", args=["BTCUSDT"]
    )
    assert "gate=p33" in found["Break glass for BTCUSDT"]
    assert "is still blocked" in shown
    assert 'id="retry"' not in shown


@pytest.mark.parametrize(
    ("reason", "gate", "words", "place"),
    [
        ("halted", "governor", "See who halted, and why", "permits_tradingstate_changelist"),
        ("burst_limit", "governor", "See the limits", "permits_policyversion_changelist"),
        ("inputs_unavailable", "governor", "See whether the consumers live", "index"),
        ("circuit_open", "governor", "See the plans of BTCUSDT", "apply_plan_changelist"),
        ("below_min_quantity", "p33", "Propose again", "apply_proposal_propose"),
    ],
)
def test_a_reason_leads_to_the_page_where_one_acts(
    web: WebClient, reason: str, gate: str, words: str, place: str
) -> None:
    found = ways_on(text_of(web.get(page(denied(1, gate, reason).plan_id))))
    assert found[words].startswith(reverse(f"admin:{place}"))
    assert web.get(found[words].partition("#")[0]).status_code == 200


def test_a_locked_symbol_leads_to_the_plan_that_holds_it_and_a_question_to_its_answer(web: WebClient) -> None:
    holder = plan_row(7)
    SymbolLock.objects.create(account="main", symbol="BTCUSDT", plan_id=holder.plan_id)
    locked = waited(1, error="symbol_locked")
    assert ways_on(text_of(web.get(page(locked.plan_id))))["Open the plan that holds the symbol"] == page(
        holder.plan_id
    )
    asked = denied(2, "governor", "awaiting_approval")
    approval = Approval.objects.create(
        asked_plan_id=asked.plan_id, symbol="BTCUSDT", fields={}, rule="size", expires_at=clock.now()
    )
    found = ways_on(text_of(web.get(page(asked.plan_id))))
    assert found["Say yes or no to it"] == reverse("admin:permits_approval_change", args=[approval.pk])


def test_nobody_is_led_where_he_may_not_go(redis: Client, transactional_db: None) -> None:
    plan = waited()
    shown = text_of(someone("viewer", "view_plan").get(page(plan.plan_id)))
    assert list(ways_on(shown)) == ["See whether the consumers live"]
    assert 'id="retry"' not in shown


def test_what_was_proposed_stands_in_the_form_that_proposes_again(web: WebClient) -> None:
    plan = denied(1, "governor", "cooldown")
    shown = text_of(web.get(ways_on(text_of(web.get(page(plan.plan_id))))["Propose again"]))
    assert '<option value="PARTIAL_25" selected>' in shown
    assert 'value="0.5"' in shown


def test_a_plan_that_closed_something_is_not_told_to_have_stopped(web: WebClient) -> None:
    [plan_id] = plans(1)
    shown = text_of(web.get(page(plan_id)))
    assert "Why it closed nothing" not in shown and "ways" not in shown


def test_plan_show_tells_the_same_and_names_the_commands(web: WebClient) -> None:
    plan = waited()
    raw = json.loads(web.get(reverse("admin:apply_plan_raw", args=[plan.plan_id])).content)
    out, talked = StringIO(), StringIO()
    call_command("plan_show", plan.plan_id, "--json", stdout=out, stderr=talked)
    told = json.loads(out.getvalue())
    for each in (raw, told):
        each["blocked"].pop("seconds")
    assert raw == told
    assert raw["stopped"]["compared"] == {
        "waited": "1201 ms of 1200 ms", "Governor's permit": "51 s left", "P3.3's permit": "not there",
    }  # fmt: skip
    call_command("plan_show", plan.plan_id, stdout=out, stderr=talked)
    assert f"manage.py plan_retry {plan.plan_id}" in talked.getvalue()


# ---- another attempt


def test_a_wait_that_ran_out_is_tried_again_with_a_reason(web: WebClient) -> None:
    plan = waited()
    shown = text_of(web.get(page(plan.plan_id)))
    assert ways_on(shown)["Try this plan again"] == "#retry"
    assert "PAPER main</b>: attempt 1, blocked" in shown
    told = retry(web, plan)
    child = Plan.objects.get(parent=plan.plan_id)
    assert "attempt 2, which needs both permits anew" in told
    assert f"<title>PAPER main · Plan {child.plan_id}" in told
    event = AuditEvent.objects.get(kind="plan_retried")
    assert (event.actor, event.reason, event.plan_id) == ("root", WHY, child.plan_id)
    again = text_of(web.get(page(plan.plan_id)))
    assert "It was tried again:" in again and 'id="retry"' not in again
    assert "tried again already" in retry(web, plan, newest=child.plan_id)
    assert Plan.objects.count() == 2


@pytest.mark.parametrize("said", [{"reason": ""}, {"reason": "too few"}, {"reason": "        x"}])
def test_without_a_reason_nothing_is_tried(web: WebClient, said: dict[str, str]) -> None:
    assert "Nothing was done: reason" in retry(web, waited(), **said)
    assert Plan.objects.count() == 1


def test_nobody_goes_past_a_newer_plan_that_the_page_did_not_show(web: WebClient) -> None:
    plan = waited()
    [newer] = plans(1, first=9)
    assert "a newer plan of this symbol than this page showed" in retry(web, plan)
    assert not Plan.objects.filter(parent=plan.plan_id).exists()
    shown = text_of(web.get(page(plan.plan_id)))
    assert "Newer on BTCUSDT" in shown and f'name="newest" value="{newer}"' in shown
    retry(web, plan, newest=newer)
    assert Plan.objects.filter(parent=plan.plan_id).exists()


def test_only_who_may_propose_tries_again_and_only_by_a_post(redis: Client, transactional_db: None) -> None:
    plan = waited()
    address = reverse("admin:apply_plan_retry", args=[plan.plan_id])
    sent = {"reason": WHY, "newest": ""}
    assert someone("viewer", "view_plan").post(address, sent).status_code == 403
    assert someone("blind", "propose").post(address, sent).status_code == 403
    may = someone("olga", "view_plan", "propose")
    assert may.get(address).status_code == 405
    assert may.post(reverse("admin:apply_plan_retry", args=["f" * 16]), sent).status_code == 404
    assert Plan.objects.count() == 1
    assert may.post(address, sent).status_code == 302
    assert Plan.objects.count() == 2


def test_a_denied_plan_is_not_tried_again_whatever_is_sent(web: WebClient) -> None:
    plan = denied(1, "governor", "burst_limit")
    assert "no wait that ran out" in retry(web, plan)
    assert Plan.objects.count() == 1


def test_in_live_the_account_is_typed(web: WebClient) -> None:
    with override_settings(APPLY_MODE="live"):
        plan = waited(mode="live")
        assert "Live: type the account" in text_of(web.get(page(plan.plan_id)))
        assert "not the account" in retry(web, plan, confirm="other")
        assert Plan.objects.count() == 1


# ---- what was said to the exchange


def test_the_request_is_shown_as_it_was_sent_with_its_secrets_masked(web: WebClient) -> None:
    plan = plan_row(1, state="rejected", error="rejected_market", ended_at=clock.now())
    order = order_of(plan, error="rejected_market", error_code=-4131, error_text="no counter-side")
    [said] = timeline.of(plan.plan_id).said  # type: ignore[union-attr]
    request = OrderRequest(
        symbol=order.symbol, side=Side(order.side), quantity=order.quantity,
        client_order_id=order.client_order_id, timestamp_ms=order.timestamp_ms,
    )  # fmt: skip
    sent = binance._order_params(request)
    assert {name: said.request[name] for name in sent} == sent
    assert said.request["recvWindow"] == str(binance.RECV_WINDOW_MS)
    shown = text_of(web.get(page(plan.plan_id)))
    assert f'<dt>signature</dt><dd class="num">{talk.MASKED}</dd>' in shown
    assert "answered in 7.0 ms" in shown and "-4131" in shown and "no counter-side" in shown
    assert ways_on(shown)["Read what the exchange answered"] == "#exchange-title"
    assert order.token not in shown
    assert order.token not in text_of(web.get(reverse("admin:apply_plan_raw", args=[plan.plan_id])))


def test_what_the_resolver_asked_and_the_cancel_stand_beside_the_order(web: WebClient) -> None:
    plan = plan_row(1, state="unknown", created_at=clock.now())
    order_of(plan, answered_at=None)
    Inquiry.objects.create(
        plan_id=plan.plan_id, finding="open", asked=12, found={"status": "NEW"}, cancels=1,
        cancel_asked_at=clock.now(), cancel_sent_at=clock.now(), cancel_text="accepted",
    )  # fmt: skip
    shown = text_of(web.get(page(plan.plan_id)))
    assert "no answer was recorded" in shown
    assert "asked 12 times, the last answer" in shown
    assert "DELETE /fapi/v1/order" in shown and "accepted" in shown
    assert "Its order is of unknown fate" in shown
    assert f"manage.py order_resolve {plan.plan_id}" in shown


# ---- axis, signatures, cost, strangers


def test_what_came_minutes_later_does_not_squeeze_the_milliseconds(web: WebClient) -> None:
    assert views.near([-9000, -2, 0, 15, 1200, 90_000], limit_ms=1200) == [-2, 0, 15, 1200]
    scale = views.axis([-2, 0, 15])
    assert (scale.x(90_000), scale.x(-9000)) == ("100.00%", "0.00%")
    assert scale.holds(15) and not scale.holds(90_000)
    plan = plan_row(1, state="filled", stream_id="1700000000000-0", ended_at=clock.from_ms(1_700_000_090_000))
    assert '<text class="past" x="100.00%"' in text_of(web.get(page(plan.plan_id)))


def test_a_recorded_permit_shows_whose_key_signed_it(
    redis: Client, keys: None, transactional_db: None
) -> None:
    web, plan = someone("root", superuser=True), issued_both(redis)
    plan_row(int(plan.plan_id, 16) % 2**31)
    Plan.objects.update(plan_id=plan.plan_id)
    forged = Permit.objects.get(plan_id=plan.plan_id, gate="p33")
    Permit.objects.filter(pk=forged.pk).update(raw=forged.raw.replace('"0.25"', '"9"').replace("0.25", "9"))
    shown = text_of(web.get(page(plan.plan_id)))
    assert "ok, governor</span>" in shown and "ok, p33" not in shown
    assert "by no key that is trusted now" in shown


def test_a_page_costs_as_much_for_many_rows_as_for_few(web: WebClient) -> None:
    plan = waited()

    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            assert web.get(page(plan.plan_id)).status_code == 200
        return len(asked)

    web.get(page(plan.plan_id))
    few = queries()
    plans(200, first=1000, state="blocked", error="hold")
    AuditEvent.objects.bulk_create(
        AuditEvent(kind="tested", actor="tests", plan_id=plan.plan_id, data={}) for _ in range(50)
    )
    for number in range(10):
        Permit.objects.create(
            plan_id=plan.plan_id, gate="p33", verdict=True, reason="r", symbol="BTCUSDT", digest="d",
            mode="paper", account="main", issuer="tests", raw="{}", expires_at=clock.now(),
            issued_at=clock.now() + dt.timedelta(seconds=number),
        )  # fmt: skip
    assert queries() == few <= 24


@pytest.mark.parametrize("error", [WAITED["error"], HOSTILE[:80], "permit_denied:p33_denied"])
def test_nothing_that_a_stranger_wrote_becomes_markup_on_the_way(web: WebClient, error: str) -> None:
    plan = waited(
        9, error=error, gate_reason=HOSTILE, source=HOSTILE[:80], reason_codes=HOSTILE, symbol=HOSTILE[:40],
        action=HOSTILE[:24], kill_score=HOSTILE[:40], timestamp=HOSTILE[:40],
    )  # fmt: skip
    order_of(plan, error_text=HOSTILE, status=HOSTILE[:20], error=HOSTILE[:80])
    Permit.objects.create(
        plan_id=plan.plan_id, gate="p33", verdict=False, reason=HOSTILE[:60], symbol="BTCUSDT", digest="d",
        mode="paper", account="main", issuer=HOSTILE, raw=json.dumps({"context": {HOSTILE: HOSTILE}}),
        issued_at=clock.now(), expires_at=clock.now(),
    )  # fmt: skip
    Inquiry.objects.create(plan_id=plan.plan_id, finding="open", text=HOSTILE, found={HOSTILE: HOSTILE})
    AuditEvent.objects.create(
        kind=HOSTILE[:40], reason=HOSTILE, data={HOSTILE: HOSTILE}, actor=HOSTILE, plan_id=plan.plan_id
    )
    shown = text_of(web.get(page(plan.plan_id)))
    assert "<script>alert" not in shown and "<img src=x" not in shown
    raw = web.get(reverse("admin:apply_plan_raw", args=[plan.plan_id]))
    assert raw["Content-Type"] == "application/json" and raw["X-Content-Type-Options"] == "nosniff"
    assert json.loads(raw.content)["plan"]["symbol"] == HOSTILE[:40]
