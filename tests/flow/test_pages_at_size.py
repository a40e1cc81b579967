"""Every page over a house of a fiftieth of the size that `python -m bench --only pages` measures: what a page asks."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apply.proof_report import look as proof
from apply.proof_report.report import Span
from bench import pages
from positions.books import profit
from quantum import clock
from quantum.redis import Client

pytestmark = [
    pytest.mark.skipif(connection.vendor != "postgresql", reason="EXPLAIN and COPY are PostgreSQL's"),
    pytest.mark.slow,
]
READS_ALL = (*pages.READS_ALL_IDS, "page_apply_profit", "page_apply_proof", "page_plans_of_a_source")

HAVE_RECORDS = ("plans", "permits", "races", "orders", "ends")


@pytest.fixture
def to_be_filled(django_db_reset_sequences: None) -> Iterator[None]:
    yield
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = DEFAULT")


def test_no_page_reads_a_large_table_from_end_to_end(to_be_filled: None, redis: Client, keys: None) -> None:
    """Here all of a table may be the right thing to read: of so few rows a span is a good part (profit, proof), and a
    filter without an index looks through 50,000 at most (docs/decisions/035). The bench asks them over a million."""
    pages.fill(pages.FIFTIETH)
    look = pages._Looker()
    asked = {name: look.questions(ask()) for name, ask in pages._questions(pages.FIFTIETH).items()}
    scans = {name: found for name, (_, found, _slowest) in asked.items() if found and name not in READS_ALL}
    assert scans == {}
    assert max(count for count, *_ in asked.values()) < 60, {
        name: count for name, (count, *_) in asked.items()
    }


def test_the_filled_house_is_one_that_a_proof_finds_nothing_wrong_with(to_be_filled: None) -> None:
    """Else the bench would time a page of six hundred findings."""
    pages.fill(pages.FIFTIETH, used=0)
    now = clock.now()
    report = proof.from_records(Span(now - dt.timedelta(hours=6), now))
    assert [(each.wrong, each.text) for each in report.findings()][:3] == []
    assert all(part.figures and part.figures[0].of > 20 for part in report.parts if part.name in HAVE_RECORDS)


def test_the_planner_knows_of_how_few_days_the_fills_are(to_be_filled: None) -> None:
    """Else it expects one group per fill where a day is asked for, and sorts them all: twice the time."""
    pages.fill(pages.FIFTIETH, used=0)
    today = clock.now().date()
    with CaptureQueriesContext(connection) as asked:
        books = profit.of(since=today - dt.timedelta(days=6), until=today)
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {asked.captured_queries[0]['sql']}")
        [([told],)] = cursor.fetchall()
    assert len(books) / 3 < told["Plan"]["Plan Rows"] < 3 * len(books)
