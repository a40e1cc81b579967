"""The break-glass page: who may, what it shows, and that nobody acts on what he did not see."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.conf import settings
from django.core import signing
from django.test import Client as WebClient
from django.test import override_settings
from django.urls import reverse

from apply.models import BreakGlass
from apply.pages import glass_forms
from permits.models import Permit, TradingState
from permits.state import holds
from tests.flow.test_admin import HOSTILE, NOWHERE, someone, text_of
from tests.flow.test_halts_and_holds import halt, hold, leave_to_operators, told
from tests.flow.test_reconcile import run
from tests.glass_by_hand import YES, ended, look, made, mark_on, press, sent, url
from tests.house import House


@pytest.fixture
def halted(house: House) -> House:
    leave_to_operators()
    house.start()
    halt(TradingState.Scope.AUTOMATIC)
    told(house)
    return house


@pytest.fixture
def web(halted: House) -> WebClient:
    return someone("nina", "break_glass", "view_plan")


def nothing_signed() -> bool:
    return not made() and not Permit.objects.filter(issuer__startswith="operator:").exists()


def test_the_page_shows_what_the_command_shows_and_closes_once(halted: House, web: WebClient) -> None:
    shown = look(web)
    _, _, talk = run("break_glass", "BTCUSDT", gate="governor", action="PARTIAL_50", dry_run=True)
    words = [line for line in talk.splitlines() if not re.search("Exchange|Nothing was signed", line)]
    for line in words:
        label, _, text = line.partition(", worth")[0].partition(": ")  # the mark price moves
        assert f"<dt>{label}</dt>" in shown and text.replace("->", "-&gt;") in shown, line
    assert nothing_signed(), "looking signs nothing"
    mark = mark_on(shown)
    assert "type the symbol: BTCUSDT" in text_of(press(web, mark, confirm="BTCUSD"))
    assert "at least 8 characters" in text_of(press(web, mark, reason="short"))
    assert nothing_signed()
    answer = text_of(press(web, mark))
    [plan] = made()
    assert f"Plan {plan.plan_id} of BTCUSDT: filled." in answer and "break-glass" in answer
    again = text_of(press(web, mark))
    assert "decided already; no second order" in again and plan.plan_id in again
    assert (len(made()), sent(halted), ended(plan.plan_id).state) == (1, 1, "filled")
    assert "is decided already" in look(web), "a new look right after it"


def test_only_who_may_break_it_and_only_by_a_post_with_a_token(halted: House, web: WebClient) -> None:
    mark = mark_on(look(web))
    olga = someone("olga", "view_plan", "view_breakglass", "issue_permit", "reconcile", "halt")
    for answer in (
        olga.get(url()),
        press(olga, mark),
        olga.post(url("approve", 1)),
        olga.post(url("refuse", 1)),
    ):
        assert answer.status_code == 403
    assert "Break glass" not in text_of(olga.get(reverse("admin:index")))
    assert "Break glass" in text_of(web.get(reverse("admin:index")))
    for path in (url("act"), url("approve", 1), url("refuse", 1)):
        assert web.get(path).status_code == 405
    strict = WebClient(enforce_csrf_checks=True)
    strict.cookies = web.cookies
    assert press(strict, mark).status_code == 403
    assert WebClient().get(url()).status_code == 302
    assert nothing_signed() and not BreakGlass.objects.exists()


def test_a_page_on_which_something_changed_or_that_is_none_of_ours_signs_nothing(
    halted: House, web: WebClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = mark_on(look(web))
    placed = hold(halted)
    assert f"hold {placed.pk}, before no hold" in text_of(press(web, mark))
    mark = mark_on(look(web, gate="p33"))
    holds.lift(halted.redis, symbol="BTCUSDT", by="omar", reason="all is well")
    assert "no hold, before hold" in text_of(press(web, mark))
    mark = mark_on(look(web))
    for bent in (mark[:-2], "x", signing.dumps({"symbol": "BTCUSDT"}, salt=glass_forms.SALT)):
        assert "too old, or not of this account" in text_of(press(web, bent))
    monkeypatch.setattr(glass_forms, "LIFE_S", -1)
    assert "too old" in text_of(press(web, mark))
    monkeypatch.undo()
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(settings, "ACCOUNT", "other")
        assert "not of this account" in text_of(press(web, mark))
    with override_settings(REDIS_URL=NOWHERE):
        assert "Redis gave no answer" in text_of(press(web, mark))
        assert "Redis gave no answer" in look(web)
    assert nothing_signed()


def test_another_login_says_yes_and_who_asked_is_told_to_wait(halted: House, web: WebClient) -> None:
    omar = someone("omar", "break_glass")
    assert "another person than nina" in text_of(press(web, mark_on(look(web, gate="both")), reason=HOSTILE))
    [request] = BreakGlass.objects.all()
    mine, his = text_of(web.get(url())), text_of(omar.get(url()))
    assert "You asked for it" in mine and "Approve request" not in mine and "Take it back" in mine
    assert f"Approve request {request.pk}" in his and "<script>alert" not in his

    def say(who: WebClient, what: str, **said: Any) -> str:
        return text_of(who.post(url(what, request.pk), {"reason": YES, **said}, follow=True))

    assert "another person has to say yes" in say(web, "approve")
    assert "at least 8 characters" in say(omar, "approve", reason="yes")
    assert nothing_signed()
    assert "filled." in say(omar, "approve")
    [plan] = made()
    assert Permit.objects.filter(plan_id=plan.plan_id, issuer__startswith="operator:nina@").count() == 2
    assert "is acted" in say(omar, "approve") and "is acted" in say(web, "refuse")


def test_a_full_halt_and_nonsense_in_the_address_are_told_and_offer_nothing(
    halted: House, web: WebClient
) -> None:
    halt()
    shown = look(web)
    assert "halted in full" in shown and 'name="mark"' not in shown
    for nonsense in ({"action": "HOLD"}, {"gate": "none"}, {"symbol": HOSTILE}):
        shown = look(web, **nonsense)
        assert "Nothing is shown" in shown and "<script>alert" not in shown
    assert nothing_signed()
