"""Several symbols adopted at once: the chosen among the shown, all of them or none, with the account typed."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from django.conf import settings
from django.core import signing
from django.test import Client as WebClient
from django.urls import reverse

from positions.drift import incidents
from positions.models import LedgerEntry
from positions.pages import acts, marks
from positions.pages.acts import Answer
from positions.pages.several import MOST
from positions.reconcile.reconcile import Seen
from quantum.redis import Client
from tests.flow.test_admin import someone, text_of
from tests.flow.test_reconcile import WHY, balance, incident_of, look_at_once, trade_by_hand
from tests.flow.test_reconcile_live import balance as entered
from tests.flow.test_reconcile_live import snapshot
from tests.house import House


def several(web: WebClient) -> str:
    return text_of(web.get(reverse("admin:positions_reconcile_several")))


def mark_in(shown: str) -> str:
    found = re.search(r'name="mark" value="([^"]+)"', shown)
    assert found is not None, shown
    return html.unescape(found[1])


def adopt(web: WebClient, mark: str, *symbols: str, **said: Any) -> str:
    sent = {"mark": mark, "symbol": symbols, "reason": WHY, "confirm": settings.ACCOUNT, **said}
    return text_of(web.post(reverse("admin:positions_reconcile_adopt_several"), sent, follow=True))


def test_the_chosen_are_adopted_together_or_none_of_them(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_at_once(monkeypatch)
    house.start("p33")
    for symbol, amount in (("BTCUSDT", "3.000"), ("ETHUSDT", "-9.000"), ("SOLUSDT", "130.00")):
        trade_by_hand(house, symbol, amount)
        incident_of(symbol)
    web = someone("root", superuser=True)
    shown = several(web)
    assert "3 differ" in shown and "120 <span" in shown and "<b>130</b>" in shown
    mark = mark_in(shown)
    trade_by_hand(house, "ETHUSDT", "-10.000")
    assert "holds -10 now, -9 was shown" in adopt(web, mark, "BTCUSDT", "ETHUSDT")
    assert balance("BTCUSDT") == 1, "not one of them"
    told = adopt(web, mark, "BTCUSDT", "SOLUSDT")
    assert "BTCUSDT: the ledger says 3 now" in told and "SOLUSDT: the ledger says 130 now" in told
    assert {each.symbol for each in incidents.standing()} == {"ETHUSDT"}
    assert LedgerEntry.objects.filter(actor="root", reason=WHY).count() == 2


@pytest.fixture
def web(redis: Client, db: None) -> WebClient:
    """Two symbols that differ, one that agrees, one whose feed is old."""
    for symbol, held in (("AUSDT", "3"), ("BUSDT", "4"), ("CUSDT", "1")):
        entered(symbol)
        snapshot(redis, held, symbol=symbol)
    entered("DUSDT")
    snapshot(redis, "9", symbol="DUSDT", age_s=60)
    return someone("root", superuser=True)


def test_only_what_differs_and_can_be_compared_is_offered_and_nothing_is_chosen_yet(web: WebClient) -> None:
    shown = several(web)
    assert re.findall(r'name="symbol" value="(\w+)"', shown) == ["AUSDT", "BUSDT"]
    assert "checked" not in shown


def test_what_was_not_shown_is_not_adopted_and_the_account_is_typed(
    web: WebClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def adopt_all(seen: list[Seen], **_: str) -> Answer:
        asked.append([each.symbol for each in seen])
        return Answer(True, "Done, says the test")

    monkeypatch.setattr(acts, "adopt_all", adopt_all)
    mark = mark_in(several(web))
    said = signing.loads(mark, salt=marks.SALT)
    for symbols, wrong in (
        (["CUSDT"], {}),
        (["AUSDT", "DUSDT"], {}),
        ([], {}),
        (["AUSDT"], {"confirm": "mian"}),
        (["AUSDT"], {"confirm": ""}),
        (["AUSDT"], {"reason": "short"}),
        (["AUSDT"], {"mark": mark[:-1] + "x"}),
        (["AUSDT"], {"mark": signing.dumps({**said, "mode": "live"}, salt=marks.SALT)}),
    ):
        told = adopt(web, wrong.pop("mark", mark), *symbols, **wrong)
        assert "Nothing was changed" in told, (symbols, wrong)
    assert asked == []
    told = adopt(web, mark, "AUSDT")
    assert "Done, says the test" in told
    assert asked == [["AUSDT"]]


def test_f9_more_than_anybody_looks_at_are_not_adopted_at_once(
    web: WebClient, redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def adopt_all(seen: list[Seen], **_: str) -> Answer:
        asked.append(len(seen))
        return Answer(True, "Done, says the test")

    monkeypatch.setattr(acts, "adopt_all", adopt_all)
    names = [f"M{number:02}USDT" for number in range(MOST + 1)]
    for name in names:
        entered(name)
        snapshot(redis, "3", symbol=name)
    shown = several(web)
    assert f"of {len(names) + 2}</button>" in shown and f"At most {MOST} at once" in shown
    told = adopt(web, mark_in(shown), *names)
    assert f"Nothing was changed: {MOST + 1} symbols were chosen, and at most {MOST}" in told
    assert asked == []
    adopt(web, mark_in(shown), *names[1:])
    assert asked == [MOST]


def test_who_may_not_reconcile_sees_no_such_page(web: WebClient) -> None:
    vera = someone("vera", "view_incident", "view_balance")
    assert vera.get(reverse("admin:positions_reconcile_several")).status_code == 403
    assert vera.post(reverse("admin:positions_reconcile_adopt_several"), {}).status_code == 403
    assert "at once" not in text_of(vera.get(reverse("admin:positions_reconcile")))
