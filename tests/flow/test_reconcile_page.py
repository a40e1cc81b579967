"""The reconciliation pages: what they show, who may act, and that nobody acts on what he did not see."""

from __future__ import annotations

import html
import re
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.core import signing
from django.test import Client as WebClient
from django.test import override_settings
from django.urls import reverse

from permits.models import Hold
from permits.state import holds
from positions.drift import incidents
from positions.models import LedgerEntry, SymbolLock
from positions.pages import marks
from quantum.models import AuditEvent
from tests.flow.test_admin import HOSTILE, NOWHERE, someone, text_of
from tests.flow.test_reconcile import WHY, balance, incident_of, look_at_once, trade_by_hand
from tests.house import House

LOOKS = ("view_incident", "view_balance")


def page(symbol: str = "BTCUSDT", **query: str) -> str:
    return reverse("admin:positions_reconcile_symbol", args=[symbol])


def overview() -> str:
    return reverse("admin:positions_reconcile")


def mark_on(web: WebClient) -> str:
    shown = text_of(web.get(page()))
    found = re.search(r'name="mark" value="([^"]+)"', shown)
    assert found is not None, shown
    return html.unescape(found[1])


def act(web: WebClient, name: str, mark: str, **said: Any) -> Any:
    sent = {"mark": mark, "reason": WHY, **said}
    return web.post(reverse("admin:positions_reconcile_act", args=["BTCUSDT", name]), sent, follow=True)


@pytest.fixture
def drifting(house: House, monkeypatch: pytest.MonkeyPatch) -> House:
    """1 in the ledger, 3 at the exchange: an incident and its hold."""
    look_at_once(monkeypatch)
    house.start("p33")
    trade_by_hand(house, "BTCUSDT", "3.000")
    incident_of()
    return house


@pytest.fixture
def web(drifting: House) -> WebClient:
    return someone("root", superuser=True)


# ---- what they show


def test_the_overview_shows_every_symbol_with_both_numbers_and_the_drift_first(web: WebClient) -> None:
    shown = text_of(web.get(overview(), {"read": "again"}))
    rows = re.findall(r"<tr><td><a href=[^>]+>([^<]+)</a>(.*?)</tr>", shown, flags=re.DOTALL)
    assert rows[0][0] == "BTCUSDT"
    assert {"BTCUSDT", "ETHUSDT", "SOLUSDT"} <= {name for name, _ in rows}
    first = rows[0][1]
    for told in ("drift", '"right">3<', '"right">1<', '"right">+2<', "manual trade", "by p33"):
        assert told in first, told
    assert "match" in rows[-1][1]
    assert "Feed" in shown and "fresh" in shown
    assert not re.search(r"<script(?![^>]*\ssrc=)|\sstyle=|\son\w+=", shown)


def test_a_symbols_page_shows_evidence_cause_hold_and_each_act_before_and_after(web: WebClient) -> None:
    incident = incident_of()
    shown = text_of(web.get(page(), {"read": "again"}))
    for told in (f"Incident {incident.pk}: probably manual trade", "web-", "BUY", "drift, incident",
                 "Adopt 3</button>", "Preview</button>", "Freeze BTCUSDT</button>",
                 f"Release hold {incident.hold_id}</button>", "PAPER main"):  # fmt: skip
        assert told in shown, told


def test_looking_changes_nothing_and_an_unknown_symbol_has_no_page(web: WebClient) -> None:
    before = AuditEvent.objects.count()
    for path in (overview(), page()):
        assert web.get(path, {"read": "again"}).status_code == 200
    assert web.get(page("NOSUCHUSDT")).status_code == 404
    for name in ("adopt", "write", "hold", "release", "ack"):
        assert web.get(reverse("admin:positions_reconcile_act", args=["BTCUSDT", name])).status_code == 405
    assert AuditEvent.objects.count() == before


def test_an_exchange_that_cannot_be_read_is_said_and_nothing_is_offered_to_adopt(
    drifting: House, web: WebClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("positions.pages.room.WITHIN_S", 0.3)
    monkeypatch.setattr("positions.pages.acts.WITHIN_S", 0.3)
    mark = mark_on(web)
    drifting.stop("p33")
    for path in (overview(), page()):
        assert "The exchange could not be read" in text_of(web.get(path, {"read": "again"}))
    shown = text_of(web.get(page(), {"read": "again"}))
    assert "Adopt 3</button>" not in shown and "Preview</button>" not in shown
    assert "Freeze BTCUSDT</button>" in shown, "a hold needs no exchange"
    assert "Nothing was changed" in text_of(act(web, "adopt", mark))
    monkeypatch.setattr(settings, "P33_STALE_THRESHOLD_SEC", Decimal("0.01"))
    shown = text_of(web.get(page()))
    assert "stale" in shown and "Adopt 3</button>" not in shown
    drifting.redis.delete(settings.KEYS.snapshot("BTCUSDT"))
    shown = text_of(web.get(page()))
    assert '<dd class="num">unknown</dd>' in shown and "Adopt" not in shown
    assert balance() == 1


def test_without_redis_the_page_shows_our_own_side(web: WebClient) -> None:
    mark = mark_on(web)
    with override_settings(REDIS_URL=NOWHERE):
        for path in (overview(), page()):
            shown = text_of(web.get(path))
            assert "Redis gave no answer" in shown and "manual trade" in shown
        assert "Redis gave no answer" in text_of(act(web, "adopt", mark))
        assert "Recorded" in text_of(act(web, "hold", mark))
    assert balance() == 1
    assert Hold.objects.filter(symbol="BTCUSDT", lifted_at=None, by="root").exists()


def test_an_order_in_flight_is_shown_with_its_age_and_nothing_can_be_adopted(web: WebClient) -> None:
    mark = mark_on(web)
    SymbolLock.objects.create(account=settings.ACCOUNT, symbol="BTCUSDT", plan_id="0" * 16)
    shown = text_of(web.get(page(), {"read": "again"}))
    assert "in flight</span>" in shown and "0" * 16 in shown
    assert "Adopt 3</button>" not in shown
    assert "an order of ours is in flight" in text_of(act(web, "adopt", mark))
    assert balance() == 1


# ---- the acts


def test_adopting_writes_one_entry_ends_the_incident_and_says_so(web: WebClient) -> None:
    incident = incident_of()
    shown = text_of(act(web, "adopt", mark_on(web)))
    assert f"the ledger says 3 now. Incident {incident.pk} ended. Hold {incident.hold_id} is lifted." in shown
    assert balance() == 3
    entry = LedgerEntry.objects.filter(symbol="BTCUSDT").latest("id")
    assert (entry.kind, entry.actor, entry.reason) == ("adopted", "root", WHY)
    assert "match" in shown


def test_a_typed_amount_is_shown_once_more_and_only_then_written(web: WebClient) -> None:
    mark = mark_on(web)
    shown = text_of(act(web, "write", mark, amount="2.5"))
    assert "Write this amount?" in shown and "They still differ then" in shown
    assert balance() == 1
    assert not LedgerEntry.objects.filter(kind="correction").exists()
    assert "Then both agree" in text_of(act(web, "write", mark, amount="3"))
    sure = dict(re.findall(r'name="(amount|reason|sure|mark)" value="([^"]*)" id="id_sure', shown))
    assert sure["sure"] == "True"
    told = text_of(act(web, "write", sure["mark"], amount=sure["amount"], sure=sure["sure"]))
    assert "the ledger says 2.5 now" in told and "ended" not in told
    assert balance() == Decimal("2.5")
    assert incidents.standing("BTCUSDT").exists()


def test_two_people_decide_at_once_and_the_second_is_told(web: WebClient) -> None:
    other = someone("omar", superuser=True)
    mine, his = mark_on(web), mark_on(other)
    act(web, "adopt", mine)
    shown = text_of(act(other, "write", his, amount="0", sure="True"))
    assert "the ledger moved meanwhile" in shown
    assert balance() == 3


def test_a_form_that_is_sent_twice_counts_once(web: WebClient) -> None:
    mark = mark_on(web)
    act(web, "adopt", mark)
    assert "the ledger moved meanwhile" in text_of(act(web, "adopt", mark))
    assert LedgerEntry.objects.filter(symbol="BTCUSDT", kind="adopted", actor="root").count() == 1
    mark = mark_on(web)
    act(web, "hold", mark)
    assert "not any more what this page showed" in text_of(act(web, "hold", mark))
    frozen = mark_on(web)
    act(web, "release", frozen)
    assert "not any more what this page showed" in text_of(act(web, "release", frozen))
    assert Hold.objects.filter(symbol="BTCUSDT", by="root").count() == 1


def test_an_exchange_that_moved_since_the_page_was_shown_is_not_adopted(
    drifting: House, web: WebClient
) -> None:
    mark = mark_on(web)
    trade_by_hand(drifting, "BTCUSDT", "4.000")
    assert "holds 4 now, 3 was shown" in text_of(act(web, "adopt", mark))
    assert balance() == 1


def test_a_hold_that_was_placed_since_is_not_lifted(drifting: House, web: WebClient) -> None:
    mark = mark_on(web)
    holds.place(drifting.redis, symbol="BTCUSDT", by="omar", reason="do not touch this one")
    assert "not any more what this page showed" in text_of(act(web, "release", mark))
    assert Hold.objects.get(symbol="BTCUSDT", lifted_at=None).by == "omar"


def test_a_mark_that_is_forged_of_another_symbol_or_old_is_refused(
    web: WebClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = mark_on(web)
    said = signing.loads(mark, salt=marks.SALT)
    other = signing.dumps({**said, "symbol": "ETHUSDT"}, salt=marks.SALT)
    live = signing.dumps({**said, "mode": "live"}, salt=marks.SALT)
    for wrong in (mark[:-1] + "x", "", signing.dumps(said, salt="elsewhere"), other, live):
        assert "Nothing was changed" in text_of(act(web, "adopt", wrong)), wrong
    monkeypatch.setattr(marks, "LIFE_S", 0)
    assert "Nothing was changed" in text_of(act(web, "adopt", mark))
    assert balance() == 1


def test_an_incident_is_taken_by_the_first_who_says_so(web: WebClient) -> None:
    incident, mark = incident_of(), mark_on(web)
    assert "taken by root; it stays open" in text_of(act(web, "ack", mark, incident=incident.pk))
    other = someone("omar", superuser=True)
    assert "taken by root already" in text_of(act(other, "ack", mark, incident=incident.pk))
    assert "Nothing was changed" in text_of(act(web, "ack", mark, incident=incident.pk + 1))
    shown = text_of(web.get(page()))
    assert "root at" in shown and f"Acknowledge incident {incident.pk}" not in shown


@pytest.mark.parametrize(
    ("has", "may"),
    [
        ([], set()),
        (["reconcile"], {"adopt", "write", "ack"}),
        (["place"], {"hold"}),
        (["lift"], {"release"}),
        (["change_incident", "change_balance", "add_ledgerentry"], set()),
    ],
)
def test_each_act_needs_its_own_permission(web: WebClient, has: list[str], may: set[str]) -> None:
    person, mark, incident = someone("olga", *LOOKS, *has), mark_on(web), incident_of()
    shown = text_of(person.get(page(), {"read": "again"}))
    buttons = {"adopt": "Adopt 3<", "write": "Preview<", "ack": "Acknowledge incident", "hold": "Freeze BTCUSDT<",
               "release": "Release hold"}  # fmt: skip
    assert {name for name, words in buttons.items() if words in shown} == may
    for name in buttons:
        said = {"amount": "1", "incident": incident.pk, "reason": "too few"}
        answer = act(person, name, mark, **said)
        assert answer.status_code == (200 if name in may else 403), name
    assert balance() == 1


def test_who_may_not_look_may_not_act(web: WebClient) -> None:
    blind, mark = someone("olga", "reconcile", "place", "lift", "view_incident"), mark_on(web)
    assert blind.get(overview()).status_code == blind.get(page()).status_code == 403
    assert act(blind, "adopt", mark).status_code == 403
    assert "Reconcile</a>" not in text_of(blind.get(reverse("admin:index")))
    assert balance() == 1


def test_an_act_is_a_post_with_a_token_a_reason_and_a_plain_amount(web: WebClient) -> None:
    mark = mark_on(web)
    for said in ({"reason": ""}, {"reason": "       x"}, {"reason": "x" * 401}):
        assert "Nothing was changed" in text_of(act(web, "adopt", mark, **said))
    for amount in ("", "1e3", "NaN", "0,5", "9" * 40, "١"):
        assert "Nothing was changed" in text_of(act(web, "write", mark, amount=amount, sure="True"))
    strict = WebClient(enforce_csrf_checks=True)
    strict.cookies = web.cookies
    assert act(strict, "adopt", mark).status_code == 403
    assert act(web, "sell", mark).status_code == 404
    assert balance() == 1


def test_in_live_the_account_is_typed(web: WebClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "APPLY_MODE", "live")
    mark = mark_on(web)
    for confirm in ("", "mian"):
        assert "Nothing was changed" in text_of(act(web, "adopt", mark, confirm=confirm))
    assert balance() == 1
    assert "the ledger says 3 now" in text_of(act(web, "adopt", mark, confirm=settings.ACCOUNT))


def test_hostile_words_stay_words(web: WebClient) -> None:
    act(web, "hold", mark_on(web), reason=HOSTILE)
    incident = incident_of()
    incident.evidence = [
        {"client_order_id": HOSTILE, "side": HOSTILE, "quantity": "1", "at": "", "trade_id": ""}
    ]
    incident.save()
    act(web, "ack", mark_on(web), reason=HOSTILE, incident=incident.pk)
    for shown in (
        text_of(web.get(page())),
        text_of(web.get(overview())),
        text_of(act(web, "write", mark_on(web), amount="5", reason=HOSTILE)),
    ):
        assert "<script>alert" not in shown and "<img src=x" not in shown
    assert "&lt;script&gt;alert(1)" in text_of(web.get(page()))
