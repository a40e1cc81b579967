"""The ledger's page and the page of profit: the numbers, what caused them, and what they cost to ask for."""

from __future__ import annotations

import datetime as dt
import html
import re
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import caches
from django.db import connection
from django.test import Client as WebClient
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apply.models import Order
from positions.books import profit
from positions.models import Balance, Fill, Funding, Incident, LedgerEntry
from quantum import charts, clock
from quantum.redis import Client
from tests.flow.test_admin import HOSTILE, someone, text_of

NOW = clock.now().replace(hour=12, minute=0, second=0, microsecond=0)
DAY = dt.timedelta(days=1)


@pytest.fixture
def web(redis: Client, db: None) -> WebClient:
    caches["pages"].clear()
    return someone("root", superuser=True)


def fill(number: int, pnl: str = "1.5", *, days_ago: int = 0, **more: Any) -> Fill:
    said = {
        "account": settings.ACCOUNT, "symbol": "BTCUSDT", "trade_id": number, "order_id": number, "side": "SELL",
        "quantity": Decimal("0.1"), "price": Decimal(50_000), "realized_pnl": Decimal(pnl),
        "commission": Decimal("0.02"), "commission_asset": "USDT", "at": NOW - days_ago * DAY,
        "client_order_id": f"entry-{number}", **more,
    }  # fmt: skip
    return Fill.objects.create(**said)


def entry(delta: str, balance: str, *, minutes_ago: float = 0, **more: Any) -> LedgerEntry:
    said = {
        "account": settings.ACCOUNT, "symbol": "BTCUSDT", "kind": "entry", "delta": Decimal(delta),
        "balance": Decimal(balance), "actor": "p33", "at": NOW,
        "recorded_at": NOW - dt.timedelta(minutes=minutes_ago), **more,
    }  # fmt: skip
    return LedgerEntry.objects.create(**said)


def page(web: WebClient, name: str, **query: Any) -> str:
    return text_of(web.get(reverse(f"admin:{name}"), query))


def cells(shown: str, table: str) -> list[list[str]]:
    """The rows of a table as plain text."""
    body = re.search(rf'id="{table}".*?<tbody>(.*?)</tbody>', shown, flags=re.DOTALL)
    assert body is not None, shown
    return [
        [_plain(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, flags=re.DOTALL)]
        for row in body[1].split("</tr>")
        if row.strip()
    ]


def _plain(cell: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", cell)).strip()


# ---- the ledger


def test_each_entry_stands_with_the_balance_after_it_and_what_caused_it(web: WebClient) -> None:
    entry("1", "1", minutes_ago=30, kind="adopted", actor="nina", reason="my own trade in the app")
    incident = Incident.objects.create(
        account=settings.ACCOUNT, symbol="BTCUSDT", kind="quantity", cause="manual_trade", exchange_amt=Decimal(1),
        diff=Decimal(1), tolerance=Decimal(0), state="resolved", resolved_by="nina", how="adopted",
        resolved_at=NOW - dt.timedelta(minutes=30),
    )  # fmt: skip
    entry("0.5", "1.5", minutes_ago=20, fill=fill(7))
    entry("-0.1", "1.4", minutes_ago=10, kind="exit", plan_id="a" * 16, fill=fill(8))
    shown = page(web, "positions_ledger")
    found = [row[2:] for row in cells(shown, "entries-table")]
    assert found == [
        ["✓ exit", "-0.1", "1.4", f"plan {'a' * 16} trade 8 at 50000"],
        ["· entry", "+0.5", "1.5", "trade 7 at 50000 by entry-7"],
        ["· adopted", "+1", "1", f"incident {incident.pk} nina: my own trade in the app"],
    ]
    assert reverse("admin:positions_incident_change", args=[incident.pk]) in shown
    assert reverse("admin:apply_plan_change", args=["a" * 16]) in shown


def test_the_address_holds_what_is_shown(web: WebClient) -> None:
    entry("1", "1", kind="adopted")
    entry("2", "3", symbol="ETHUSDT")
    for query, found in (
        ({}, ["ETHUSDT", "BTCUSDT"]),
        ({"symbol": "btcusdt"}, ["BTCUSDT"]),
        ({"by": "people"}, ["BTCUSDT"]),
    ):
        assert [row[1] for row in cells(page(web, "positions_ledger", **query), "entries-table")] == found
    assert "No entry matches" in page(web, "positions_ledger", symbol="NOSUCH")


def test_what_was_held_at_a_moment_is_the_newest_entry_by_then(web: WebClient) -> None:
    for symbol in ("BTCUSDT", "ETHUSDT", "NEWUSDT"):
        Balance.objects.create(account="main", symbol=symbol, amount=Decimal(9), moved_ms=1, trades_from_ms=1)
    entry("1", "1", minutes_ago=30)
    entry("7", "7", minutes_ago=25, symbol="ETHUSDT")
    entry("1", "2", minutes_ago=20)
    entry("1", "3", minutes_ago=10)
    then = NOW - dt.timedelta(minutes=15)
    shown = page(web, "positions_ledger", at=f"{then:%Y-%m-%dT%H:%M:%S}")
    assert [row[:2] for row in cells(shown, "then-table")] == [["BTCUSDT", "2"], ["ETHUSDT", "7"]]
    assert [row[4] for row in cells(shown, "entries-table")] == ["2", "7", "1"], "nothing later"
    shown = page(web, "positions_ledger", at=f"{then:%Y-%m-%dT%H:%M:%S}", symbol="BTCUSDT")
    assert [row[:2] for row in cells(shown, "then-table")] == [["BTCUSDT", "2"]]
    assert "not in the ledger then" in page(web, "positions_ledger", at="2020-01-01T00:00", symbol="BTCUSDT")
    assert "This is no time" in page(web, "positions_ledger", at="yesterday")


@pytest.mark.parametrize(
    ("name", "query"),
    [("positions_ledger", {}), ("positions_ledger", {"at": "2200-01-01T00:00"}), ("apply_profit", {})],
)
def test_a_page_asks_as_much_for_two_symbols_as_for_twenty(
    web: WebClient, name: str, query: dict[str, str]
) -> None:
    counts = []
    for first, last in ((1, 3), (3, 21)):
        for number in range(first, last):
            symbol = f"S{number}USDT"
            Balance.objects.create(
                account="main", symbol=symbol, amount=Decimal(1), moved_ms=1, trades_from_ms=1
            )
            entry("1", "1", symbol=symbol, fill=fill(number, symbol=symbol), kind="correction")
        caches["pages"].clear()
        with CaptureQueriesContext(connection) as asked:
            page(web, name, **query)
        counts.append(len(asked))
    assert counts[0] == counts[1]


# ---- profit


def test_profit_is_told_by_day_by_symbol_and_exit_by_exit(web: WebClient) -> None:
    fill(1, "10.5")
    fill(2, "-4", days_ago=1)
    fill(3, "-1", days_ago=1, symbol="ETHUSDT", commission_asset="BNB")
    fill(4, "100", days_ago=7)
    fill(5, "100", account="another")
    Funding.objects.create(
        account="main", symbol="ETHUSDT", amount=Decimal("-0.3"), asset="USDT", transaction_id="1", at=NOW
    )
    Order.objects.create(
        plan_id="b" * 16, step="s", client_order_id="q-b", symbol="BTCUSDT", side="SELL", quantity=Decimal(1),
        timestamp_ms=1, consumed_at=NOW, governor_permit="{}", p33_permit="{}", realized_pnl=Decimal("-4"),
        executed_quantity=Decimal("0.1"), average_price=Decimal(50_000), commission={"USDT": "0.02"},
    )  # fmt: skip
    shown = page(web, "apply_profit")
    assert cells(shown, "symbol-table") == [
        ["BTCUSDT", "6.5", "0.04 USDT", "0", "2"],
        ["ETHUSDT", "-1 loss", "0.02 BNB", "-0.3 USDT", "1"],
    ]
    assert [row[1:] for row in cells(shown, "day-table")] == [
        ["10.5", "0.02 USDT", "-0.3 USDT", "1"],
        ["-5 loss", "0.02 BNB, 0.02 USDT", "0", "2"],
    ]
    assert [row[1:7] for row in cells(shown, "exits-table")] == [
        ["BTCUSDT", "SELL", "0.1", "50000", "-4 loss", "0.02 USDT"]
    ]
    assert '<b class="num">5.5</b>' in shown
    says = f"1 with a gain, 1 with a loss; best 10.5 on {NOW:%d %b}, worst -5 on {NOW - DAY:%d %b}"
    assert shown.count(says) == 2, "in the picture and beside it"
    assert '<b class="num">105.5</b>' in page(web, "apply_profit", days="30")
    assert '<b class="num">-1</b>' in page(web, "apply_profit", symbol="ethusdt")
    assert "Nothing was traded" in page(web, "apply_profit", symbol="NOSUCH")


def test_amounts_of_different_assets_are_never_added_up(web: WebClient) -> None:
    fill(1, "10")
    fill(2, "10", symbol="BTCUSDC")
    shown = page(web, "apply_profit")
    assert "different assets (USDC, USDT)" in shown
    assert 'class="chart"' not in shown and '<b class="num">20</b>' not in shown
    assert 'class="chart"' in page(web, "apply_profit", symbol="BTCUSDC")


def test_a_sum_is_exact_to_the_last_digit(web: WebClient) -> None:
    for number in range(3):
        fill(number, "0.100000000000000001")
    [made] = profit.of(since=NOW.date(), until=NOW.date()).values()
    assert made.realized_pnl == Decimal("0.300000000000000003")


def test_a_gain_stands_above_the_ground_and_a_loss_below_it() -> None:
    chart = charts.signed([Decimal(3), Decimal(0), Decimal(-1)], labels=["a", "", "b"], says="")
    gain, loss = chart.bars
    assert (gain.tone, loss.tone) == ("good", "bad")
    assert float(gain.y) + float(gain.height) == pytest.approx(chart.ground, abs=1)
    assert float(loss.y) == chart.ground
    assert float(gain.height) == pytest.approx(3 * float(loss.height), abs=1)
    assert charts.signed([Decimal(0)], labels=[""], says="").bars == []


# ---- bad input, and who may look


def test_what_the_exchange_says_is_text_and_nothing_else(web: WebClient) -> None:
    hostile = fill(1, symbol=HOSTILE[:40], commission_asset=HOSTILE[:12], client_order_id=HOSTILE[:40])
    entry("1", "1", symbol=HOSTILE[:40], fill=hostile, actor=HOSTILE, reason=HOSTILE)
    Funding.objects.create(
        account="main", symbol=HOSTILE, amount=Decimal(1), asset=HOSTILE, transaction_id="1", at=NOW
    )
    for name in ("positions_ledger", "apply_profit"):
        for query in (
            {},
            {"symbol": HOSTILE, "at": HOSTILE, "by": HOSTILE, "before": HOSTILE, "days": HOSTILE},
        ):
            shown = page(web, name, **query).lower()
            assert "<script>alert" not in shown and "<img src=x" not in shown
            assert "&lt;script&gt;alert(1)" in shown
            caches["pages"].clear()


def test_who_may_not_see_fills_sees_no_profit(web: WebClient) -> None:
    for has, ledger, earned in (
        (["view_ledgerentry"], 200, 403),
        (["view_fill", "view_funding", "view_order"], 403, 200),
        (["view_fill", "view_order"], 403, 403),
    ):
        person = someone("-".join(has), *has)
        assert person.get(reverse("admin:positions_ledger")).status_code == ledger
        assert person.get(reverse("admin:apply_profit")).status_code == earned
