"""Every page that the admin has, seen in a real browser: quiet console, no sideways scroll, accessible."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.test import Client as WebClient
from django.urls import reverse
from django_q.models import Failure

from apply.models import Plan
from permits.desk import approvals
from permits.models import Hold, Permit, PolicyVersion, TradingState
from permits.state import holds, trading
from positions.models import Funding, Incident
from quantum import clock
from quantum.models import AuditEvent
from quantum.plan import Action
from tests.flow.test_admin import lived_in as a_row_of_each_kind
from tests.flow.test_groups import ADDRESSES
from tests.house import House

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PARTS = 6
"""A slow machine takes seconds for a page, and no test may take two minutes."""
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


@pytest.fixture
def lived_in(house: House) -> House:
    """A house in which an exit was filled, one was denied and one said hostile things."""
    house.start()
    house.exit("BTCUSDT")
    house.ended(house.publish(house.make("ETHUSDT", Action.FULL_CLOSE, source=HOSTILE[:70])))
    holds.place(house.redis, symbol="SOLUSDT", by="tests", reason="to be seen on a page")
    house.exit("SOLUSDT")
    house.stop()
    said = dict.fromkeys(("entry", "group", "error", "sample", "deliveries"), HOSTILE)
    house.redis.xadd(settings.KEYS.dead_letters(settings.KEYS.plan_stream), said, id="1-0")
    a_row_of_each_kind(7)
    PolicyVersion.objects.filter(version=7).delete()  # it allows nothing, and there is one already
    Group.objects.create(name="a group")
    Failure.objects.create(
        id="f" * 32, name="a job", func="f", started=clock.now(), stopped=clock.now(), success=False
    )
    Funding.objects.create(
        account="main", symbol="BTCUSDT", transaction_id="1", asset="USDT", amount=1, at=clock.now()
    )
    trading.halt(cause="person", by="tests", reason="to be left", scope=TradingState.Scope.AUTOMATIC)
    approvals.ask(plan=house.make("BTCUSDT"), rule="size", compared={"asked": "9000", "limit": "5000"})
    AuditEvent.objects.bulk_create(  # so many that the numbers of the pages need room
        AuditEvent(kind="tested", actor="tests", data={}) for _ in range(450)
    )
    return house


ELSEWHERE = {"login", "logout", "view_on_site", "apply_plan_bundle", "apply_plan_bundle_read"}
"""No page for somebody who is logged in: the login has a test of its own, and files are saved, not opened."""


def every_page(part: int) -> list[str]:
    """From the router, so that a page that is added is walked too. What answers with a page is one; what wants a row
    that is not there fails: make it in `lived_in`. Of Django's own histories, which are one template, one."""
    web = WebClient()
    web.force_login(get_user_model().objects.create_superuser("router"))
    asked = {**dict(ADDRESSES), **dict(_of_rows())}
    histories = {name for name in asked if name.endswith("_history")}
    others = [name for name in asked if name not in histories]
    paths: list[str] = []
    left_out: list[str] = []
    for name in others[part::PARTS] + (sorted(histories) if part == 0 else []):
        if name in histories and any(path.endswith("/history/") for path in paths):
            continue
        answer = web.get(asked[name])
        if answer.streaming:  # an export: saved, not opened
            answer.close()
        elif answer.status_code == 200 and str(answer.content.decode()).startswith("<!DOCTYPE"):
            paths.append(asked[name])
        elif answer.status_code in (302, 404) and name not in ELSEWHERE and name not in histories:
            left_out.append(f"{name}: {asked[name]} answers {answer.status_code}")
    assert not left_out, "no page of these is walked:\n" + "\n".join(left_out)
    return list(dict.fromkeys(paths))


def _of_rows() -> Iterator[tuple[str, str]]:
    """Addresses that name a row, with one that is there."""
    for model in admin.site._registry:
        row: Any = model._default_manager.first()
        if row is not None:
            named = row.plan_id if model in (Plan, Permit) else row.pk
            for page in ("change", "delete", "history"):
                name = f"{model._meta.app_label}_{model._meta.model_name}_{page}"
                yield name, reverse(f"admin:{name}", args=[named])
    for name, found in (
        ("apply_oncall_ack", Incident.objects.filter(state=Incident.State.OPEN).first()),
        ("apply_oncall_lift", Hold.objects.filter(lifted_at=None).first()),
        ("auth_user_password_change", get_user_model().objects.first()),
        ("quantum_second_factor_of", get_user_model().objects.first()),
    ):
        if found is not None:
            yield name, reverse(f"admin:{name}", args=[found.pk])
    filled = Plan.objects.filter(symbol="BTCUSDT", state=Plan.State.FILLED).earliest("id").plan_id
    for name in ("apply_orders_one", "apply_plan_raw", "apply_plan_change", "permits_permit_change"):
        yield name, reverse(f"admin:{name}", args=[filled])
    for plan in Plan.objects.all():
        yield f"apply_plan_change of {plan.symbol}", reverse("admin:apply_plan_change", args=[plan.plan_id])


NOT_OURS = {"exclude": [[".search-label-icon"], [".vDateField"], [".vTimeField"]]}
"""On the page of a user: Django's group chooser labels a bare <span>, 5.2 leaves its date fields unlabelled."""


AXE = Axe().axe_script
LOOKS = (("light", 1280), ("dark", 390))
"""Colours hang on the theme and places on the width: each of both is looked at once."""
AT_REST = "Promise.allSettled(document.getAnimations().map(each => each.finished)).then(() => null)"
"""Django's links fade from one theme's colour to the other's; a part that lives may take them away meanwhile."""


def findings(page: Any) -> list[str]:
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
    # Preloading would break the policy by itself; what is well is told in a thousand nodes that nobody reads.
    options = {"runOnly": rules, "preload": False, "resultTypes": ["violations"]}
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    found = page.evaluate("([context, options]) => axe.run(context, options)", [NOT_OURS, options])
    return [
        f"{page.url}: {each['impact']} {each['id']}: {each['nodes'][0]['html'][:160]}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("part", range(PARTS))
def test_every_page_is_quiet_fits_and_is_accessible(lived_in: House, visit: Any, part: int) -> None:
    visitor = visit()
    troubles = visitor.troubles
    for path in every_page(part):
        page = visitor.open(path)
        for theme, width_px in LOOKS:
            page.set_viewport_size({"width": width_px, "height": 900})
            page.emulate_media(color_scheme=theme)
            page.evaluate(AT_REST)
            if visitor.scrolls_sideways():
                troubles.append(f"{path}: scrolls sideways at {width_px} px")
            troubles += [f"{theme}: {each}" for each in findings(page)]
    assert not troubles, "\n".join(sorted(set(troubles)))


def test_somebody_logs_in_and_sees_which_mode_this_is(visit: Any, redis: Any, transactional_db: None) -> None:
    get_user_model().objects.create_superuser("nina", password="a long enough phrase")
    visitor = visit(logged_in=False)
    page = visitor.open("/")
    assert page.title().startswith("PAPER · Log in")
    page.fill("#id_username", "nina")
    page.fill("#id_password", "a long enough phrase")
    page.click("input[type=submit], button[type=submit]")
    page.wait_for_url("**/admin/")
    assert page.title().startswith("PAPER main")
    assert page.inner_text("p.mode") == "PAPER main"
    icon = page.get_attribute("link[rel=icon]", "href")
    assert icon is not None
    assert page.request.get(visitor.base + icon).status == 200
    assert "favicon-paper" in icon
    assert visitor.troubles == []


def test_what_a_plan_says_of_itself_is_text_and_nothing_else(lived_in: House, visit: Any) -> None:
    visitor = visit()
    plan = Plan.objects.get(symbol="ETHUSDT")
    page = visitor.open(reverse("admin:apply_plan_change", args=[plan.plan_id]))
    assert HOSTILE[:70] in page.inner_text("main")
    assert "owned" not in page.title()
    assert page.locator("main img, main script").count() == 0
    assert visitor.troubles == []


def test_the_signed_payload_opens_without_any_script(lived_in: House, visit: Any) -> None:
    visitor = visit()
    plan = Plan.objects.filter(symbol="BTCUSDT").earliest("id")
    page = visitor.open(reverse("admin:apply_plan_change", args=[plan.plan_id]))
    payload = page.locator("details pre").first
    assert not payload.is_visible()
    page.locator("details summary").first.click()
    assert payload.is_visible()
    assert '"sig":' in payload.inner_text()
