"""Every page over a house of a fiftieth of the size that `python -m bench --only pages` measures: what a page asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection

from bench import pages
from quantum.redis import Client

pytestmark = [
    pytest.mark.skipif(connection.vendor != "postgresql", reason="EXPLAIN and COPY are PostgreSQL's"),
    pytest.mark.slow,
]
READS_ALL = (*pages.READS_ALL_IDS, "page_apply_profit", "page_apply_proof", "page_plans_of_a_source")


@pytest.fixture
def look(transactional_db: None, redis: Client, keys: None) -> Iterator[pages._Looker]:
    pages.fill(pages.FIFTIETH)
    yield pages._Looker()
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = DEFAULT")


def test_no_page_reads_a_large_table_from_end_to_end(look: pages._Looker) -> None:
    """Here all of a table may be the right thing to read: of so few rows a span is a good part (profit, proof), and a
    filter without an index looks through 50,000 at most (docs/decisions/035). The bench asks them over a million."""
    asked = {name: look.questions(ask()) for name, ask in pages._questions(pages.FIFTIETH).items()}
    scans = {name: found for name, (_, found, _slowest) in asked.items() if found and name not in READS_ALL}
    assert scans == {}
    assert max(count for count, *_ in asked.values()) < 60, {
        name: count for name, (count, *_) in asked.items()
    }
