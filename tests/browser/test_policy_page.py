"""The policy page in a real browser: a draft is typed, looked at, made to hold, and none of it needs a script."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse

from permits.policy import policies
from quantum import clock
from quantum.models import AuditEvent
from quantum.redis import Client
from tests.browser.test_pages import findings
from tests.permits.governors import AtWork, arm, limit, snapshot

pytestmark = [pytest.mark.browser, pytest.mark.slow]
PAGE = "admin:permits_policyversion_changelist"


@pytest.fixture
def decided(redis: Client, keys: None, transactional_db: None) -> int:
    """Three exits under limits, with shadow rules that would have denied two. The version that holds."""
    limit("permits_per_5min=50")
    limit("permits_per_5min=1", shadow=True)
    arm(redis)
    snapshot(redis)
    governor = AtWork(redis)
    assert [governor.reason() for _ in range(3)] == ["approved"] * 3
    governor.end()
    return policies.newest()[0]


def test_a_draft_is_typed_looked_at_and_made_to_hold_without_a_script(decided: int, visit: Any) -> None:
    visitor = visit(script=False)
    page = visitor.open(reverse(PAGE))
    page.get_by_label("Exits in 5 minutes, in total").fill("2")
    page.get_by_role("button", name="Look at this draft").click()
    assert page.get_by_text("Was allowed, would be denied: 1").is_visible()
    page.get_by_label("Reason").fill("a calmer week is ahead")
    page.get_by_role("button", name="Change the limits").click()
    assert page.get_by_text(f"Version {decided + 1} holds; the Governor obeys").is_visible()
    assert policies.current().limits.total.permits_per_5min == 2
    assert AuditEvent.objects.filter(kind="policy_changed", actor="walker", at__lte=clock.now()).count() == 1
    assert not visitor.troubles


@pytest.mark.parametrize(("theme", "width_px", "other_px"), [("light", 1280, 390), ("dark", 390, 1280)])
def test_limits_draft_and_shadow_rules_are_quiet_fit_and_are_accessible(
    decided: int, visit: Any, theme: str, width_px: int, other_px: int
) -> None:
    visitor = visit(theme=theme, width_px=width_px)
    troubles = visitor.troubles
    drafted = f"?seen={decided}&on=limits&symbol=BTCUSDT&total.permits_per_5min=2&each.cooldown_s=9"
    for asked in (drafted, f"?seen={decided}&on=limits&total.permits_per_5min=0", "?on=shadow"):
        page = visitor.open(reverse(PAGE) + asked)
        for px in (other_px, width_px):
            page.set_viewport_size({"width": px, "height": 900})
            if visitor.scrolls_sideways():
                troubles.append(f"{asked}: scrolls sideways at {px} px")
        troubles += findings(page)
    assert not troubles, "\n".join(sorted(set(troubles)))
