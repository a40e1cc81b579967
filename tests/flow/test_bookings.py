"""What was traded and paid while nobody listened, through the whole house; and what machines are told of it."""

from __future__ import annotations

import io
import json
from decimal import Decimal

import pytest
from django.conf import settings
from django.core.management import call_command
from pytest_django.fixtures import Settings

from positions.feed import silence
from positions.models import Balance, Fill, Funding, Incident
from quantum import clock
from quantum.doctor import Finding, State
from quantum.exchange.inbox import GAP_MARGIN_MS
from quantum.redis import Client
from tests.drift_by_hand import balance
from tests.flow.test_health import scraped
from tests.house import House, wait_for


def test_an_entry_and_its_close_by_hand_while_p33_was_down_and_deaf_are_there_afterwards(
    house: House,
) -> None:
    house.start("p33")
    wait_for(lambda: house.paper.stream()["lines"] == 1, what="the stream to live")
    house.paper.pull_stream("refuse")
    house.paper.pull_stream("cut")
    house.stop("p33")
    ids = {amount: House.entry_id().replace("entry", "web") for amount in ("1.500", "1.000")}
    for amount, by_hand in ids.items():
        house.paper.set_position(symbol="BTCUSDT", amount=amount, client_order_id=by_hand)
    house.paper.control("POST", "/paper/funding", {"amount": "-0.75", "symbol": "BTCUSDT"})
    house.paper.pull_stream("clear")
    clock.sleep_s(GAP_MARGIN_MS / 1000 + 0.5)  # no gap that p33 begins with reaches back to them
    assert not Fill.objects.filter(client_order_id__in=ids.values()).exists()
    house.start("p33")
    wait_for(
        lambda: Fill.objects.filter(client_order_id__in=ids.values(), booked=False).count() == 2,
        what="both trades to be stored",
    )
    paid = Funding.objects.filter(symbol="BTCUSDT")
    wait_for(paid.filter(amount=Decimal("-0.75")).exists, what="the funding")
    out = io.StringIO()
    call_command("ledger_show", "BTCUSDT", "--json", stdout=out)
    told = json.loads(out.getvalue())
    assert told["balance"] == "1"
    assert (told["fills"], told["commission"].keys()) == (
        Fill.objects.filter(symbol="BTCUSDT").count(),
        {"USDT"},
    )
    assert Decimal(told["funding"]["USDT"]) == sum(paid.values_list("amount", flat=True))
    clock.sleep_s(2.5)  # so long a difference would have to last
    assert not Incident.objects.exists()


def test_funding_that_is_paid_while_we_listen_is_known_within_seconds(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("positions.books.income.APART_S", 0.0)
    house.start("p33")
    wait_for(lambda: house.paper.stream()["lines"] == 1, what="the stream to live")
    clock.sleep_s(1.0)
    before = Funding.objects.filter(symbol="ETHUSDT").count()
    house.paper.control("POST", "/paper/funding", {"amount": "0.25", "symbol": "ETHUSDT"})
    wait_for(
        lambda: Funding.objects.filter(symbol="ETHUSDT").count() == before + 1, what="the payment", within_s=8
    )


# ---- metrics


def snapshot(redis: Client, symbol: str, amount: str, *, age_s: float = 3.0) -> None:
    seen = f"{clock.now_s() - age_s:.3f}"
    fields = {
        "position_amt": amount,
        "ts_epoch": seen,
        "seen_epoch": seen,
        "lot_step": "0.001",
        "mark_price": "1",
    }
    redis.hset(settings.KEYS.snapshot(symbol), mapping=fields)


def test_the_scrape_tells_both_sides_of_each_symbol_and_the_age_of_the_exchanges(
    redis: Client, transactional_db: None, settings: Settings
) -> None:
    settings.APPLY_ALLOWLIST = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
    for symbol, said in (("BTCUSDT", "1.5"), ("ETHUSDT", "-8"), ("AUSDT", "3"), ("BUSDT", "4")):
        balance(said, symbol=symbol)
    snapshot(redis, "BTCUSDT", "1.25")
    snapshot(redis, "ETHUSDT", "nonsense")
    snapshot(redis, "AUSDT", "3", age_s=60)
    snapshot(redis, "BUSDT", "4", age_s=30)
    found = scraped()

    def told(name: str) -> dict[str, float]:
        start = name + '{symbol="'
        return {
            line.removeprefix(start)[:-2]: value for line, value in found.items() if line.startswith(start)
        }

    assert told("p33_exchange_position_amt") == {"BTCUSDT": 1.25}
    assert told("p33_ledger_position_amt") == {"BTCUSDT": 1.5, "ETHUSDT": -8}
    ages = told("p33_snapshot_age_seconds")
    assert ages == {"BTCUSDT": pytest.approx(3, abs=1.5), "other": pytest.approx(60, abs=1.5)}
    assert (found["quantum_incidents"], found['quantum_gauges_readable{source="positions"}']) == (0, 1)


# ---- doctor


def told_by_doctor() -> Finding:
    [finding] = silence.examine()
    return finding


def test_doctor_says_for_how_long_the_user_stream_has_been_down(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = silence.Silence()
    kept.tell(lives=False)
    began_s = clock.now_s()
    assert told_by_doctor().state is State.OK, "it begins so, and breaks now and then"
    monkeypatch.setattr(clock, "now_s", lambda: began_s + silence.SILENT_S_MAX + 5)
    kept.tell(lives=False)  # the same silence, told again
    found = told_by_doctor()
    assert (found.state, "down for 65 s" in found.what) == (State.WARN, True)
    kept.tell(lives=True)
    assert (told_by_doctor().state, told_by_doctor().what) == (State.OK, "the user stream lives")


def test_doctor_knows_the_user_stream_of_a_house_at_work(house: House) -> None:
    house.start("p33")
    wait_for(lambda: told_by_doctor().what == "the user stream lives", what="the feed to tell")
    house.paper.pull_stream("refuse")
    house.paper.pull_stream("cut")
    wait_for(lambda: "has been down for" in told_by_doctor().what, what="the feed to tell of the silence")
    assert Balance.objects.exists()
