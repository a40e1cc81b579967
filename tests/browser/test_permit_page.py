"""The page of a plan's permits in a real browser: it fits, can be used, and runs nothing inline."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse

from permits.desk.peek import peek
from permits.models import Permit
from quantum.plan import ExitPlan
from quantum.redis import Client
from tests.browser.test_pages import findings
from tests.house import House
from tests.permits.desk_by_hand import issued_both, on_stream, revoke
from tests.permits_by_hand import GOVERNOR, P33, lay, permit

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def page(plan: ExitPlan) -> str:
    return reverse("admin:permits_permit_change", args=[plan.plan_id])


@pytest.fixture
def plans(redis: Client, keys: None, transactional_db: None) -> dict[str, ExitPlan]:
    """One of each kind of look that the page has."""
    forged, revoked, bare = House.make(), issued_both(redis), on_stream(redis)
    lay(redis, forged, governor=permit(forged, GOVERNOR, signer=P33), p33=b"yes " * 200)
    revoke(redis, revoked, GOVERNOR)
    return {"good": issued_both(redis), "forged": forged, "revoked": revoked, "bare": bare}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width_px", [1200, 390])
def test_it_is_quiet_fits_and_is_accessible(
    plans: dict[str, ExitPlan], visit: Any, theme: str, width_px: int
) -> None:
    visitor = visit(theme=theme, width_px=width_px)
    troubles = visitor.troubles
    for name, plan in plans.items():
        shown = visitor.open(page(plan))
        if visitor.scrolls_sideways():
            troubles.append(f"{name}: scrolls sideways at {width_px} px")
        troubles += findings(shown)
    assert not troubles, "\n".join(sorted(set(troubles)))


def test_without_a_script_it_says_when_each_permit_ends(plans: dict[str, ExitPlan], visit: Any) -> None:
    shown = visit(script=False).open(page(plans["good"]))
    for gate in ("governor", "p33"):
        assert "ends 20" in shown.inner_text(f"#gate-{gate} ~ .left")


def test_somebody_revokes_with_a_reason_and_sees_it_in_the_history(
    plans: dict[str, ExitPlan], redis: Client, visit: Any
) -> None:
    plan = plans["good"]
    visitor = visit(width_px=390)
    shown = visitor.open(page(plan))
    shown.select_option("#id_revoke_gate", "both")
    shown.fill("#id_revoke_reason", "short")
    shown.click("text=Revoke >> nth=-1")
    assert len(peek(redis, plan.plan_id).standing) == 2, "the browser itself asks for more"
    shown.fill("#id_revoke_reason", "the market turned")
    shown.click("button.danger")
    shown.wait_for_selector(".messagelist")
    assert "Revoked: governor and p33" in shown.inner_text(".messagelist")
    assert "walker: the market turned" in shown.inner_text("main")
    assert Permit.objects.filter(plan_id=plan.plan_id, fate="revoked").count() == 2
    assert visitor.troubles == []
