"""The list of plans: what is asked for stands in the address, and a leaf costs the same however many there are."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client as WebClient
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apply.models import Plan
from apply.plans import finding
from quantum import clock, lists
from quantum.redis import Client
from tests.flow.test_admin import HOSTILE, plan_row, someone, text_of
from tests.flow.test_home import plans

LIST = reverse("admin:apply_plan_changelist")


@pytest.fixture
def web(redis: Client, transactional_db: None) -> WebClient:
    return someone("root", superuser=True)


def ids_in(shown: str) -> list[str]:
    return re.findall(r'<a class="id" href="[^"]+">([0-9a-f]{16})</a>', shown)


def listed(web: WebClient, **asked: Any) -> list[str]:
    return ids_in(text_of(web.get(LIST, asked)))


def link(shown: str, words: str) -> str:
    found = re.search(rf'<a href="(\?[^"]*)"[^>]*>{words}</a>', shown)
    return found[1].replace("&amp;", "&") if found else ""


# ---- what is asked for


def test_each_filter_finds_its_plans_and_they_can_be_asked_together(web: WebClient) -> None:
    [filled] = plans(1, first=1)
    [denied] = plans(
        1, first=2, state="blocked", error="permit_denied:governor_denied", gate_reason="halted", source="bot"
    )
    [waited] = plans(1, first=3, state="blocked", error="permit_timeout_or_missing:missing_p33")
    [held] = plans(1, first=4, state="blocked", error="hold")
    Plan.objects.filter(plan_id=held).update(symbol="ETHUSDT")
    for asked, meant in (
        ({}, [held, waited, denied, filled]),
        ({"state": "filled"}, [filled]),
        ({"symbol": "ethusdt"}, [held]),
        ({"reason": "halted"}, [denied]),
        ({"reason": "missing_p33"}, [waited]),
        ({"reason": "hold"}, [held]),
        ({"source": "bot"}, [denied]),
        ({"state": "blocked", "symbol": "BTCUSDT", "reason": "missing_p33"}, [waited]),
        ({"state": "filled", "reason": "hold"}, []),
        ({"q": "ETHUSDT"}, [held]),
    ):
        assert listed(web, **asked) == meant, asked


def test_the_reason_of_a_row_leads_to_all_with_that_reason(web: WebClient) -> None:
    [denied] = plans(1, first=2, state="blocked", error="permit_denied:p33_denied", gate_reason="no_position")
    shown = text_of(web.get(LIST, {"symbol": "BTCUSDT"}))
    assert 'href="?symbol=BTCUSDT&amp;reason=no_position">no_position</a>' in shown
    assert listed(web, symbol="BTCUSDT", reason="no_position") == [denied]


def test_any_part_of_an_id_finds_it_and_an_id_alone_opens_its_page(web: WebClient) -> None:
    plans(3)
    [wanted] = plans(1, first=0xABCDEF0123456789)
    page = reverse("admin:apply_plan_change", args=[wanted])
    for part in (wanted, wanted[:6], wanted[-6:], wanted[5:11].upper()):
        answer = web.get(LIST, {"q": part})
        assert answer.headers.get("Location") == page, part
    assert len(listed(web, q="00000")) == 3
    assert listed(web, q=wanted[5:11], state="filled") == [wanted]
    assert listed(web, q=wanted[5:11], state="blocked") == []
    assert "No row matches" in text_of(web.get(LIST, {"q": "ffffffff"}))


def test_what_makes_no_sense_is_told_and_finds_nothing(web: WebClient) -> None:
    plans(2)
    for asked, told in (
        ({"q": "abc"}, "At least 4 characters of an id"),
        ({"state": "bogus"}, "bogus is not one of the available choices"),
        ({"until": "yesterday"}, "Until (UTC): Enter a valid date"),
        ({"before": "-1"}, "greater than or equal to 1"),
        ({"span": "aeon"}, "aeon is not one of"),
    ):
        shown = text_of(web.get(LIST, asked))
        assert told in shown, asked
        assert "Nothing is shown" in shown
        assert ids_in(shown) == []


def test_a_span_ends_now_or_where_it_is_told_to_end(web: WebClient) -> None:
    [old] = plans(1, first=1, minutes_ago=60 * 24 * 2)
    [noon] = plans(1, first=2, minutes_ago=600)
    [young] = plans(1, first=3, minutes_ago=5)
    assert listed(web, span="1h") == [young]
    assert listed(web, span="24h") == [young, noon]
    then = clock.now() - dt.timedelta(minutes=599)
    until = f"{then:%Y-%m-%dT%H:%M:%S}"
    assert listed(web, until=until) == [noon, old]
    assert listed(web, until=until, span="1h") == [noon]


def test_times_are_shown_with_milliseconds_zone_and_age(web: WebClient) -> None:
    plans(1)
    shown = text_of(web.get(LIST))
    assert re.search(r"<b>\d\d:\d\d:\d\d\.\d{3}</b> UTC</time> <span class=\"quiet age\">5 min ago", shown)


# ---- leaves


def test_leaves_go_back_and_forth_and_miss_no_plan(web: WebClient) -> None:
    every = plans(120)[::-1]
    first = text_of(web.get(LIST))
    assert not link(first, "Newer") and "Looked back" not in first
    second = text_of(web.get(LIST + link(first, "Older")))
    third = text_of(web.get(LIST + link(second, "Older")))
    assert ids_in(first) + ids_in(second) + ids_in(third) == every
    assert not link(third, "Older")
    back = text_of(web.get(LIST + link(third, "Newer")))
    assert ids_in(back) == ids_in(second)
    plans(1, first=500)  # meanwhile one more came
    assert ids_in(text_of(web.get(LIST + link(first, "Older")))) == ids_in(second)
    assert ids_in(text_of(web.get(LIST + link(back, "Newer"))))[-1] == every[49]


def test_a_filter_stays_from_leaf_to_leaf(web: WebClient) -> None:
    plans(60, state="blocked", error="hold")
    plans(60, first=100)
    shown = text_of(web.get(LIST, {"reason": "hold"}))
    assert link(shown, "Older").startswith("?reason=hold&before=")
    assert len(ids_in(text_of(web.get(LIST + link(shown, "Older"))))) == 10


def test_a_leaf_says_how_far_it_looked_and_goes_on_from_there(
    web: WebClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "LOOKED_THROUGH", 40)
    [wanted] = plans(1, first=900, state="rejected", minutes_ago=30)
    plans(60)
    shown = text_of(web.get(LIST, {"state": "rejected"}))
    assert ids_in(shown) == [] and "Looked back to" in shown
    assert "among those that were looked at" in shown
    further = link(shown, "Look further back")
    assert ids_in(text_of(web.get(LIST + further))) == [wanted]
    assert listed(web, state="rejected", q=wanted) == [wanted]
    young = text_of(web.get(LIST, {"state": "rejected", "span": "1h"}))
    assert "Looked back to" in young
    Plan.objects.filter(plan_id=wanted).update(created_at=clock.now() - dt.timedelta(hours=2))
    assert "Looked back to" in young
    assert not link(text_of(web.get(LIST + further + "&span=1h")), "Look further back")


# ---- what it costs, who may, what strangers wrote


HOT = re.compile(r'^SCAN "?apply_plan"?$')


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"state": "blocked"},
        {"reason": "hold", "source": "x", "span": "7d"},
        {"symbol": "BTCUSDT", "until": "2099-01-01T00:00:00"},
        {"q": "0000", "state": "blocked"},
        {"before": 600},
        {"after": 20},
    ],
)
def test_every_question_is_answered_by_an_index_and_as_often_for_many(
    web: WebClient, asked: dict[str, Any]
) -> None:
    plans(10)
    web.get(LIST, asked)
    with CaptureQueriesContext(connection) as few:
        web.get(LIST, asked)
    plans(700, first=1000, state="blocked", error="hold")
    with CaptureQueriesContext(connection) as many:
        web.get(LIST, asked)
    ours = [query["sql"] for query in many.captured_queries if "apply_plan" in query["sql"]]
    assert len(ours) <= 5
    assert abs(len(many) - len(few)) <= 1, "only whether there is more further back"
    assert not [sql for sql in ours if "COUNT(" in sql or "OFFSET" in sql]
    if connection.vendor == "sqlite":
        for sql in ours:
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
                steps = [row[3] for row in cursor.fetchall()]
            unlimited = " LIMIT " not in sql
            assert not unlimited or not [step for step in steps if HOT.match(step)], (sql, steps)
            assert not [step for step in steps if "TEMP B-TREE FOR ORDER BY" in step] or " IN (" in sql


def test_the_list_needs_its_permission_and_takes_no_post(web: WebClient) -> None:
    assert someone("nobody").get(LIST).status_code == 403
    assert someone("viewer", "view_plan").get(LIST).status_code == 200
    assert web.post(LIST, {"action": "delete_selected"}).status_code == 403


def test_what_a_plan_says_of_itself_is_text_in_the_list_and_in_the_address(web: WebClient) -> None:
    plan_row(1, source=HOSTILE[:80], symbol=HOSTILE[:40], error=HOSTILE[:80], gate_reason=HOSTILE)
    for asked in ({}, {"source": HOSTILE[:80]}, {"q": HOSTILE[:40]}, {"state": HOSTILE}, {"until": HOSTILE}):
        shown = text_of(web.get(LIST, asked))
        assert "<script>alert" not in shown and "<img src=x" not in shown, asked


def test_every_reason_can_be_asked_for() -> None:
    assert {"halted", "missing_both", "no_position", "rate_limited"} <= set(finding.REASONS)
    assert "approved" not in finding.REASONS
