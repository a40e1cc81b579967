"""The orders: what the list finds, what stands before a decision, and that nobody decides what he did not see."""

from __future__ import annotations

import datetime as dt
import html
import re
from decimal import Decimal
from typing import Any

import pytest
from django.core import signing
from django.db import connection
from django.test import Client as WebClient
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apply.acting import settle
from apply.models import Inquiry, Order, Plan
from apply.pages import orders_forms
from positions.books import ledger
from positions.books.ledger import SeenTrade
from positions.models import Balance, SymbolLock
from quantum import clock
from quantum.models import AuditEvent
from quantum.redis import Client
from tests import test_order_resolve
from tests.flow.test_admin import HOSTILE, NOWHERE, lived_in, someone, text_of
from tests.flow.test_home import orders, plans
from tests.orders_by_hand import answer_of, trade
from tests.test_order_resolve import WHY, asked

pytestmark = pytest.mark.usefixtures("db", "keys")
Finding = Inquiry.Finding
order = test_order_resolve.order  # its fixture: an order of unknown fate


def address(order: Order, act: str = "one") -> str:
    return reverse(f"admin:apply_orders_{act}", args=[order.plan_id])


def shown_to(web: WebClient, order: Order) -> str:
    return text_of(web.get(address(order)))


def mark_in(shown: str) -> str:
    found = re.search(r'name="mark" value="([^"]+)"', shown)
    assert found is not None, shown
    return html.unescape(found[1])


def decide(web: WebClient, order: Order, fate: str, mark: str, **said: Any) -> str:
    sent = {"fate": fate, "mark": mark, "reason": WHY, **said}
    return text_of(web.post(address(order, "decide"), sent, follow=True))


def untouched() -> bool:
    return Plan.objects.get().state == "intended" and SymbolLock.objects.exists()


@pytest.fixture
def web(redis: Client) -> WebClient:
    return someone("root", superuser=True)


# ---- the list


def many(n: int) -> None:
    for number in range(1, n + 1):
        lived_in(number)


@pytest.mark.parametrize("page", ["apply_orders", "apply_orders?state=failed", "apply_orders?symbol=BTCUSDT"])
def test_the_list_asks_as_much_for_five_as_for_thirty(web: WebClient, page: str) -> None:
    name, _, query = page.partition("?")
    counts = []
    for first, n in ((0, 5), (5, 25)):
        orders(plans(n, first=first, state="unknown", result_id="", ended_at=None), after_ms=1)
        Order.objects.update(error="rejected_market")
        with CaptureQueriesContext(connection) as asked_for:
            web.get(f"{reverse('admin:' + name)}?{query}")
        counts.append(len(asked_for))
    assert counts[0] == counts[1]


def test_the_address_holds_what_is_shown(web: WebClient) -> None:
    many(3)
    Order.objects.filter(plan_id=f"{2:016x}").update(symbol="ETHUSDT", error="rejected_market")
    for query, found in (
        ({}, {1, 2, 3}),
        ({"symbol": "ethusdt"}, {2}),
        ({"state": "failed"}, {2}),
        ({"state": "flight"}, set()),
        ({"q": "q-3"}, {3}),
        ({"q": f"{1:016x}"}, {1}),
        ({"symbol": "NOSUCH"}, set()),
        ({"before": "x"}, {1, 2, 3}),
    ):
        shown = text_of(web.get(reverse("admin:apply_orders"), query))
        assert {int(each) for each in re.findall(r">q-(\d+)</a>", shown)} == found, query
        assert ("No order matches" in shown) is (found == set())


def test_older_leaves_are_turned_by_the_last_number_and_keep_the_filter(web: WebClient) -> None:
    at = clock.now()
    Order.objects.bulk_create(
        Order(
            plan_id=f"{n:016x}", step="s", client_order_id=f"q-{n}", symbol="BTCUSDT", side="SELL",
            quantity=Decimal(1), timestamp_ms=1, consumed_at=at, governor_permit="{}", p33_permit="{}",
        )
        for n in range(120)
    )  # fmt: skip
    seen, path = [], "?symbol=BTCUSDT"
    while path:
        shown = text_of(web.get(reverse("admin:apply_orders") + path))
        seen += re.findall(r">q-(\d+)</a>", shown)
        older = re.search(r'href="([^"]+)" rel="next"', shown)
        path = html.unescape(older[1]) if older else ""
    assert seen == [str(n) for n in reversed(range(120))]


def test_an_order_in_flight_stands_on_top_with_its_age_and_the_exchanges_word(
    web: WebClient,
    order: Order,
) -> None:
    asked(order, Finding.FAILING)
    shown = text_of(web.get(reverse("admin:apply_orders")))
    for told in ("In flight", "1 min ago, late", "cannot be asked", "Evidence and decision"):
        assert told in shown, told
    looks = someone("vera", "view_order")
    assert "and decision" not in text_of(looks.get(reverse("admin:apply_orders")))


# ---- the decision


def test_the_evidence_stands_before_the_decision_and_says_what_follows(
    web: WebClient,
    order: Order,
) -> None:
    asked(order, Finding.CONTRADICTORY, status="FILLED", executed_quantity="0.25")
    ledger.store([SeenTrade(trade(quantity="0.1"), order.client_order_id)])
    shown = shown_to(web, order)
    for told in ("does not fit together", "FILLED", "as the test says", ">0.1<", ">50000<", "locked by this order",
                 "PAPER main", "It was filled</button>"):  # fmt: skip
        assert told in shown, told
    assert "never at the exchange</button>" not in shown
    assert "The exchange has shown it" in shown, "why nobody may say the other"
    assert untouched()


def test_what_can_still_be_proved_offers_no_button_and_refuses_one_that_is_made_up(
    web: WebClient,
    order: Order,
) -> None:
    asked(order, Finding.FAILING)
    mark = mark_in(shown_to(web, order))
    asked(order, Finding.FAILING, doubt_s=3)
    assert "</button>" not in shown_to(web, order).partition("apply_orders")[2]
    assert 'name="mark"' not in shown_to(web, order)
    assert "Decide after 30 s" in decide(web, order, "filled", mark)
    assert untouched()


def test_somebody_decides_with_a_reason_and_the_symbol_is_free(
    web: WebClient,
    order: Order,
) -> None:
    asked(order, Finding.FAILING)
    mark = mark_in(shown_to(web, order))
    assert "Nothing was changed" in decide(web, order, "filled", mark, reason="short")
    assert "Nothing was changed" in decide(web, order, "lost", mark)
    assert untouched()
    shown = decide(web, order, "not_at_exchange", mark)
    assert "intended → not at exchange, by root" in shown
    assert Plan.objects.get().state == "not_at_exchange"
    assert Balance.objects.get().amount == 1
    assert not SymbolLock.objects.exists()
    assert "order_resolved" in shown and WHY in html.unescape(shown)
    assert 'name="mark"' not in shown, "what has ended is nobody's to decide"


def test_a_trade_that_came_since_the_page_was_shown_stops_the_decision(
    web: WebClient,
    order: Order,
) -> None:
    asked(order, Finding.FAILING)
    mark = mark_in(shown_to(web, order))
    ledger.store([SeenTrade(trade(quantity="0.1"), order.client_order_id)])
    assert "not any more what was shown" in decide(web, order, "filled", mark)
    assert untouched()
    decide(web, order, "filled", mark_in(shown_to(web, order)))
    assert Balance.objects.get().amount == Decimal("0.9")


def test_an_answer_to_the_order_itself_that_came_since_stops_the_decision_and_is_shown(
    web: WebClient,
    order: Order,
) -> None:
    asked(order, Finding.FAILING)
    mark = mark_in(shown_to(web, order))
    settle.record_reply(order, answer_of(order))
    for fate in ("filled", "not_at_exchange"):
        assert "not any more what was shown" in decide(web, order, fate, mark)
    shown = shown_to(web, order)
    assert "answered it as order 77, FILLED" in html.unescape(shown)
    assert "never at the exchange</button>" not in shown
    assert untouched()


def test_that_the_resolver_asked_once_more_is_no_new_evidence(
    web: WebClient,
    order: Order,
) -> None:
    asked(order, Finding.FAILING)
    mark = mark_in(shown_to(web, order))
    asked(order, Finding.FAILING, asked_s_ago=0)
    assert "by root" in decide(web, order, "filled", mark)


def test_a_mark_that_is_forged_of_another_order_or_old_is_refused(
    web: WebClient,
    order: Order,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked(order, Finding.FAILING)
    mark = mark_in(shown_to(web, order))
    account, mode, plan_id, seen = signing.loads(mark, salt=orders_forms.SALT)
    for wrong in (
        mark[:-1] + "x",
        signing.dumps([account, mode, plan_id, seen], salt="elsewhere"),
        signing.dumps([account, mode, "0" * 16, seen], salt=orders_forms.SALT),
        signing.dumps([account, "live", plan_id, seen], salt=orders_forms.SALT),
        signing.dumps([account, mode, plan_id, "other"], salt=orders_forms.SALT),
    ):
        assert "Nothing was changed" in decide(web, order, "filled", wrong)
    monkeypatch.setattr(orders_forms, "LIFE_S", -1)
    assert "too old" in decide(web, order, "filled", mark)
    assert untouched()


def test_in_live_the_account_is_typed(web: WebClient, order: Order, settings: Any) -> None:
    asked(order, Finding.FAILING)
    settings.APPLY_MODE = "live"
    mark = mark_in(shown_to(web, order))
    assert "Nothing was changed" in decide(web, order, "filled", mark, confirm="mian")
    assert untouched()
    assert "by root" in decide(web, order, "filled", mark, confirm="main")


def test_who_may_not_decide_is_shown_the_evidence_and_no_form(
    web: WebClient,
    order: Order,
) -> None:
    asked(order, Finding.FAILING)
    mark = mark_in(shown_to(web, order))
    vera = someone("vera", "view_order")
    assert "Your groups do not let you decide it" in shown_to(vera, order)
    assert vera.post(address(order, "decide"), {"fate": "filled", "mark": mark}).status_code == 403
    blind = someone("olga", "resolve_order")
    assert blind.get(address(order)).status_code == 403
    assert blind.post(address(order, "decide"), {"fate": "filled", "mark": mark}).status_code == 403
    assert AuditEvent.objects.filter(kind="act_refused").count() == 2
    assert untouched()


def test_without_redis_the_evidence_of_the_database_is_shown(
    web: WebClient,
    order: Order,
    settings: Any,
) -> None:
    asked(order, Finding.FAILING)
    settings.REDIS_URL = NOWHERE
    assert "Redis does not answer" in shown_to(web, order)


def test_what_the_exchange_says_is_text_and_nothing_else(web: WebClient, order: Order) -> None:
    asked(order, Finding.CONTRADICTORY, status=HOSTILE, executed_quantity=HOSTILE)
    Inquiry.objects.update(text=HOSTILE, cancel_text=HOSTILE)
    Order.objects.update(error_text=HOSTILE, status=HOSTILE[:20], error=HOSTILE)
    AuditEvent.objects.create(kind="tested", plan_id=order.plan_id, actor=HOSTILE, reason=HOSTILE)
    fill = SeenTrade(trade(quantity="0.1"), order.client_order_id)
    ledger.store([fill])
    listed = reverse("admin:apply_orders")
    for shown in (
        shown_to(web, order),
        text_of(web.get(listed)),
        text_of(web.get(listed, {"q": HOSTILE, "symbol": HOSTILE, "state": HOSTILE, "before": HOSTILE})),
    ):
        assert "<script>alert" not in shown and "<img src=x" not in shown
    assert "&lt;script&gt;alert(1)" in shown_to(web, order)


def test_an_order_that_nobody_made_has_no_page(web: WebClient) -> None:
    for plan_id in ("0" * 16, "x", HOSTILE.replace("/", "")):
        assert web.get(reverse("admin:apply_orders_one", args=[plan_id])).status_code == 404


def test_an_order_of_last_week_is_read_without_a_decision(web: WebClient) -> None:
    lived_in(1)
    Order.objects.update(intended_at=clock.now() - dt.timedelta(days=7))
    shown = shown_to(web, Order.objects.get())
    assert "7 d ago" in shown and 'name="mark"' not in shown and "secret-of-the-attempt" not in shown
