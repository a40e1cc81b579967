"""Home and `status`: the five seconds at 3 a.m."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.contrib import admin
from django.core.cache import caches
from django.core.management import call_command
from django.db import connection
from django.test import Client as WebClient
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apply.glance import glance, hour, running
from apply.glance.hour import Spread
from apply.models import Order, Plan
from permits.models import Permit, TradingState
from permits.state import holds, trading
from positions.models import Incident
from quantum import charts, clock, lease, live, pages, redis_users, roles
from quantum.redis import Client
from tests.flow.test_admin import NOWHERE, plan_row, someone, text_of
from tests.house import House

HOT = ("apply_plan", "apply_order", "permits_permit", "quantum_auditevent", "apply_proposal")
"""Tables that grow with every exit."""


def plans(n: int, *, minutes_ago: float = 5, first: int = 0, **more: Any) -> list[str]:
    at = clock.now() - dt.timedelta(minutes=minutes_ago)
    rows = [
        Plan(
            plan_id=f"{first + number:016x}", symbol="BTCUSDT", action="PARTIAL_25", decision="EXECUTE",
            kill_score="0.5", timestamp="1700000000", digest="d" * 64, mode="paper", account="main",
            created_at=at, expires_at=at,
            **{"state": "filled", "wait_ms": number % 20, "ended_at": at, "result_id": "1-0", **more},
        )
        for number in range(n)
    ]  # fmt: skip
    return [row.plan_id for row in Plan.objects.bulk_create(rows)]


def orders(plan_ids: list[str], *, after_ms: int) -> None:
    made = {plan.plan_id: plan.created_at for plan in Plan.objects.filter(plan_id__in=plan_ids)}
    Order.objects.bulk_create(
        Order(
            plan_id=plan_id, step="CLOSE_PARTIAL_25", client_order_id=f"q-{plan_id}", symbol="BTCUSDT",
            side="SELL", quantity=Decimal("0.1"), timestamp_ms=1, consumed_at=at, intended_at=at,
            sent_at=at + dt.timedelta(milliseconds=after_ms), governor_permit="{}", p33_permit="{}",
        )
        for plan_id, at in made.items()
    )  # fmt: skip


def permits(plan_ids: list[str], *, gate: str, verdict: bool) -> None:
    at = clock.now()
    Permit.objects.bulk_create(
        Permit(
            plan_id=plan_id, gate=gate, verdict=verdict, reason="r", symbol="BTCUSDT", digest="d",
            mode="paper", account="main", issuer="tests", raw="{}", issued_at=at, expires_at=at,
        )
        for plan_id in plan_ids
    )  # fmt: skip


@contextmanager
def asked() -> Iterator[CaptureQueriesContext]:
    with CaptureQueriesContext(connection) as queries:
        yield queries


@pytest.fixture
def web(redis: Client, transactional_db: None) -> WebClient:
    return someone("root", superuser=True)


def status(*words: str) -> tuple[int, str]:
    out, code = StringIO(), 0
    try:
        call_command("status", *words, stdout=out, stderr=StringIO())
    except SystemExit as left:
        code = int(str(left.code))
    return code, out.getvalue()


# ---- the hour


def test_the_last_hour_is_counted_and_nothing_older(web: WebClient) -> None:
    done = plans(10)
    plans(3, first=100, state="blocked", error="hold", wait_ms=None)
    plans(2, first=200, state="blocked", error="governor_denied", gate_reason="halted", wait_ms=1201)
    plans(1, first=300, state="unknown", wait_ms=5)
    plans(7, first=400, minutes_ago=61)
    orders(done, after_ms=17)
    permits(done, gate="governor", verdict=True)
    permits(done[:4], gate="p33", verdict=False)
    found = hour.look()
    assert (found.done, found.refused, found.unknown) == (10, 5, 1)
    assert list(found.causes) == [("hold", 3), ("halted", 2)]
    assert (found.wait.n, found.wait.over(1200), found.wait.percentile(50)) == (13, 2, 5)
    assert found.order.as_data() == {"n": 10, "p50_ms": 17, "p95_ms": 17}
    assert found.gates == {"governor": (10, 0), "p33": (0, 4)}
    busy = [at for at, minute in enumerate(found.minutes) if minute.done]
    assert busy in ([55], [54]), "oldest first, this minute last"


def test_home_shows_those_figures_and_says_its_pictures_in_words(web: WebClient) -> None:
    plans(10)
    plans(3, first=100, state="blocked", error="hold", wait_ms=None)
    shown = text_of(web.get(reverse("admin:index")))
    assert 'aria-label="Exits by minute: 10 done, 3 refused, 0 unknown in the last hour"' in shown
    assert "Wait for both permits of 10 plans: half within 4 ms, 95 % within 9 ms, 0 over 1200 ms" in shown
    assert re.search(r'<b class="num">3</b> <span class="id">hold</span> <span class="quiet">\w+', shown)


@pytest.mark.parametrize(
    ("counts", "percent", "value"),
    [
        ({}, 50, None),
        ({7: 1}, 95, 7),
        ({1: 50, 2: 50}, 50, 1),
        ({1: 50, 2: 50}, 51, 2),
        ({1: 95, 9: 5}, 95, 1),
    ],
)
def test_a_percentile_is_a_number_that_was_there(
    counts: dict[int, int], percent: int, value: int | None
) -> None:
    assert Spread(counts).percentile(percent) == value


def test_a_single_refusal_among_thousands_can_be_seen() -> None:
    chart = charts.columns([[("good", 5000), ("bad", 1)]], labels=[""], says="")
    assert float(chart.bars[1].height) >= 2


@pytest.mark.parametrize(
    ("apart", "at", "beyond"),
    [
        ("0", "50.0", False),
        ("0.1", "75.0", False),
        ("-0.1", "25.0", False),
        ("0.11", "77.5", True),
        ("9", "97.0", True),
    ],
)
def test_a_difference_lies_in_the_middle_half_while_it_is_tolerated(
    apart: str, at: str, beyond: bool
) -> None:
    assert charts.in_band(Decimal(apart), tolerance=Decimal("0.1")) == (at, beyond)


# ---- what it costs


def test_home_asks_as_often_for_a_thousand_plans_as_for_ten_and_each_time_by_an_index(web: WebClient) -> None:
    ids = plans(10)
    orders(ids, after_ms=5)
    with asked() as few:
        glance.look()
    more = plans(990, first=1000)
    orders(more, after_ms=5)
    permits(more, gate="p33", verdict=True)
    with asked() as many:
        glance.look()
    assert len(many) == len(few) <= 24
    if connection.vendor == "sqlite":
        for query in many.captured_queries:
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN QUERY PLAN {query['sql']}")
                steps = [row[3] for row in cursor.fetchall()]
            scans = [step for step in steps if step.startswith("SCAN") and step.endswith(HOT)]
            assert not scans or " LIMIT 8" in query["sql"], (scans, query["sql"])


def test_viewers_who_may_see_the_same_share_one_look(web: WebClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "FRESH_MS", 60_000)  # whatever this machine does meanwhile
    monkeypatch.setattr(live, "LIFE_S", 60)
    plans(3)
    part = reverse("admin:home_part")
    first = web.get(part)
    other = someone("other", superuser=True)
    other.get(part)  # his own session and permissions are read once
    with asked() as queries:
        second = other.get(part)
    assert second.content == first.content
    assert not [query for query in queries.captured_queries if "apply_plan" in query["sql"]]
    assert int(second["X-Age-Ms"]) >= int(first["X-Age-Ms"]) >= 0


def test_a_part_is_answered_without_the_frame_that_a_page_needs(
    web: WebClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked again and again by everybody who looks, it must not count up what all he may open."""

    def frame(_: object) -> None:
        raise AssertionError("nobody sees it")

    monkeypatch.setattr(admin.site, "each_context", frame)
    for page in pages.declared():
        if page.name.endswith("_part") and "<" not in page.path:
            assert web.get(reverse(f"admin:{page.name}")).status_code == 200, page.name


def test_an_hour_is_drawn_as_one_shape_per_tone() -> None:
    stacks = [[("good", 2), ("bad", 1)], [("good", 0), ("bad", 0)], [("good", 4), ("bad", 0)]]
    chart = charts.columns(stacks, labels=["", "", ""], says="")
    assert list(chart.shapes) == ["good", "bad"]
    assert chart.shapes["good"].count("z") == 2 and chart.shapes["bad"].count("z") == 1
    first = chart.bars[0]
    assert chart.shapes["good"].startswith(f"M{first.x} {first.y}h{first.width}v{first.height}h-")


def test_who_may_see_less_never_gets_what_was_made_for_another(web: WebClient) -> None:
    trading.change(state=TradingState.State.HALTED, by="nina", reason="strange prices")
    plans(1)
    part = reverse("admin:home_part")
    assert "strange prices" in text_of(web.get(part))
    shown = text_of(someone("guest").get(part))
    assert "strange prices" not in shown
    assert f"{0:016x}" not in shown
    assert "No exit can leave" in shown
    assert "more that your groups do not show you" in shown


def test_the_living_part_is_looked_at_only_by_who_is_logged_in(web: WebClient) -> None:
    part = reverse("admin:home_part")
    assert WebClient().get(part).status_code == 302
    assert web.post(part).status_code == 405
    assert "no-cache" in web.get(part)["Cache-Control"]


def test_without_the_cache_everybody_is_answered_all_the_same(web: WebClient) -> None:
    plans(1)
    nowhere = {**settings.CACHES, "pages": {**settings.CACHES["pages"], "LOCATION": NOWHERE}}
    with override_settings(CACHES=nowhere):
        assert f"{0:016x}" in text_of(web.get(reverse("admin:home_part")))


# ---- what is in the way


def test_home_and_status_say_that_exits_flow(house: House, web: WebClient) -> None:
    house.start()
    house.exit("BTCUSDT")
    for name in redis_users.ROLES:  # roles of a test have no lease, which is what beats
        beat = settings.KEYS.heartbeat(name, settings.QUANTUM_HOST)
        house.redis.set(beat, "{}", px=lease.HEARTBEAT_LIFE_MS)
    shown = text_of(web.get(reverse("admin:index")))
    code, told = status()
    house.stop()
    assert "Exits can leave</h2>" in shown
    assert shown.count("</span> alive") == 4
    assert (code, told.splitlines()[0]) == (0, "PAPER main: Exits can leave")
    assert "1 done, 0 refused" in told


@pytest.mark.parametrize(
    ("scope", "words"), [("automatic", "HALTED for automatic plans"), ("everything", "HALTED for everything")]
)
def test_a_halt_stops_exits_and_names_who_why_and_the_way_out(web: WebClient, scope: str, words: str) -> None:
    trading.change(state=TradingState.State.HALTED, by="nina", reason="strange prices", scope=scope)
    code, told = status("--json")
    found = json.loads(told)
    assert code == 4
    assert found["flows"] is False
    assert found["troubles"][0] == {
        "text": words, "why": "nina: strange prices", "stops": True,
        "command": "trading_state resume --reason '...'",
    }  # fmt: skip
    shown = text_of(web.get(reverse("admin:index")))
    assert "No exit can leave" in shown
    assert words in shown


def test_what_needs_a_look_is_named_with_where_one_acts(web: WebClient, redis: Client) -> None:
    holds.place(redis, symbol="ETHUSDT", by="omar", reason="drift")
    Incident.objects.create(
        account="main", symbol="SOLUSDT", kind="quantity", cause="manual_trade", exchange_amt=Decimal(1),
        ledger_amt=Decimal(2), diff=Decimal(1), tolerance=Decimal("0.1"),
    )  # fmt: skip
    [plan_id] = plans(1, state="unknown", result_id="", ended_at=None)
    shown = text_of(web.get(reverse("admin:index")))
    for page in (
        reverse("admin:positions_reconcile_symbol", args=["ETHUSDT"]),
        reverse("admin:positions_reconcile_symbol", args=["SOLUSDT"]),
        reverse("admin:apply_plan_change", args=[plan_id]),
    ):
        assert f'<a href="{page}">Look and act</a>' in shown
    told = status()[1]
    for command in ("reconcile ETHUSDT", "reconcile SOLUSDT", f"order_resolve {plan_id}"):
        assert f"manage.py {command}" in told


@pytest.mark.parametrize(
    ("scope", "verdict"), [("automatic", "No automatic exit can leave"), ("everything", "No exit can leave")]
)
def test_a_halt_of_automatic_plans_does_not_say_that_a_person_has_no_way_out(
    web: WebClient, redis: Client, scope: str, verdict: str
) -> None:
    trading.change(state=TradingState.State.HALTED, by="nina", reason="strange prices", scope=scope)
    row = trading.newest()
    lives = running.Running(consumers=(), dead_letters=0, armed=False, lines={})
    found = dataclasses.replace(glance.look(), running=lives, state=row)
    assert found.verdict == verdict
    assert dataclasses.replace(found, running=None).verdict == "No exit can leave"


def test_a_silent_gate_stops_exits_and_a_silent_warden_needs_a_look(web: WebClient) -> None:
    """Nobody has ever started here: all four are silent."""
    found = {each.text: each.stops for each in glance.look().troubles}
    silent = {name: found[f"{name} is silent"] for name in redis_users.ROLES}
    assert silent == {"governor": True, "p33": True, "apply": True, "warden": False}


def test_status_leaves_with_5_where_redis_does_not_answer(web: WebClient) -> None:
    with override_settings(REDIS_URL=NOWHERE):
        code, told = status()
    assert code == 5
    assert "Redis does not answer" in told


def test_a_consumer_that_keeps_dying_is_seen_for_an_hour(web: WebClient, redis: Client) -> None:
    key, now_ms = roles.starts_key("p33"), clock.now_ms()
    redis.hset(key, mapping={str(now_ms - ago_ms): 1 for ago_ms in (3_600_001, 3_500_000, 20)})
    roles._note_start(roles.find("p33"))
    assert redis.hlen(key) == 3, "the one of more than an hour ago is forgotten"
    shown = text_of(web.get(reverse("admin:index")))
    assert re.search(r"<b>p33</b>.*?<td class=\"right\">2</td></tr>", shown)


def test_home_tells_the_state_the_holds_and_the_last_results(web: WebClient, redis: Client) -> None:
    trading.change(state=TradingState.State.HALTED, by="nina", reason="strange prices")
    holds.place(redis, symbol="ETHUSDT", by="omar", reason="drift")
    plan = plan_row(1, state="blocked", gate_reason="no_position", ended_at=clock.now())
    redis.xadd(settings.KEYS.dead_letters(settings.KEYS.plan_stream), {"error": "x"})
    shown = text_of(web.get(reverse("admin:index")))
    for told in (
        "HALTED",
        "strange prices",
        "ETHUSDT is frozen",
        "omar",
        "no_position",
        plan.plan_id,
        "silent",
    ):
        assert told in shown, told
    assert re.search(r"<span class=\"chip warn\">.* 1 dead letter</span>", shown)


def test_home_says_when_the_state_is_active_but_not_armed(web: WebClient, redis: Client) -> None:
    trading.change(state=TradingState.State.ACTIVE, by="nina", reason="all is well")
    assert "not armed" in text_of(web.get(reverse("admin:index")))
    trading.project(redis, trading.current())
    caches["pages"].clear()
    assert "not armed" not in text_of(web.get(reverse("admin:index")))


def test_home_opens_without_redis_and_says_so(web: WebClient) -> None:
    plan_row(1, state="filled", ended_at=clock.now())
    with override_settings(REDIS_URL=NOWHERE):
        answer = web.get(reverse("admin:index"))
    assert answer.status_code == 200
    assert "Redis does not answer" in text_of(answer)
    assert f"{1:016x}" in text_of(answer)


def test_home_shows_nobody_what_he_may_not_see(redis: Client, transactional_db: None) -> None:
    trading.change(state=TradingState.State.HALTED, by="nina", reason="strange prices")
    holds.place(redis, symbol="ETHUSDT", by="omar", reason="drift")
    plan_row(1, state="filled", ended_at=clock.now())
    shown = text_of(someone("guest").get(reverse("admin:index")))
    for hidden in ("strange prices", "omar", f"{1:016x}"):
        assert hidden not in shown
