"""The living parts of the reconciliation pages: two questions kept apart, and a page that says when it is overtaken."""

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
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from permits.models import Hold, Permit
from positions.books import agreed
from positions.models import Balance, CorrectionRequest, Incident, LedgerEntry
from quantum import clock
from quantum.models import AuditEvent
from quantum.redis import Client
from tests.flow.test_admin import HOSTILE, NOWHERE, someone, text_of

NOW = clock.now()


@pytest.fixture
def web(redis: Client, db: None) -> WebClient:
    caches["pages"].clear()
    return someone("root", superuser=True)


def balance(symbol: str = "BTCUSDT", amount: str = "1", **more: Any) -> Balance:
    said = {"moved_ms": 1, "trades_from_ms": 1, **more}
    return Balance.objects.create(account=settings.ACCOUNT, symbol=symbol, amount=Decimal(amount), **said)


def snapshot(redis: Client, amount: str, *, symbol: str = "BTCUSDT", age_s: float = 0) -> None:
    """As p33 leaves it."""
    at = f"{clock.now_ms() / 1000 - age_s:.3f}"
    fields = {
        "position_amt": amount,
        "ts_epoch": at,
        "seen_epoch": at,
        "lot_step": "0.001",
        "mark_price": "9",
    }
    redis.hset(settings.KEYS.snapshot(symbol), mapping=fields)


def entry(symbol: str, kind: str, *, minutes_ago: float, plan_id: str = "") -> LedgerEntry:
    at = NOW - dt.timedelta(minutes=minutes_ago)
    return LedgerEntry.objects.create(
        account=settings.ACCOUNT, symbol=symbol, kind=kind, delta=Decimal(1), balance=Decimal(1),
        plan_id=plan_id, actor="tests", at=at, recorded_at=at,
    )  # fmt: skip


def granted(plan_id: str, symbol: str, *, minutes_ago: float, issuer: str = "p33@main") -> None:
    at = NOW - dt.timedelta(minutes=minutes_ago)
    Permit.objects.create(
        plan_id=plan_id, gate="p33", verdict=True, reason="r", symbol=symbol, digest="d", mode="paper",
        account="main", issuer=issuer, raw="{}", issued_at=at, expires_at=at,
    )  # fmt: skip


def incident(symbol: str, **more: Any) -> Incident:
    said = {
        "account": settings.ACCOUNT, "symbol": symbol, "kind": "quantity", "cause": "manual_trade",
        "exchange_amt": Decimal(3), "ledger_amt": Decimal(1), "diff": Decimal(2), "tolerance": Decimal("0.001"),
        **more,
    }  # fmt: skip
    return Incident.objects.create(**said)


def overview(web: WebClient) -> str:
    return text_of(web.get(reverse("admin:positions_reconcile_part")))


def row_of(shown: str, symbol: str) -> str:
    found = re.search(rf"<tr><td><a href=[^>]+>{symbol}</a>.*?</tr>", shown, flags=re.DOTALL)
    assert found is not None, shown
    return found[0]


# ---- agreement and feed


@pytest.mark.parametrize(
    ("amount", "age_s", "agreement", "feed"),
    [
        ("1", 0, "good\"><span aria-hidden=\"true\">✓</span> match", "fresh"),
        ("3", 0, "bad\"><span aria-hidden=\"true\">✕</span> drift", "fresh"),
        ("1", 7, "calm\"><span aria-hidden=\"true\">·</span> match", "!</span> ageing, 7"),
        ("1", 60, "warn\"><span aria-hidden=\"true\">!</span> stale", "stale, 60"),
        (None, 0, "warn\"><span aria-hidden=\"true\">!</span> unknown", "no read"),
    ],
)  # fmt: skip
def test_whether_both_agree_and_how_the_feed_is_are_told_apart(
    web: WebClient, redis: Client, amount: str | None, age_s: float, agreement: str, feed: str
) -> None:
    balance()
    if amount:
        snapshot(redis, amount, age_s=age_s)
    for shown in (
        row_of(overview(web), "BTCUSDT"),
        text_of(web.get(reverse("admin:positions_reconcile_symbol_part", args=["BTCUSDT"]))),
    ):
        assert agreement in shown and feed in shown
        assert ("chip good" in shown) is (feed == "fresh"), "what is old is never green"
        assert ('circle class="old"' in shown) is (amount == "1" and feed != "fresh"), "nor its dot"


def test_a_difference_is_shown_with_what_is_tolerated_and_who_looks_at_it(
    web: WebClient, redis: Client
) -> None:
    balance()
    snapshot(redis, "3")
    found = incident("BTCUSDT", acked_by="nina", acked_at=NOW)
    row = row_of(overview(web), "BTCUSDT")
    for told in ("+2", "+2 of 0.0", f"{found.pk} manual trade", "(nina looks)"):
        assert told in row, told


def test_without_redis_our_own_side_is_shown(web: WebClient) -> None:
    balance(amount="7")
    with override_settings(REDIS_URL=NOWHERE):
        shown = overview(web)
    assert "Redis gave no answer" in shown and ">7<" in row_of(shown, "BTCUSDT")


def test_a_request_that_waits_for_a_second_person_stands_above_all(web: WebClient) -> None:
    CorrectionRequest.objects.create(
        account="main", mode="paper", typed=False, asked_by="nina", reason="my own trade in the app",
        lines=[{"symbol": "BTCUSDT", "before": "1", "after": "3", "exchange": "3", "notional": "18", "version": 1}],
        expires_at=clock.now() + dt.timedelta(minutes=30, seconds=1),
    )  # fmt: skip
    shown = overview(web)
    for told in (
        "Waiting for a second person",
        "nina",
        "ends in 30 min",
        '<b class="num">3</b>',
        "worth 18 USD",
    ):
        assert told in shown, told


# ---- last agreed


def test_the_newest_proof_of_each_symbol_counts(db: None) -> None:
    for symbol in ("AUSDT", "BUSDT", "CUSDT", "DUSDT"):
        balance(symbol, exit_ms=1)
    for symbol in ("AUSDT", "BUSDT", "CUSDT"):
        entry(symbol, "adopted", minutes_ago=60)
    incident("BUSDT", state="resolved", resolved_at=NOW - dt.timedelta(minutes=30))
    entry("CUSDT", "exit", minutes_ago=20, plan_id="1" * 16)
    granted("1" * 16, "CUSDT", minutes_ago=20.5)
    entry("CUSDT", "exit", minutes_ago=10, plan_id="2" * 16)
    granted("2" * 16, "CUSDT", minutes_ago=10.5, issuer="operator:nina@main")
    found = agreed.last(["AUSDT", "BUSDT", "CUSDT", "DUSDT"])
    ago = {symbol: (NOW - at).total_seconds() / 60 for symbol, at in found.items()}
    assert ago == {"AUSDT": 60, "BUSDT": 30, "CUSDT": 20.5}


def test_the_overview_asks_as_much_for_two_symbols_as_for_twenty(web: WebClient, redis: Client) -> None:
    counts = []
    for first, last in ((0, 2), (2, 20)):
        for number in range(first, last):
            symbol, plan_id = f"S{number}USDT", f"{number:016x}"
            balance(symbol, exit_ms=1)
            snapshot(redis, "3", symbol=symbol)
            incident(symbol)
            entry(symbol, "exit", minutes_ago=1, plan_id=plan_id)
            granted(plan_id, symbol, minutes_ago=1)
        caches["pages"].clear()
        with CaptureQueriesContext(connection) as asked:
            text_of(web.get(reverse("admin:positions_reconcile")))
        counts.append(len(asked))
    assert counts[0] == counts[1]


# ---- a page that was overtaken


def part_of(web: WebClient, shown: str) -> str:
    """What the page fetches by itself."""
    address = re.search(r'data-live="([^"]+)"', shown)
    assert address is not None
    return text_of(web.get(html.unescape(address[1])))


def test_a_page_says_that_what_it_offers_is_not_so_any_more(web: WebClient, redis: Client) -> None:
    mine = balance()
    snapshot(redis, "3")
    shown = text_of(web.get(reverse("admin:positions_reconcile_symbol", args=["BTCUSDT"])))
    assert "Adopt 3</button>" in shown
    overtaken = "is not so any more"
    assert overtaken not in shown and overtaken not in part_of(web, shown)
    snapshot(redis, "4")
    caches["pages"].clear()
    assert overtaken in part_of(web, shown)
    snapshot(redis, "3")
    Balance.objects.filter(pk=mine.pk).update(version=2)
    caches["pages"].clear()
    assert overtaken in part_of(web, shown), "the same amount, of another version"


def test_whoever_looks_at_another_page_is_not_told_of_mine(web: WebClient, redis: Client) -> None:
    """A part is shared by those who see the same, and by nobody else."""
    balance()
    snapshot(redis, "3")
    address = reverse("admin:positions_reconcile_symbol_part", args=["BTCUSDT"])
    assert "is not so any more" in text_of(web.get(address, {"exchange": "9", "version": "1"}))
    assert "is not so any more" not in text_of(web.get(address, {"exchange": "3", "version": "1"}))


def test_a_symbol_that_is_none_has_no_part(web: WebClient) -> None:
    address = reverse("admin:positions_reconcile_symbol_part", args=["NOSUCHUSDT"])
    assert web.get(address).status_code == 404
    blind = someone("olga", "view_incident")
    for name, about in (("positions_reconcile_part", []), ("positions_reconcile_symbol_part", ["BTCUSDT"])):
        assert blind.get(reverse(f"admin:{name}", args=about)).status_code == 403


# ---- what was done


def test_what_was_done_is_of_people_and_books_and_not_of_plans(web: WebClient) -> None:
    for kind, plan_id in (("incident_acked", ""), ("ledger_moved", "a" * 16), ("hold_placed", "")):
        AuditEvent.objects.create(
            kind=kind, plan_id=plan_id, symbol="BTCUSDT", actor="nina", reason="why " + kind
        )
    shown = text_of(web.get(reverse("admin:positions_reconcile_symbol", args=["BTCUSDT"])))
    assert "why incident_acked" in shown and "why hold_placed" in shown
    assert "why ledger_moved" not in shown


def test_hostile_words_stay_words(web: WebClient, redis: Client) -> None:
    balance()
    snapshot(redis, HOSTILE)
    incident("BTCUSDT", acked_by=HOSTILE, acked_at=NOW)
    incident(
        "BTCUSDT", state="resolved", resolved_at=NOW, resolved_by=HOSTILE[:80], reason=HOSTILE, how="adopted"
    )
    Hold.objects.create(symbol="BTCUSDT", by=HOSTILE, reason=HOSTILE)
    address = reverse("admin:positions_reconcile_symbol_part", args=["BTCUSDT"])
    for shown in (
        overview(web),
        text_of(web.get(reverse("admin:positions_reconcile"))),
        text_of(web.get(address, {"exchange": HOSTILE, "version": HOSTILE})),
    ):
        assert "<script>alert" not in shown and "<img src=x" not in shown
        assert "&lt;script&gt;alert(1)" in shown
