"""Blocked time: from the first refused exit of a symbol to the next that fills or finds the position gone."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Callable
from decimal import Decimal

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apply.models import Plan
from apply.plans import blocked, publish
from apply.plans.blocked import BlockedTimes
from positions.models import Balance
from quantum import clock
from tests.house import House
from tests.orders_by_hand import reborn

pytestmark = pytest.mark.usefixtures("db")

NOW = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = [NOW]
    monkeypatch.setattr(clock, "now", lambda: now[0])

    def move(seconds: float) -> None:
        now[0] = NOW + dt.timedelta(seconds=seconds)

    return move


def ended(state: str, s: float, *, symbol: str = "BTCUSDT", error: str = "", gate_reason: str = "") -> Plan:
    """A plan that ended so many seconds after the start of the test."""
    plan = House.make(symbol)
    publish.ensure_row(plan, actor="tests", stream_id="1-1")
    end = NOW + dt.timedelta(seconds=s)
    return reborn(
        plan.plan_id,
        state=state,
        error=error,
        gate_reason=gate_reason,
        created_at=end,
        ended_at=end if state != "open" else None,
    )


def refused(s: float, error: str = "hold", *, symbol: str = "BTCUSDT", gate_reason: str = "") -> Plan:
    return ended("blocked", s, symbol=symbol, error=error, gate_reason=gate_reason)


def denied(s: float, gate_reason: str) -> Plan:
    return refused(s, "permit_denied:p33_denied", gate_reason=gate_reason)


def test_it_counts_from_the_first_refusal_per_symbol_and_cause(at: Callable[[float], None]) -> None:
    refused(0, "hold")
    refused(10, "hold")
    refused(20, "permit_timeout_or_missing:missing_p33")
    refused(25, "halted", symbol="ETHUSDT")
    at(30)
    assert BlockedTimes().seconds() == {
        ("BTCUSDT", "hold"): 30,
        ("BTCUSDT", "missing_p33"): 10,
        ("ETHUSDT", "halted"): 5,
    }


@pytest.mark.parametrize("state", ["filled", "partially_filled", "already_done"])
def test_an_exit_that_filled_ends_it_for_its_symbol(at: Callable[[float], None], state: str) -> None:
    refused(0)
    refused(0, symbol="ETHUSDT")
    ended(state, 5)
    at(30)
    assert BlockedTimes().seconds() == {("ETHUSDT", "hold"): 30}
    refused(20)
    assert BlockedTimes().seconds()["BTCUSDT", "hold"] == 10


def test_a_plan_that_found_the_position_gone_ends_it(at: Callable[[float], None]) -> None:
    refused(0)
    denied(5, "no_position")
    at(30)
    assert BlockedTimes().seconds() == {}


def test_a_position_that_is_flat_by_whatever_means_blocks_nothing(at: Callable[[float], None]) -> None:
    times = BlockedTimes()
    refused(0)
    at(30)
    assert times.seconds()
    flat = Balance.objects.create(
        account=settings.ACCOUNT, symbol="BTCUSDT", amount=Decimal(0), moved_ms=0, trades_from_ms=0
    )
    assert times.seconds() == {}
    Balance.objects.filter(pk=flat.pk).update(amount=Decimal(1))
    at(60)
    assert times.seconds() == {}, "an exit of the next position counts from its own first refusal"


@pytest.mark.parametrize("state", ["skipped", "open"])
def test_what_was_not_refused_blocks_nothing(state: str) -> None:
    ended(state, 0)
    assert BlockedTimes().seconds() == {}


@pytest.mark.parametrize("state", ["expired", "rejected", "spent_unsent", "not_at_exchange"])
def test_every_end_without_an_order_filled_counts(at: Callable[[float], None], state: str) -> None:
    ended(state, 0, error="stale_plan")
    at(4)
    assert BlockedTimes().seconds() == {("BTCUSDT", "stale_plan"): 4}


def test_the_gates_own_reason_is_the_cause_and_a_strangers_text_never(at: Callable[[float], None]) -> None:
    denied(0, "cooldown_in_flight")
    denied(0, "<script>" * 10)
    refused(0, "never heard of")
    at(1)
    causes = {cause for _, cause in BlockedTimes().seconds()}
    assert causes == {"cooldown_in_flight", "p33_denied", "other"}


def test_the_order_in_which_rows_are_seen_does_not_matter(at: Callable[[float], None]) -> None:
    times = BlockedTimes()
    late = ended("open", 0)
    refused(10)
    at(30)
    assert times.seconds() == {("BTCUSDT", "hold"): 20}
    reborn(late.plan_id, state="filled", ended_at=NOW + dt.timedelta(seconds=5))
    assert times.seconds() == {("BTCUSDT", "hold"): 20}, "it filled before the refusal"
    refused(3, "halted")
    assert times.seconds() == {("BTCUSDT", "hold"): 20}, "the fill, seen before, came later"
    reborn(late.plan_id, state="open", ended_at=None)
    times = BlockedTimes()
    times.seconds()
    reborn(late.plan_id, state="filled", ended_at=NOW + dt.timedelta(seconds=15))
    assert times.seconds() == {}


def test_a_scrape_reads_new_plans_only_however_many_there_are(at: Callable[[float], None]) -> None:
    times = BlockedTimes()
    for second in range(40):
        refused(second)
    at(100)
    times.seconds()
    refused(99)
    read: list[int] = []
    take_in = times._take_in

    def counted(plans: object) -> None:
        read.append(len(list(plans)))  # type: ignore[call-overload]
        take_in(plans)  # type: ignore[arg-type]

    times._take_in = counted  # type: ignore[method-assign]
    times.seconds()
    assert read == [0, 1]


def test_rows_are_found_by_their_number_not_by_walking_the_table() -> None:
    if connection.vendor != "sqlite":
        pytest.skip("reads SQLite's own plan of the query")
    plan = refused(0)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        BlockedTimes().seconds()
        blocked.of_plan(plan)
    with connection.cursor() as cursor:
        for query in queries.captured_queries:
            if "apply_plan" in query["sql"]:
                cursor.execute(f"EXPLAIN QUERY PLAN {query['sql']}")
                told = " ".join(row[3] for row in cursor.fetchall())
                assert "SCAN" not in told, f"{told}: {query['sql']}"


# ---- one plan


def test_a_plan_tells_how_long_its_symbols_exit_was_blocked(at: Callable[[float], None]) -> None:
    ended("filled", -10)
    refused(0)
    plan = refused(10, "halted")
    at(30)
    found = blocked.of_plan(plan)
    assert found is not None
    assert (found.cause, found.since, found.freed_at, found.seconds) == ("halted", NOW, None, 30)
    ended("filled", 25)
    found = blocked.of_plan(plan)
    assert found is not None
    assert (found.freed_at is not None, found.seconds) == (True, 25)


def test_a_plan_that_filled_or_found_nothing_to_close_was_not_blocked() -> None:
    assert blocked.of_plan(ended("filled", 0)) is None
    assert blocked.of_plan(denied(0, "no_position")) is None
    assert blocked.of_plan(ended("open", 0)) is None


def test_plan_show_tells_it(at: Callable[[float], None]) -> None:
    plan = refused(0)
    at(7)
    out = io.StringIO()
    call_command("plan_show", plan.plan_id, "--json", stdout=out)
    told = json.loads(out.getvalue())["blocked"]
    assert (told["cause"], told["seconds"], told["freed_at"]) == ("hold", 7, None)


def test_the_gauge_names_no_strangers_symbol(
    at: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocked, "_times", BlockedTimes())
    refused(0)
    refused(0, symbol="AAAUSDT")
    refused(5, symbol="BBBUSDT")
    at(10)
    [gauge] = blocked.read()
    told = {(each.labels["symbol"], each.labels["cause"]): each.value for each in gauge.samples}
    assert told == {("BTCUSDT", "hold"): 10, ("other", "hold"): 10}
