"""The shipped rules and the dashboard: every name they use is exported, and every rule fires on real output of
/metrics when its hour has come, and rests when all is well."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.test import Client as WebClient

from apply.models import Alert, Notice, Plan
from apply.plans import blocked
from permits.gate import alarms
from permits.models import Hold
from positions.books import tampering
from positions.models import Incident
from quantum import clock, metrics
from quantum.exchange import user_stream
from quantum.models import Verification
from tests.alerts_by_hand import Calm, halt
from tests.flow.test_home import orders, plans
from tests.prometheus_by_hand import Rule, Scrape, fires, rules, scraped

FOLDER = settings.BASE_DIR / "docs/monitoring"
RULES = {rule.alert: rule for rule in rules(FOLDER / "quantum.rules.yml")}
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "quantum-dashboard.json").read_text())
SHOWN = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
OURS = r"\b(?:quantum|p33)_[a-z0-9_]+"
MADE = re.compile(
    r"(Counter|Gauge|Histogram|metrics\.histogram|GaugeMetricFamily|_family|\bgauge)\(\s*\"((?:quantum|p33)_[a-z0-9_]+)\""
)
ELSEWHERE = {
    "p33_user_stream_down_since_epoch": "the same as quantum_user_stream_live_since_epoch, for doctor"
}


@pytest.fixture(autouse=True)
def no_exit_of_another_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process counts on from scrape to scrape; between two tests the database is another."""
    monkeypatch.setattr(blocked, "_times", blocked.BlockedTimes())


def exported() -> set[str]:
    """Read from the source: a counter with labels stands on /metrics only when it has counted."""
    found = {name for name in ELSEWHERE if any(name in text for text in _sources())}
    for text in _sources():
        found |= {match[2] for match in MADE.finditer(text)}
    return found


def _sources() -> list[str]:
    folders = ("quantum", "permits", "positions", "apply")
    return [path.read_text() for folder in folders for path in (settings.BASE_DIR / folder).rglob("*.py")]


def named(exprs: list[str]) -> set[str]:
    return {re.sub(r"_bucket$", "", name) for expr in exprs for name in re.findall(OURS, expr)}


def test_rules_and_dashboard_name_what_is_exported_and_leave_nothing_out() -> None:
    used = named([rule.expr for rule in RULES.values()] + SHOWN)
    known = exported()
    assert used <= known, f"nobody exports {sorted(used - known)}"
    assert known - used == set(ELSEWHERE), "put it on the dashboard, or say in ELSEWHERE why not"


def test_every_panel_and_rule_says_something_to_people() -> None:
    assert {rule.severity for rule in RULES.values()} == {"critical", "warning"}
    titles = [panel["title"] for panel in DASHBOARD["panels"]]
    assert len(titles) == len(set(titles))
    boxes = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(box["x"] + box["w"] <= 24 for box in boxes)
    commands = {word for rule in RULES.values() for word in re.findall(r"manage\.py (\w+)", rule.action)}
    assert all((settings.BASE_DIR / "README.md").read_text().count(f"manage.py {word}") for word in commands)


def look() -> Scrape:
    return scraped(WebClient().get("/metrics").content.decode())


def burning(now: Scrape, before: Scrape) -> set[str]:
    return {name for name, rule in RULES.items() if fires(rule.expr, now=now, before=before)}


def _unknown_order() -> None:
    orders(plans(1, first=900, state=Plan.State.UNKNOWN, result_id="", ended_at=None), after_ms=1)


def _notice() -> None:
    alert = Alert.objects.create(key="halted:", text="HALTED", told_at=clock.now())
    Notice.objects.create(alert=alert, event="alert", target="webhook", mark="1", body="{}")


def _drift() -> None:
    amounts = {
        "exchange_amt": Decimal(1),
        "ledger_amt": Decimal(0),
        "diff": Decimal(1),
        "tolerance": Decimal("0.1"),
    }
    Incident.objects.create(
        account=settings.ACCOUNT, symbol="BTCUSDT", kind="quantity", cause="manual_trade", **amounts
    )


DEAD_LETTERS = settings.KEYS.dead_letters(settings.KEYS.plan_stream)
MAKES: dict[str, Callable[[Calm], object]] = {
    "QuantumHalted": lambda _: halt(),
    "QuantumNotArmed": lambda calm: calm.redis.delete(settings.KEYS.trading_state),
    "QuantumRoleSilent": lambda calm: calm.redis.delete(settings.KEYS.heartbeat("p33", settings.QUANTUM_HOST)),
    "QuantumGaugesUnreadable": lambda calm: calm.redis.set(DEAD_LETTERS, "no stream"),
    "QuantumExchangeNotSeen": lambda calm: calm.redis.hset(settings.KEYS.snapshot("BTCUSDT"), "seen_epoch", "1000"),
    "QuantumExitBlocked": lambda _: plans(1, state="blocked", error="hold", minutes_ago=3),
    "QuantumExitBlockedLong": lambda _: plans(1, state="blocked", error="hold", minutes_ago=11),
    "QuantumOrderUnknown": lambda _: _unknown_order(),
    "QuantumIncident": lambda _: _drift(),
    "QuantumHold": lambda _: Hold.objects.create(symbol="ETHUSDT", by="nina", reason="to see"),
    "QuantumDeadLetters": lambda calm: calm.redis.xadd(DEAD_LETTERS, {"a": "b"}),
    "QuantumAuditBroken": lambda _: Verification.objects.create(outcome="broken", text="x", seals=1, events=1),
    "QuantumAuditUnsealed": lambda calm: calm.later(61),
    "QuantumUserStreamDown": lambda _: user_stream.LIVE_SINCE.set(0),
    "QuantumPermitForged": lambda _: alarms.ALARMS.labels(reason="bad_signature").inc(),
    "QuantumLedgerCopyTampered": lambda _: tampering.TAMPERED.labels(symbol="BTCUSDT").inc(),
    "QuantumAlertsNotTaken": lambda _: _notice(),
}  # fmt: skip
BESIDE = {
    "QuantumExitBlockedLong": {"QuantumExitBlocked"},
}
"""What is true with it."""
OF_THE_PROCESS = {"QuantumUserStreamDown", "QuantumLedgerCopyTampered", "QuantumPermitForged"}
"""Counted by whatever feed or gate runs in this process: one of an earlier test may be about to end."""


@pytest.mark.parametrize("alert", MAKES)
def test_a_rule_rests_in_calm_weather_and_fires_on_what_it_is_for(calm: Calm, alert: str) -> None:
    user_stream.LIVE_SINCE.set(clock.now_s())
    before = look()
    assert burning(before, before) <= OF_THE_PROCESS
    MAKES[alert](calm)
    meant = {alert, *BESIDE.get(alert, set())}
    assert meant <= burning(look(), before) <= meant | OF_THE_PROCESS


def test_a_group_that_is_behind_and_a_plan_that_stays_in_hand(calm: Calm) -> None:
    user_stream.LIVE_SINCE.set(clock.now_s())
    before = look()
    stream = settings.KEYS.plan_stream
    calm.redis.xgroup_create(stream, "apply", id="0", mkstream=True)
    for number in range(12):
        calm.redis.xadd(stream, {"a": "b"}, id=f"{clock.now_ms() - 9000}-{number}")
    assert burning(look(), before) - OF_THE_PROCESS == {"QuantumGroupBehind"}
    calm.redis.xreadgroup("apply", "tests", {stream: ">"})
    assert burning(look(), before) - OF_THE_PROCESS == {"QuantumPlanInHand"}


def test_a_group_that_fails_again_and_again(calm: Calm) -> None:
    user_stream.LIVE_SINCE.set(clock.now_s())
    failures = metrics.HANDLER_FAILURES.labels(group="apply")
    failures.inc()
    before = look()
    failures.inc(3)
    assert burning(look(), before) - OF_THE_PROCESS == set()
    failures.inc()
    assert burning(look(), before) - OF_THE_PROCESS == {"QuantumHandlerFails"}


def test_nothing_scraped_is_an_alert_of_its_own() -> None:
    assert burning({}, {}) == {"QuantumNotScraped"}


def test_every_rule_was_made_to_fire() -> None:
    elsewhere = {"QuantumGroupBehind", "QuantumPlanInHand", "QuantumHandlerFails", "QuantumNotScraped"}
    assert set(MAKES) | elsewhere == set(RULES)


def test_the_evaluator_refuses_what_it_does_not_know() -> None:
    odd = Rule("Odd", "rate(quantum_x_total[5m]) > 0", "0s", "warning", "", "")
    with pytest.raises(AssertionError, match="does not know"):
        fires(odd.expr, now={}, before={})
