"""Breaking the glass by command and by page, as the tests do it."""

from __future__ import annotations

import html
import re
from typing import Any

from django.test import Client as WebClient
from django.urls import reverse

from apply.models import BreakGlass, Plan
from tests.flow.test_admin import text_of
from tests.flow.test_reconcile import run
from tests.house import House, wait_for

WHY = "the exit has to leave before the news"
YES = "saw the same on the other screen"


def glass(gate: str = "governor", *more: str, **said: Any) -> tuple[int, dict[str, Any], str]:
    said = {"reason": WHY, "by": "nina", "confirm": "BTCUSDT"} | said
    return run("break_glass", "BTCUSDT", "--gate", gate, *more, **said)


def approve(request: BreakGlass, by: str = "omar") -> tuple[int, dict[str, Any], str]:
    return run("break_glass", approve=request.pk, reason=YES, by=by, wait=True)


def asked(*more: str) -> BreakGlass:
    """A request for both gates."""
    code, told, talk = glass("both", *more)
    assert (code, told["plan_id"]) == (4, None), talk
    assert "Another person" in talk
    return BreakGlass.objects.get(pk=told["request"]["id"])


def ended(plan_id: str) -> Plan:
    found: Plan = wait_for(
        lambda: Plan.objects.filter(plan_id=plan_id).exclude(result_id="").first(), what="the end of the plan"
    )
    return found


def made() -> list[Plan]:
    """Plans of an act, newest first."""
    return list(Plan.objects.filter(source="break_glass"))


def sent(house: House) -> int:
    """Orders of this test's plans, whosoever, in the exchange's own log."""
    ours = set(Plan.objects.values_list("plan_id", flat=True))
    return sum(row["client_id"].split("-")[1] in ours for row in house.orders())


def url(name: str = "", *args: object) -> str:
    return reverse(f"admin:apply_break_glass{name and '_' + name}", args=args)


def look(web: WebClient, gate: str = "governor", action: str = "PARTIAL_50", **more: str) -> str:
    return text_of(web.get(url(), {"symbol": "BTCUSDT", "action": action, "gate": gate, **more}))


def mark_on(shown: str) -> str:
    found = re.search(r'name="mark" value="([^"]+)"', shown)
    assert found is not None, shown
    return html.unescape(found[1])


def press(web: WebClient, mark: str, **said: str) -> Any:
    return web.post(url("act"), {"mark": mark, "reason": WHY, "confirm": "BTCUSDT", **said}, follow=True)
