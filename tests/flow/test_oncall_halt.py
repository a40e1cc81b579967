"""On call: halting, with and without an end."""

from __future__ import annotations

import datetime as dt
import html

import pytest
from django.conf import settings
from django.test import Client as WebClient
from django.test import override_settings

from permits.models import TradingState
from permits.state import trading
from quantum import clock
from quantum.models import AuditEvent
from quantum.redis import Client
from tests.flow.test_admin import NOWHERE, text_of
from tests.flow.test_oncall import WHY, mark_on, page, press, preview
from tests.flow.test_oncall import web as web  # the fixture


@pytest.mark.parametrize(("scope", "words"), [("automatic", "automatic plans"), ("everything", "everything")])
def test_a_halt_is_previewed_then_done_with_who_and_why(web: WebClient, scope: str, words: str) -> None:
    shown = html.unescape(text_of(web.get(preview("halt", scope))))
    for told in (
        "On PAPER main",
        "ACTIVE by omar: all is well",
        f"HALTED for {words}",
        f"Halt {words}</button>",
    ):
        assert told in shown, told
    assert trading.current().active, "looking changes nothing"
    assert f"HALTED for {words} by nina: {WHY}: v2." in press(web, "halt", scope)
    row = trading.newest()
    assert row is not None
    assert (row.scope, row.by, row.reason, row.cause) == (scope, "nina", WHY, "person")


def test_a_halt_reaches_redis_at_once(web: WebClient, redis: Client) -> None:
    press(web, "halt", "everything")
    assert trading.is_halted(redis.get(settings.KEYS.trading_state))


def test_a_halt_of_automatic_plans_can_be_widened_and_not_narrowed(web: WebClient) -> None:
    press(web, "halt", "automatic")
    press(web, "halt", "everything")
    answer = web.get(preview("halt", "automatic"), follow=True)
    assert "halted for everything already, by nina" in text_of(answer)
    row = trading.newest()
    assert row is not None
    assert row.scope == "everything"


def test_a_halt_that_has_an_end_can_be_made_one_without(web: WebClient) -> None:
    end = clock.now() + dt.timedelta(hours=1)
    trading.halt(cause="person", by="omar", reason="lunch", scope=TradingState.Scope.EVERYTHING, until=end)
    assert preview("halt", "everything") in text_of(web.get(page()))
    assert "without an end" in text_of(web.get(preview("halt", "automatic")))
    assert "HALTED for everything by nina" in press(web, "halt", "automatic")
    row = trading.newest()
    assert row is not None
    assert row.until is None


def test_a_halt_may_be_given_an_end_counted_from_the_press(web: WebClient) -> None:
    shown = text_of(web.get(preview("halt", "everything")))
    assert "without an end unless you choose one" in shown
    assert "becomes ACTIVE by itself then" in shown
    assert ", until " not in press(web, "halt", "everything", ends="90"), "no end of the list"
    assert trading.current().active
    before = clock.now()
    assert " until " in press(web, "halt", "everything", ends="3600")
    row = trading.newest()
    assert row is not None and row.until is not None
    assert 3600 <= (row.until - before).total_seconds() < 3660


def test_an_end_takes_none_away_from_what_halted_without_one(web: WebClient) -> None:
    trading.halt(cause="person", by="omar", reason="looks odd")
    assert "id_halt_ends" not in text_of(web.get(preview("halt", "everything"))), "no end is to be had"
    press(web, "halt", "everything", ends="900")
    row = trading.newest()
    assert row is not None
    assert (row.scope, row.until) == ("everything", None)


def test_a_shorter_end_does_not_shorten_what_stands(web: WebClient) -> None:
    press(web, "halt", "everything", ends="14400")
    assert "as widely and as long" in press(web, "halt", "everything", ends="900")
    row = trading.newest()
    assert row is not None and row.until is not None
    assert row.version == 2
    assert AuditEvent.objects.filter(kind="halt_repeated").count() == 1


def test_a_halt_that_redis_did_not_hear_of_is_recorded_and_says_so(web: WebClient) -> None:
    mark = mark_on(web, "halt", "everything")
    with override_settings(REDIS_URL=NOWHERE):
        assert "Redis gave no answer" in press(web, "halt", "everything", mark=mark)
    assert not trading.current().active
