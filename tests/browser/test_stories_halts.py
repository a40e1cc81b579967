"""Stories of a halt, in a real browser: left by a second person, by one who types the account, and past it by glass."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse

from apply.models import BreakGlass, Plan
from permits.models import TradingState
from permits.state import resuming, trading
from quantum.models import AuditEvent
from tests.flow.test_halts_and_holds import halt, leave_to_operators, told
from tests.glass_by_hand import made, url
from tests.house import House

pytestmark = [pytest.mark.browser, pytest.mark.slow]
HALT, ASK, YES = "strange prices on both books", "the books are calm again", "looked at both books myself"


def halts(visitor: Any) -> None:
    visitor.open(reverse("admin:apply_oncall"))
    visitor.go("text=Halt everything")
    page = visitor.say("Halt everything", halt_reason=HALT)
    assert "HALTED for everything" in page.inner_text(".messagelist")


def refused(house: House, visitor: Any) -> None:
    """An exit closes nothing, and its page says who halted and why."""
    plan = house.publish(house.make())
    assert house.ended(plan).state == Plan.State.BLOCKED
    assert house.orders(plan) == []
    page = visitor.open(reverse("admin:apply_plan_change", args=[plan.plan_id]))
    assert "halted" in page.inner_text(".stopped")


def done(house: House) -> None:
    plan = house.publish(house.make())
    assert house.ended(plan).state == Plan.State.FILLED
    assert [order["verdict"] for order in house.orders(plan)] == ["accepted"]


def on_record(kind: str) -> list[tuple[str, str]]:
    return list(AuditEvent.objects.filter(kind=kind).order_by("id").values_list("actor", "reason"))


def test_a_halt_blocks_and_a_second_person_resumes(house: House, visit: Any, settings: Any) -> None:
    settings.APPROVERS_REQUIRED = 2
    house.start()
    nina, omar = visit(who="nina", width_px=390), visit(who="omar", theme="dark")
    halts(nina)
    refused(house, nina)
    nina.open(reverse("admin:apply_oncall"))
    nina.go("text=Resume")
    page = nina.say("Ask to resume", ask_reason=ASK)
    assert "still halted" in page.inner_text(".messagelist")
    assert "another person has to confirm" in page.inner_text("main")
    assert page.locator("main form").count() == 0, "nothing left for her to press"
    assert not trading.current().active

    assert HALT in omar.open(reverse("admin:apply_oncall")).inner_text("main")
    page = omar.go("text=Resume")
    assert "Asked by nina" in page.inner_text("main")
    assert ASK in page.inner_text("main")
    page = omar.say("Resume now", confirm_confirm="main", confirm_reason=YES)
    assert "ACTIVE by omar" in page.inner_text(".messagelist")
    assert trading.current().active
    assert (on_record("resume_requested"), on_record("trading_active")[-1:]) == (
        [("nina", ASK)],
        [("omar", YES)],
    )
    done(house)
    assert nina.troubles + omar.troubles == []


def test_a_halt_blocks_and_one_person_resumes_by_typing_the_account(
    house: House, visit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resuming, "DELAY_S", 60.0)
    house.start()
    nina = visit(who="nina", theme="dark", width_px=390)
    halts(nina)
    refused(house, nina)
    nina.open(reverse("admin:apply_oncall"))
    nina.go("text=Resume")
    nina.say("Ask to resume", ask_reason=ASK)
    page = nina.say("Resume now", confirm_confirm="main", confirm_reason=YES)
    assert "confirm after" in page.inner_text(".messagelist"), "not in one breath"
    monkeypatch.setattr(resuming, "DELAY_S", 0.0)
    page = nina.say("Resume now", confirm_confirm="mian", confirm_reason=YES)
    assert "not the account's name" in page.inner_text(".messagelist")
    assert not trading.current().active
    page = nina.say("Resume now", confirm_confirm="main", confirm_reason=YES)
    assert "ACTIVE by nina" in page.inner_text(".messagelist")
    assert (on_record("resume_requested"), on_record("trading_active")[-1:]) == (
        [("nina", ASK)],
        [("nina", YES)],
    )
    done(house)
    assert nina.troubles == []


def test_somebody_breaks_the_glass_and_the_order_is_at_the_exchange(house: House, visit: Any) -> None:
    leave_to_operators()
    house.start()
    halt(TradingState.Scope.AUTOMATIC)
    told(house)
    visitor = visit(width_px=390)
    page = visitor.open(url())
    page.select_option("#id_symbol", "BTCUSDT")
    page.select_option("#id_action", "PARTIAL_50")
    page.select_option("#id_gate", "governor")
    page = visitor.go("text=Show what would happen")
    assert "would deny, halted" in page.inner_text("main")
    page.fill("#id_break_confirm", "BTCUSDT")
    page.fill("#id_break_reason", "short")
    page.click("text=Sign, and close 0.5")
    assert not BreakGlass.objects.exists(), "the browser itself asks for more"
    why = "out before the news"
    page = visitor.say("Sign, and close 0.5", break_reason=why)
    [row] = made()
    assert f"Plan {row.plan_id} of BTCUSDT: filled." in page.inner_text(".messagelist")
    assert "break-glass" in page.inner_text(".steps")
    [order] = [each for each in house.orders() if each["client_id"].startswith(f"q-{row.plan_id}")]
    assert order["verdict"] == "accepted", "in the exchange's own log"
    acted = AuditEvent.objects.get(kind="break_glass_acted", plan_id=row.plan_id)
    assert (acted.actor, acted.reason) == ("walker", why)
    assert not trading.current().active, "the halt stands"
    assert visitor.troubles == []
