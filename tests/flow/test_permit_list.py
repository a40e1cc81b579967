"""The list of permits: what may be spent now, what waits for a person, what there was; and a person's answer."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import caches
from django.db import connection
from django.test import Client as WebClient
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apply.models import Plan
from permits.models import Approval, ApprovalVote, Permit
from quantum import clock
from quantum.redis import Client
from tests.flow.test_admin import HOSTILE, NOWHERE, someone, text_of
from tests.permits.desk_by_hand import issued_both, on_stream, revoke

LIST = reverse("admin:permits_permit_changelist")
LIVE = reverse("admin:permits_live_part")
WHY = "I looked at the chart"


@pytest.fixture
def web(redis: Client, keys: None, transactional_db: None) -> WebClient:
    return someone("root", superuser=True)


def permits(n: int, *, minutes_ago: float = 5, first: int = 0, **more: Any) -> None:
    at = clock.now() - dt.timedelta(minutes=minutes_ago)
    said = {"gate": "p33", "verdict": True, "reason": "sanity_checks_passed", "fate": "spent", **more}
    Permit.objects.bulk_create(
        Permit(
            plan_id=f"{first + number:016x}", digest="d", mode="paper", account="main", issuer="tests",
            raw="{}", issued_at=at, expires_at=at + dt.timedelta(seconds=60), **{"symbol": "BTCUSDT", **said},
        )
        for number in range(n)
    )  # fmt: skip


def listed(web: WebClient, **asked: str) -> int:
    return text_of(web.get(LIST, asked)).partition("Every permit there was")[2].count('<tr><td class="last">')


# ---- what may be spent now


def test_both_gates_of_a_live_pair_stand_side_by_side_and_count_down(web: WebClient, redis: Client) -> None:
    plan, other = issued_both(redis), issued_both(redis)
    revoke(redis, other)
    shown = text_of(web.get(LIVE))
    [row] = re.findall(r"<tr><td>.*?</tr>", shown, re.DOTALL)
    assert plan.plan_id in row and other.plan_id not in row
    left = [int(found) for found in re.findall(r'data-ttl-ms="(\d+)"', row)]
    assert len(left) == 2 and all(50_000 < each <= 60_000 for each in left)
    assert row.count("ends <time") == 2, "without a script it still says when"
    assert f'data-live="{LIVE}"' in text_of(web.get(LIST))


def test_what_was_spent_and_is_not_recorded_yet_does_not_look_alive(web: WebClient, redis: Client) -> None:
    plan = issued_both(redis)
    redis.delete(settings.KEYS.p33_permit(plan.plan_id))
    shown = text_of(web.get(LIVE))
    assert shown.count("data-ttl-ms") == 1 and "not in Redis" in shown


def test_without_redis_nothing_counts_down_and_nothing_is_green(web: WebClient, redis: Client) -> None:
    issued_both(redis)
    caches["pages"].clear()
    with override_settings(REDIS_URL=NOWHERE):
        shown = text_of(web.get(LIVE))
    assert "Redis does not answer" in shown
    assert "data-ttl-ms" not in shown and "chip good" not in shown


def test_the_look_at_one_plan_is_shared_and_needs_the_right_to_see_it(web: WebClient, redis: Client) -> None:
    plan = issued_both(redis)
    part = reverse("admin:permits_permit_part", args=[plan.plan_id])
    shown = text_of(web.get(part))
    assert shown.count("data-ttl-ms") == 2 and "csrf" not in shown
    with CaptureQueriesContext(connection) as asked:
        assert text_of(web.get(part)) == shown
    assert not [query for query in asked.captured_queries if "permits_permit" in query["sql"]]
    assert web.get(reverse("admin:permits_permit_part", args=["nothing"])).status_code == 404
    assert someone("nobody").get(part).status_code == 403
    assert someone("nobody2").get(LIVE).status_code == 403
    assert web.post(part).status_code == 405


# ---- every permit there was


def test_each_filter_finds_its_permits(web: WebClient) -> None:
    permits(3)
    permits(2, first=10, gate="governor", verdict=False, reason="halted", fate="expired")
    permits(1, first=20, symbol="ETHUSDT", minutes_ago=90)
    for asked, n in (
        ({}, 6), ({"gate": "governor"}, 2), ({"answer": "denied"}, 2), ({"answer": "granted"}, 4),
        ({"reason": "halted"}, 2), ({"fate": "spent"}, 4), ({"symbol": "ethusdt"}, 1), ({"span": "1h"}, 5),
        ({"q": f"{10:016x}"}, 1), ({"gate": "governor", "fate": "spent"}, 0), ({"gate": "bogus"}, 0),
    ):  # fmt: skip
        assert listed(web, **asked) == n, asked


def test_the_list_costs_as_much_for_many_permits_as_for_few(web: WebClient) -> None:
    permits(10)
    web.get(LIST)

    def asked() -> list[str]:
        caches["pages"].clear()
        with CaptureQueriesContext(connection) as queries:
            assert web.get(LIST, {"reason": "halted"}).status_code == 200
        return [query["sql"] for query in queries.captured_queries]

    few = asked()
    permits(500, first=100)
    many = asked()
    assert len(many) == len(few) <= 12
    assert not [sql for sql in many if "COUNT(" in sql or "OFFSET" in sql]
    if connection.vendor == "sqlite":
        for sql in (each for each in many if "permits_permit" in each and " LIMIT " not in each):
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
                assert not [
                    row[3] for row in cursor.fetchall() if row[3].startswith("SCAN permits_permit")
                ], sql


def test_what_a_permit_says_of_itself_is_text(web: WebClient) -> None:
    permits(1, reason=HOSTILE[:60], symbol=HOSTILE[:40], minutes_ago=0.1, fate="live")
    for address in (LIST, LIVE, f"{LIST}?q={HOSTILE}", f"{LIST}?reason={HOSTILE}"):
        shown = text_of(web.get(address))
        assert "<script>alert" not in shown and "<img src=x" not in shown, address


# ---- what waits for a person


@pytest.fixture
def asked(redis: Client, web: WebClient) -> Approval:
    plan = on_stream(redis)
    return Approval.objects.create(
        asked_plan_id=plan.plan_id, symbol="BTCUSDT", fields=plan.fields(), rule="size",
        compared={"asked": "9000", "limit": "5000"}, asked_at=clock.now() - dt.timedelta(seconds=30),
        expires_at=clock.now() + dt.timedelta(minutes=30),
    )  # fmt: skip


def answer(web: WebClient, row: Approval, **said: str) -> str:
    sent = {"reason": WHY, "answer": "yes", "seen": f"waiting-{row.votes.count()}", **said}
    address = reverse("admin:permits_approval_vote", args=[row.pk])
    return text_of(web.post(address, sent, follow=True))


def test_what_waits_stands_on_the_list_and_leads_to_its_answer(web: WebClient, asked: Approval) -> None:
    shown = text_of(web.get(LIST))
    page = reverse("admin:permits_approval_change", args=[asked.pk])
    assert "Waits for a person" in shown and "9000" in shown and f'href="{page}">Look and answer' in shown
    form = text_of(web.get(page))
    assert "Yes, close it" in form and "PAPER main" in form
    viewer = someone("viewer", "view_permit", "view_approval")
    assert "Yes, close it" not in text_of(viewer.get(page))
    assert "Waits for a person" not in text_of(someone("other", "view_permit").get(LIST))


def test_two_people_say_yes_and_a_new_plan_goes_to_both_gates(web: WebClient, asked: Approval) -> None:
    officer = someone("omar", "view_approval", "approve")
    with override_settings(APPROVERS_REQUIRED=2):
        assert "Counted: 1 of 2 said yes" in answer(web, asked)
        assert "already answered" in answer(web, asked)
        assert not Plan.objects.exists()
        assert "Approved: a new plan goes to both gates" in answer(officer, asked)
    asked.refresh_from_db()
    assert Plan.objects.get().plan_id == asked.plan_id
    assert {vote.by for vote in ApprovalVote.objects.all()} == {"root", "omar"}


def test_where_one_yes_is_enough_the_symbol_is_typed(web: WebClient, asked: Approval) -> None:
    with override_settings(APPROVERS_REQUIRED=1):
        assert "type the symbol" in answer(web, asked, confirm="ETHUSDT")
        assert "type the symbol" in answer(web, asked)
        assert not ApprovalVote.objects.exists()
        assert "Approved" in answer(web, asked, confirm="BTCUSDT")


def test_one_no_ends_it_and_needs_no_symbol(web: WebClient, asked: Approval) -> None:
    with override_settings(APPROVERS_REQUIRED=1):
        assert "Refused" in answer(web, asked, answer="no")
    asked.refresh_from_db()
    assert asked.state == "refused" and not Plan.objects.exists()
    assert "Nothing was changed" in answer(web, asked, seen="waiting-0")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"reason": "short"}, "at least 8 characters"),
        ({"answer": "maybe"}, "maybe is not one of"),
        ({"seen": "waiting-7"}, "somebody has answered since"),
    ],
)
def test_an_answer_that_is_not_whole_or_stale_does_not_count(
    web: WebClient, asked: Approval, said: dict[str, str], told: str
) -> None:
    with override_settings(APPROVERS_REQUIRED=2):
        assert told in answer(web, asked, **said)
    assert not ApprovalVote.objects.exists()


def test_only_who_may_approve_answers_and_only_by_a_post(web: WebClient, asked: Approval) -> None:
    address = reverse("admin:permits_approval_vote", args=[asked.pk])
    sent = {"reason": WHY, "answer": "yes", "seen": "waiting-0"}
    assert someone("viewer", "view_approval").post(address, sent).status_code == 403
    assert web.get(address).status_code == 405
    assert web.post(reverse("admin:permits_approval_vote", args=[999]), sent).status_code == 404
    assert not ApprovalVote.objects.exists()
