"""Somebody saves a list: the link below it, in a real browser."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse

from apply.models import Plan
from quantum.redis import Client
from tests.exports.by_hand import cells, rows

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def on_plans(redis: Client, transactional_db: None, visit: Any) -> Any:
    rows(3)
    Plan.objects.filter(plan_id=f"{2:016x}").update(symbol="ETHUSDT", source="=cmd()")
    return visit().open(reverse("admin:apply_plan_changelist") + "?symbol=ETHUSDT")


def test_a_person_saves_what_the_filter_shows(on_plans: Any) -> None:
    with on_plans.expect_download() as saved:
        on_plans.get_by_role("link", name="CSV", exact=True).click()
    assert saved.value.suggested_filename.endswith(".csv") and saved.value.failure() is None
    [row] = cells(saved.value.path().read_text())
    assert f"{2:016x}" in row and "'=cmd()" in row
