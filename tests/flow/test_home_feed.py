"""Home: how old the exchange's side is, and what share each gate granted."""

from __future__ import annotations

import re

import pytest
from django.core.cache import caches
from django.test import Client as WebClient
from django.urls import reverse

from quantum.redis import Client
from tests.flow.test_admin import someone, text_of
from tests.flow.test_home import permits, plans
from tests.flow.test_reconcile_live import balance as entered
from tests.flow.test_reconcile_live import snapshot


@pytest.fixture
def web(redis: Client, transactional_db: None) -> WebClient:
    caches["pages"].clear()
    return someone("root", superuser=True)


def test_gates_are_told_with_the_share_that_they_granted(web: WebClient) -> None:
    permits(plans(3), gate="p33", verdict=True)
    permits(plans(1, first=10), gate="p33", verdict=False)
    [gate] = re.findall(r"<b>P3.3</b>.*?</li>", text_of(web.get(reverse("admin:index"))))
    assert "3 granted" in gate and "1 denied" in gate and "(75 %)" in gate


@pytest.mark.parametrize(("age_s", "tone"), [(1, None), (7, "warn"), (60, "bad")])
def test_what_the_exchange_said_longer_than_5_s_ago_is_not_green(
    web: WebClient, redis: Client, age_s: int, tone: str | None
) -> None:
    entered("BTCUSDT")
    snapshot(redis, "1", age_s=age_s)
    found = re.search(
        r'id="glance-sides-table".*?</table>', text_of(web.get(reverse("admin:index"))), re.DOTALL
    )
    assert found is not None
    [row] = re.findall(r"<tr><td>(?:(?!</tr>).)*BTCUSDT.*?</tr>", found[0], re.DOTALL)
    assert ("chip good" in row) is (tone is None)
    assert ('circle class="old"' in row) is (tone is not None)
    last = row.rpartition("<td")[2]
    assert f"chip {tone}" in last if tone else "chip" not in last
