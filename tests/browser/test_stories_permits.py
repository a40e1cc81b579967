"""A permit's life, watched: both gates sign, nobody spends, it counts down by the server's clock, and is gone."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.urls import reverse

from apply.models import Order
from permits.desk.peek import peek
from permits.models import Permit
from tests.house import House, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.slow]
WRONG_CLOCK = """
const ahead = 3600e3, now = Date.now.bind(Date), Right = Date;
Date = class extends Right { constructor(...said) { said.length ? super(...said) : super(now() + ahead); } };
Date.now = () => now() + ahead;
"""
SECONDS = "place => parseFloat(place.textContent)"


def test_a_permit_is_seen_counting_down_by_the_servers_clock_and_expiring(house: House, visit: Any) -> None:
    house.start("p33", "governor")  # nobody spends what they sign
    plan = house.publish(house.make())
    wait_for(lambda: len(peek(house.redis, plan.plan_id).standing) == 2, what="both permits")
    wait_for(lambda: Permit.objects.filter(plan_id=plan.plan_id).count() == 2, what="their rows")
    visitor = visit()
    visitor.page.add_init_script(WRONG_CLOCK)
    visitor.open(reverse("admin:permits_permit_changelist"))
    page = visitor.go(f"#live-table >> text={plan.plan_id}")
    governor, p33 = page.locator("#gate-governor ~ .left .ttl"), page.locator("#gate-p33 ~ .left .ttl")
    for gate, key, shown in (
        ("governor", settings.KEYS.governor_permit(plan.plan_id), governor),
        ("p33", settings.KEYS.p33_permit(plan.plan_id), p33),
    ):
        left_s = house.redis.pttl(key) / 1000
        assert left_s - 1 <= shown.evaluate(SECONDS) + 0.2 <= left_s + 4, (
            f"{gate}: as Redis says, an hour ahead or not"
        )
    first = governor.evaluate(SECONDS)
    house.redis.pexpire(settings.KEYS.p33_permit(plan.plan_id), 1500)
    page.wait_for_function(
        "first => parseFloat(document.querySelector('#gate-governor ~ .left .ttl').textContent) <= first - 1",
        arg=first,
    )
    p33.wait_for(state="detached", timeout=6000)
    assert "this is the last one it signed" in page.inner_text("main")
    assert governor.evaluate(SECONDS) < first
    assert not house.redis.exists(settings.KEYS.p33_permit(plan.plan_id))
    assert house.redis.exists(settings.KEYS.governor_permit(plan.plan_id))
    page.locator("[data-changed]").wait_for(state="visible", timeout=3000)
    assert not Order.objects.filter(plan_id=plan.plan_id).exists()
    assert visitor.troubles == []
