"""What the pages show, to whom, and what no page may do."""

from __future__ import annotations

import datetime as dt
import json
import re
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection, models
from django.test import Client as WebClient
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django_q.models import Failure

from apply.models import ApiToken, BreakGlass, Order, Plan, Proposal
from apply.pages import views as pages
from apply.pages.views import axis
from permits.models import Approval, ApprovalVote, Hold, Permit, PolicyVersion, TradingState, Usage
from permits.state import trading
from positions.models import Balance, Fill, Funding, Incident, LedgerEntry, SymbolLock
from quantum import clock
from quantum.facts import ReadOnlyAdmin
from quantum.models import AuditEvent, Instance
from quantum.plan import Action
from quantum.redis import Client
from tests.house import House, wait_for

admin.autodiscover()
FACTS = [model for model, page in admin.site._registry.items() if isinstance(page, ReadOnlyAdmin)]
OURS = {
    BreakGlass, Plan, Order, Proposal, ApiToken, Permit, TradingState, Hold, PolicyVersion, Usage,
    Approval, Fill, LedgerEntry, Balance, SymbolLock, Incident, AuditEvent, Instance,
}  # fmt: skip
NOWHERE = "unix:///nowhere/at-all.sock"
HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'


def url(model: type[models.Model], page: str, *args: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def someone(name: str, *permissions: str, superuser: bool = False) -> WebClient:
    user = get_user_model().objects.create(username=name, is_staff=True, is_superuser=superuser)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    web = WebClient()
    web.force_login(user)
    return web


def text_of(answer: Any) -> str:
    return str(answer.content.decode())


def plan_row(number: int, **more: Any) -> Plan:
    said = {
        "plan_id": f"{number:016x}",
        "symbol": "BTCUSDT",
        "action": "PARTIAL_25",
        "decision": "EXECUTE",
        "kill_score": "0.5",
        "timestamp": "1700000000",
        "digest": "d" * 64,
        "mode": "paper",
        "account": "main",
        "created_at": clock.from_ms(1_700_000_000_000),
        "expires_at": clock.from_ms(1_700_000_030_000),
        **more,
    }
    return Plan.objects.create(**said)


def lived_in(number: int) -> None:
    """A row of each kind that belongs to a plan."""
    at = clock.now()
    plan = plan_row(number, ended_at=at, state="filled")
    amounts = {"quantity": Decimal("0.1"), "price": Decimal(5), "realized_pnl": Decimal(0)}
    fill = Fill.objects.create(
        account="main", symbol="BTCUSDT", trade_id=number, order_id=number, side="SELL",
        commission=Decimal(0), commission_asset="USDT", at=at, **amounts,
    )  # fmt: skip
    LedgerEntry.objects.create(
        account="main", symbol="BTCUSDT", kind="exit", delta=Decimal("-0.1"), balance=Decimal(1),
        fill=fill, plan_id=plan.plan_id, actor="tests", at=at,
    )  # fmt: skip
    Permit.objects.create(
        plan_id=plan.plan_id, gate="p33", verdict=True, reason="r", symbol="BTCUSDT", digest="d",
        mode="paper", account="main", issuer="tests", raw="{}", issued_at=at, expires_at=at,
    )  # fmt: skip
    Order.objects.create(
        plan_id=plan.plan_id, step="CLOSE_PARTIAL_25", client_order_id=f"q-{number}", symbol="BTCUSDT",
        side="SELL", quantity=Decimal("0.1"), timestamp_ms=1, consumed_at=at, token="secret-of-the-attempt",
        governor_permit="{}", p33_permit="{}",
    )  # fmt: skip
    Proposal.objects.create(
        mark=plan.plan_id, plan_id=plan.plan_id, symbol="BTCUSDT", action="PARTIAL_25", kill_score="0.5",
        computed_at="1700000000", way="stream", actor="tests",
    )  # fmt: skip
    ApiToken.objects.create(
        name=f"bot-{number}", digest=f"{number:064x}", scopes="read", symbols="*", per_minute=1,
        created_by="tests", reason="to have a row",
    )  # fmt: skip
    SymbolLock.objects.create(account="main", symbol=f"S{number}", plan_id=plan.plan_id)
    Balance.objects.create(
        account="main", symbol=f"S{number}", amount=Decimal(1), moved_ms=1, trades_from_ms=1
    )
    Incident.objects.create(
        account="main", symbol=f"S{number}", kind="quantity", cause="manual_trade", exchange_amt=Decimal(1),
        ledger_amt=Decimal(2), diff=Decimal(1), tolerance=Decimal("0.1"), evidence=[{"trade_id": "7"}],
    )  # fmt: skip
    BreakGlass.objects.create(
        account="main", mode="paper", symbol="BTCUSDT", action="PARTIAL_25", gates="p33", quantity=Decimal(1),
        stands_on={"exchange": "1"}, state="acted", asked_by="tests", reason="to have a row", expires_at=at,
    )  # fmt: skip
    AuditEvent.objects.create(kind="tested", plan_id=plan.plan_id, actor="tests", data={"a": 1})
    trading.change(state=TradingState.State.ACTIVE, by="tests", reason="to have a row")
    Hold.objects.create(symbol=f"S{number}", by="tests", reason="to have a row")
    PolicyVersion.objects.create(
        version=number, rules={"total": {"permits_per_5min": number}}, by="tests", reason="to have a row"
    )
    Usage.objects.create(
        plan_id=plan.plan_id, symbol="BTCUSDT", kind="executed", quantity=Decimal("0.1"), notional=Decimal(5)
    )
    approval = Approval.objects.create(
        asked_plan_id=plan.plan_id, symbol="BTCUSDT", fields={"action": "FULL_CLOSE"}, rule="size",
        compared={"asked": "9000", "limit": "5000"}, expires_at=at + dt.timedelta(minutes=30),
    )  # fmt: skip
    ApprovalVote.objects.create(approval=approval, by="nina", yes=True, reason="I looked at it")


@pytest.fixture
def web(redis: Client, transactional_db: None) -> WebClient:
    return someone("root", superuser=True)


# ---- facts stay what they are


def test_every_fact_has_a_read_only_page() -> None:
    assert set(FACTS) >= OURS


def test_f10_no_admin_url_adds_changes_or_deletes_a_fact(web: WebClient) -> None:
    lived_in(1)
    Instance.objects.get_or_create(id=1, defaults={"mode": "paper", "account": "main"})
    Funding.objects.create(
        account="main", symbol="BTCUSDT", transaction_id="1", asset="USDT", amount=1, at=clock.now()
    )
    Failure.objects.create(
        id="f" * 32, name="a job", func="f", started=clock.now(), stopped=clock.now(), success=False
    )
    assert {Funding, Failure, Instance, AuditEvent} <= set(FACTS)
    for model in FACTS:
        row = model._default_manager.first()
        assert row is not None
        before = facts_of(model)
        for address in (
            url(model, "add"),
            url(model, "change", row.pk),
            url(model, "delete", row.pk),
            url(model, "changelist"),
        ):
            sent = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes", "symbol": "X"}
            assert web.post(address, sent).status_code == 403, address
        assert web.get(url(model, "add")).status_code == 403
        assert facts_of(model) == before


def facts_of(model: type[models.Model]) -> list[Any]:
    """But for the events that tell of each refused try."""
    rows = model._default_manager.values()
    return list(rows.exclude(kind="act_refused") if model is AuditEvent else rows)


def test_a_page_needs_its_view_permission_and_no_other_will_do(redis: Client, transactional_db: None) -> None:
    lived_in(1)
    viewer = someone("viewer", "view_plan")
    changer = someone("changer", "change_plan", "add_plan", "delete_plan")
    plan = Plan.objects.get()
    for address in (url(Plan, "changelist"), url(Plan, "change", plan.plan_id)):
        assert viewer.get(address).status_code == 200
        assert changer.get(address).status_code == 403
        assert WebClient().get(address).status_code == 302
    assert viewer.get(url(Permit, "changelist")).status_code == 403


def test_no_page_lets_anybody_name_a_function_to_be_run(web: WebClient) -> None:
    assert web.get("/admin/django_q/schedule/add/").status_code == 404
    assert web.post("/admin/django_q/failure/", {"action": "resubmit_task"}).status_code == 403


@pytest.mark.parametrize("model", sorted(OURS - {Instance}, key=str))
def test_a_list_asks_as_often_for_thirty_rows_as_for_one(web: WebClient, model: type[models.Model]) -> None:
    lived_in(1)
    few = queries(web, url(model, "changelist"))
    for number in range(2, 31):
        lived_in(number)
    assert queries(web, url(model, "changelist")) == few


def queries(web: WebClient, address: str) -> int:
    """The fewest of three: what is kept for a moment may have to be asked again on a slow machine."""
    return min(_queries(web, address) for _ in range(3))


def _queries(web: WebClient, address: str) -> int:
    with CaptureQueriesContext(connection) as asked:
        assert web.get(address).status_code == 200
    return len(asked)


@pytest.mark.parametrize("model", FACTS)
def test_an_empty_list_says_what_is_normal(web: WebClient, model: type[models.Model]) -> None:
    says = admin.site._registry[model].empty_says  # type: ignore[attr-defined]
    assert len(says) > 30
    assert says[:30] in text_of(web.get(url(model, "changelist")))


def test_a_search_without_a_hit_does_not_say_that_nothing_ever_happened(web: WebClient) -> None:
    plan_row(1)
    shown = text_of(web.get(url(Plan, "changelist"), {"q": "ffffffffffffffff"}))
    assert "No row matches" in shown
    assert "No plan yet" not in shown


def test_every_floor_links_to_the_plan_by_its_id(web: WebClient) -> None:
    lived_in(0x1234)
    plan = Plan.objects.get()
    address = url(Plan, "change", plan.plan_id)
    for model in (Plan, Order, Permit, LedgerEntry, SymbolLock, AuditEvent):
        assert f'href="{address}"' in text_of(web.get(url(model, "changelist"))), model


def test_amounts_and_times_are_shown_exactly(web: WebClient) -> None:
    LedgerEntry.objects.create(
        account="main",
        symbol="BTCUSDT",
        kind="adopted",
        delta=Decimal("0.000000000000000001"),
        balance=Decimal("1234567.1"),
        actor="tests",
        at=clock.from_ms(1_700_000_000_007),
    )
    shown = text_of(web.get(url(LedgerEntry, "changelist")))
    assert ">0.000000000000000001<" in shown
    assert ">1234567.1<" in shown
    assert "2023-11-14 <b>22:13:20.007</b> UTC" in shown


# ---- one plan


def test_the_page_of_an_exit_tells_its_whole_way(house: House, web: WebClient) -> None:
    house.start()
    row = house.exit("BTCUSDT", Action.PARTIAL_75)
    house.stop()
    shown = text_of(web.get(url(Plan, "change", row.plan_id)))
    for step in ("published", "governor granted", "p33 granted", "permits spent", "intent committed",
                 "order sent", "order answered", "ledger moved"):  # fmt: skip
        assert f"<b>{step}</b>" in shown, step
    order = Order.objects.get(plan_id=row.plan_id)
    assert order.client_order_id in shown
    assert order.token not in shown
    assert shown.count("Signed payload") == 2
    assert "&quot;safe_close_qty&quot;:0.75" in shown
    assert "plan_filled" in shown


def test_the_page_of_a_denied_exit_names_the_reason_and_both_numbers(house: House, web: WebClient) -> None:
    house.start()
    by_hand = house.entry_id().replace("entry", "web")
    house.paper.set_position(symbol="ETHUSDT", amount="-3.000", client_order_id=by_hand)
    wait_for(Fill.objects.filter(client_order_id=by_hand).exists, what="the trade to be seen")
    row = house.exit("ETHUSDT")
    house.stop()
    assert row.state == "blocked"
    shown = text_of(web.get(url(Plan, "change", row.plan_id)))
    assert f"<strong>{row.gate_reason}</strong>" in shown
    assert "No order was made for this plan." in shown
    assert "<b>Next:</b>" in shown
    denied = Permit.objects.get(plan_id=row.plan_id, gate="p33")
    for name, number in json.loads(denied.raw)["context"].items():
        assert f"<dt>{name.replace('_', ' ')}</dt>" in shown, name
        assert f'<dd class="num">{number}</dd>' in shown, number


def test_a_gate_that_never_answered_is_named(web: WebClient) -> None:
    plan = plan_row(7, state="blocked", error="permit_timeout_or_missing:missing_both")
    shown = text_of(web.get(url(Plan, "change", plan.plan_id)))
    assert shown.count("no permit") == 2


def test_permit_bytes_that_are_no_json_are_shown_and_break_nothing(web: WebClient) -> None:
    lived_in(9)
    Permit.objects.update(raw="{" * 3000)
    assert web.get(url(Plan, "change", Plan.objects.get().plan_id)).status_code == 200


def test_the_end_of_a_plan_has_the_colour_of_its_state() -> None:
    tones = [pages._tone(f"ended: {state}") for state in ("filled", "blocked")]
    assert tones == ["good", "bad"]


def test_the_limit_lies_on_the_axis_only_where_it_fits(web: WebClient) -> None:
    fast = axis([-1.2, 0, 10.6])
    assert (fast.start_ms, fast.end_ms, fast.tick_ms) == (-1.2, 15, 5)
    slow = axis([0, 1200.4])
    assert slow.end_ms == 1500
    assert slow.x(1200) == "80.00%"
    plan = plan_row(
        5, state="blocked", stream_id="1700000000000-0", ended_at=clock.from_ms(1_700_000_001_201)
    )
    assert "1200 limit" in text_of(web.get(url(Plan, "change", plan.plan_id)))
    Plan.objects.update(ended_at=clock.from_ms(1_700_000_000_020))
    assert "beyond this axis" in text_of(web.get(url(Plan, "change", plan.plan_id)))


# ---- mode, home, health


def test_no_page_has_inline_script_or_style(web: WebClient) -> None:
    lived_in(3)
    for address in (reverse("admin:index"), url(Plan, "changelist"), url(Plan, "change", f"{3:016x}")):
        answer = web.get(address)
        shown = text_of(answer)
        assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", shown), address
        assert "unsafe-inline" not in answer["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("mode", "words"), [("paper", "PAPER"), ("testnet", "TESTNET"), ("live", "LIVE"), ("dry_run", "DRY RUN")]
)
def test_f2_every_mode_is_told_in_header_title_and_icon(web: WebClient, mode: str, words: str) -> None:
    with override_settings(APPLY_MODE=mode, ACCOUNT="desk-7"):
        shown = text_of(web.get(reverse("admin:index")))
    assert f"<title>{words} desk-7 · " in shown
    assert f'<p class="mode {mode}"><strong>{words}</strong> <span>desk-7</span></p>' in shown
    assert web.get(f"/static/quantum/favicon-{mode}.svg").status_code == 200


def test_pages_open_while_redis_and_the_cache_are_down(web: WebClient) -> None:
    nowhere = {name: {**options, "LOCATION": NOWHERE} for name, options in settings.CACHES.items()}
    with override_settings(REDIS_URL=NOWHERE, CACHES=nowhere):
        assert web.get(reverse("admin:index")).status_code == 200
        assert web.get(url(Plan, "changelist")).status_code == 200
