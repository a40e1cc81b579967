"""Lists of facts that grow without end: no page of theirs reads the whole table."""

from __future__ import annotations

import html
from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client as WebClient
from django.test.utils import CaptureQueriesContext

from apply.acting import settle
from apply.models import Order
from permits.desk import approvals
from permits.models import Approval
from positions.models import Fill
from quantum import clock, lists
from quantum.models import AuditEvent
from quantum.redis import Client
from tests.flow.test_admin import lived_in, someone, text_of, url

PLAN_ID = "00000000000000ab"


@pytest.fixture
def web(redis: Client, transactional_db: None) -> WebClient:
    AuditEvent.objects.bulk_create(
        AuditEvent(kind=f"kind_{number}", plan_id=PLAN_ID if number % 5 == 0 else "", actor="tests")
        for number in range(30)
    )
    return someone("root", superuser=True)


def audit(web: WebClient, **query: str) -> str:
    return html.unescape(text_of(web.get(url(AuditEvent, "changelist"), query)))


def test_rows_are_counted_up_to_a_number_and_the_rest_is_said(
    web: WebClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "30 audit events" in audit(web)
    assert "There are more" not in audit(web)
    monkeypatch.setattr(lists, "COUNTED_MOST", 20)
    shown = audit(web)
    assert "20 audit events" in shown
    assert "There are more than these 20: search or filter" in shown
    assert "There are more" not in audit(web, q=PLAN_ID), "what is searched for is found whole"


def test_a_filter_offers_what_stands_in_the_newest_rows_and_takes_any_other(
    web: WebClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "LOOKED_AT", 5)
    shown = audit(web)
    assert "kind=kind_29" in shown and "kind=kind_25" in shown
    assert "kind=kind_24" not in shown
    assert "1 audit event\n" in audit(web, kind="kind_3")


def test_no_question_of_a_list_goes_over_all_rows(web: WebClient) -> None:
    lived_in(1)
    for model in (AuditEvent, Fill):
        with CaptureQueriesContext(connection) as asked:
            assert web.get(url(model, "changelist")).status_code == 200
        mine = [each["sql"] for each in asked.captured_queries if model._meta.db_table in each["sql"]]
        assert len(mine) >= 2
        endless = [sql for sql in mine if "DISTINCT" in sql or ("COUNT(" in sql and "LIMIT" not in sql)]
        assert endless == []


def test_a_pasted_plan_id_is_looked_up_by_its_index(web: WebClient) -> None:
    with CaptureQueriesContext(connection) as asked:
        assert "6 audit events" in audit(web, q=f" {PLAN_ID.upper()} ")
    searched = [each["sql"] for each in asked.captured_queries if PLAN_ID in each["sql"]]
    assert searched
    assert not [sql for sql in searched if "actor" in sql.partition("WHERE")[2].lower() or "UPPER" in sql]


@pytest.mark.parametrize(
    ("ask", "table", "index"),
    [
        (lambda: settle.seen_trades(Order(client_order_id="q-1")), "positions_fill", "fill_of_order"),
        (approvals.expire_overdue, "permits_approval", "approval_that_waits"),
        (lambda: approvals.park(asked()), "permits_approval", "approval_that_waits"),
    ],
)
def test_what_a_page_or_an_act_asks_one_row_of_has_its_index(
    db: None, ask: Callable[[], object], table: str, index: str
) -> None:
    """The planner's own answer; a table of no rows is read whole unless that is forbidden."""
    with CaptureQueriesContext(connection) as queries:
        ask()
    mine = [each["sql"] for each in queries.captured_queries if each["sql"].startswith("SELECT")]
    plans = [explained(sql) for sql in mine if table in sql and 'asked_plan_id" = ' not in sql]
    assert plans
    assert all(index in plan for plan in plans), plans


def asked() -> Approval:
    now = clock.now()
    fields = {"action": "PARTIAL_25"}
    return Approval(
        asked_plan_id=PLAN_ID, symbol="BTCUSDT", fields=fields, rule="size", asked_at=now, expires_at=now
    )


def explained(sql: str) -> str:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
        else:
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute(f"EXPLAIN {sql}")
        return str(cursor.fetchall())
