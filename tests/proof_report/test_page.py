"""The page Proof: the last whole proof, and the last hours from records."""

from __future__ import annotations

import datetime as dt

import pytest
from django.core.cache import caches
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apply.management.commands import proof
from apply.models import Plan
from apply.proof_report import look, pictures, promoting, told
from apply.proof_report.report import STEPS_MS, Span
from quantum import charts, clock
from quantum.redis import Client
from tests.flow.test_admin import HOSTILE, someone, text_of
from tests.flow.test_home import orders, plans
from tests.proof_report.test_proof import with_finding

pytestmark = pytest.mark.usefixtures("db", "redis")


def shown(**asked: str) -> str:
    return shown_to("vera", **asked)


def shown_to(name: str, **asked: str) -> str:
    caches["pages"].clear()
    return text_of(someone(name, "view_plan", "view_order").get(reverse("admin:apply_proof"), asked))


def test_before_the_first_proof_it_says_how_one_is_made() -> None:
    assert "<code>manage.py proof</code> makes one" in shown()


def test_it_shows_what_the_last_proof_found_and_what_the_records_say_now() -> None:
    orders(plans(3, minutes_ago=5), after_ms=20)
    plans(2, minutes_ago=90, first=10)
    proof.keep(with_finding(f"order 1 ({HOSTILE})"))
    promoting.override(by="nina", reason="to see it")
    page = shown()
    assert "order_by_hand" in page
    assert HOSTILE not in page
    assert "too few: 3 of the 100 it needs" in page
    assert "promoted to live by override, nina: to see it" in page
    assert "carries no permit that governor granted" in page
    assert "<td>plans</td><td>3</td>" in page
    assert "<td>plans</td><td>5</td>" in shown_to("wim", span="6h")


def test_an_hour_without_an_exit_is_not_green_and_says_so() -> None:
    page = shown()
    assert "Cannot tell: no exit passed in this span" in page
    assert 'class="chip warn"' in page and 'class="chip good"' not in page
    orders(plans(1, minutes_ago=5), after_ms=20)
    assert "no exit passed" not in shown_to("wim")


def test_waits_are_a_picture_and_told_in_words() -> None:
    """Every step has its place, so the second column of one picture is the second of all."""
    orders(plans(3, minutes_ago=5), after_ms=20)
    Plan.objects.filter(plan_id__in=Plan.objects.values("plan_id")[:2]).update(wait_ms=4)
    Plan.objects.exclude(wait_ms=4).update(wait_ms=9000)
    said = "Wait in milliseconds, of 3: 2 up to 5, 1 over 5000"
    now = clock.now()
    for page in (shown(), told.html(look.from_records(Span(now - dt.timedelta(hours=1), now)))):
        assert f'role="img" aria-label="{said}"' in page
        assert f'<p class="quiet">{said}.</p>' in page
        assert "histogram" not in page
        assert page.count('text-anchor="middle">5s</text>') == 2  # waits, and from plan to order
    step = charts.WIDTH / (len(STEPS_MS) + 1)
    drawn = dict(pictures.of(look.from_records(Span(now - dt.timedelta(hours=1), now)).part("waits")))
    assert [bar.x for bar in drawn["wait"].bars if float(bar.height) > 0] == [
        f"{2 * step:.1f}",
        f"{12 * step:.1f}",
    ]


def test_who_may_not_see_orders_may_not_see_the_proof() -> None:
    assert someone("paul", "view_plan").get(reverse("admin:apply_proof")).status_code == 403


def test_it_asks_as_often_for_many_plans_as_for_few(redis: Client) -> None:
    def questions() -> int:
        with CaptureQueriesContext(connection) as asked:
            look.from_records(Span(look.from_the_start().replace(year=2020), clock.now()))
        return len(asked)

    orders(plans(2), after_ms=20)
    few = questions()
    orders(plans(60, first=100), after_ms=20)
    assert questions() == few
