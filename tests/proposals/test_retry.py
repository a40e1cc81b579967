"""Which ends may be tried again: a closed table, and one next attempt for each."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import call_command
from pytest_django.fixtures import Settings

from apply.models import Order, Plan
from apply.operators import retry
from apply.operators.retry import NotRetried, RetryByRule
from quantum import clock
from quantum.models import AuditEvent
from quantum.reasons import ApplyReason, GateReason
from quantum.redis import Client
from tests.flow.test_admin import plan_row

pytestmark = pytest.mark.django_db
SAID = {"by": "nina", "reason": "the governor is back"}
MISSING = "permit_timeout_or_missing:missing_governor"
ERRORS = {
    "",
    *(reason.value for reason in (*GateReason, *ApplyReason)),
    *(f"permit_timeout_or_missing:{reason.value}" for reason in GateReason),
    "permit_denied:governor_denied",
    "permit_denied:p33_denied",
}
YES = {
    *(
        ("blocked", f"permit_timeout_or_missing:{reason}")
        for reason in ("missing_both", "missing_governor", "missing_p33", "symbol_busy")
    ),
    ("rejected", "rate_limited"),
}


def ended(number: int = 1, **more: Any) -> Plan:
    said = {"state": "blocked", "error": MISSING, "result_id": "1-1", **more}
    at = clock.now() - dt.timedelta(seconds=10)
    return plan_row(number, created_at=at, ended_at=at, **said)


def order_of(plan: Plan, **more: Any) -> None:
    Order.objects.create(
        plan_id=plan.plan_id, step="CLOSE_PARTIAL_25", client_order_id=f"q-{plan.plan_id}", symbol="BTCUSDT",
        side="SELL", quantity=Decimal(1), timestamp_ms=1, consumed_at=clock.now(), token="t",
        governor_permit="{}", p33_permit="{}", **more,
    )  # fmt: skip


@pytest.mark.parametrize("state", [state.value for state in Plan.State])
def test_of_each_state_exactly_these_ends_may_be_tried_again(state: str) -> None:
    plan = ended(state=state)
    for error in ERRORS:
        plan.error = error
        assert (retry.refusal(plan) == "") is ((state, error) in YES), f"{state} {error}"


def test_the_next_attempt_is_a_plan_of_its_own_that_names_its_parent(redis: Client) -> None:
    parent = ended()
    made = retry.retry(redis, parent, **SAID)
    child = Plan.objects.get(plan_id=made.plan_id)
    assert (child.parent, child.attempt, child.state) == (parent.plan_id, 2, "open")
    assert (child.symbol, child.action, child.kill_score) == ("BTCUSDT", "PARTIAL_25", "0.5")
    assert child.expires_at > clock.now()
    event = AuditEvent.objects.get(kind="plan_retried")
    assert (event.actor, event.reason, event.data["parent"]) == ("nina", SAID["reason"], parent.plan_id)


def test_a_parent_has_one_next_attempt_whoever_asks(redis: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = ended()
    retry.retry(redis, parent, **SAID)
    with pytest.raises(NotRetried, match="already"):
        retry.retry(redis, parent, **SAID)
    monkeypatch.setattr(retry, "refusal", lambda _plan: "")  # both looked before either wrote
    with pytest.raises(NotRetried, match="a moment ago"):
        retry.retry(redis, parent, **SAID)
    assert Plan.objects.filter(parent=parent.plan_id).count() == 1


def test_a_back_off_answer_may_be_tried_again_only_with_an_order_that_surely_did_nothing(
    redis: Client,
) -> None:
    plan = ended(state="rejected", error="rate_limited")
    order_of(plan, status="", executed_quantity=None)
    assert "may exist" in retry.refusal(plan)
    Order.objects.update(status="REFUSED", executed_quantity=Decimal("0.1"))
    assert "may exist" in retry.refusal(plan)
    Order.objects.update(executed_quantity=Decimal(0))
    assert retry.refusal(plan) == ""


def test_a_blocked_plan_that_has_an_order_is_left_alone() -> None:
    plan = ended()
    order_of(plan)
    assert "may exist" in retry.refusal(plan)


def attempts() -> list[int]:
    return sorted(Plan.objects.exclude(parent="").values_list("attempt", flat=True))


def test_by_rule_up_to_the_limit_and_with_a_pause(redis: Client, settings: Settings) -> None:
    settings.APPLY_RETRIES_MAX = 2
    ended()
    rule = RetryByRule(client=redis)
    for expected in ([2], [2], [2, 3], [2, 3], [2, 3]):
        rule.tick()
        assert attempts() == expected
        newest = Plan.objects.first()
        assert newest
        wait = retry.AFTER_S * newest.attempt
        moved = {"state": "blocked", "error": MISSING, "result_id": "1-1"}
        if newest.state == "open":
            Plan.objects.filter(pk=newest.pk).update(ended_at=clock.now(), **moved)
        else:
            Plan.objects.filter(pk=newest.pk).update(ended_at=clock.now() - dt.timedelta(seconds=wait))


def test_by_rule_never_past_a_newer_word_on_the_symbol(redis: Client, settings: Settings) -> None:
    settings.APPLY_RETRIES_MAX = 5
    ended(1)
    ended(2, state="filled", error="")
    RetryByRule(client=redis).tick()
    assert attempts() == []


@pytest.mark.parametrize("other", [{"mode": "testnet"}, {"account": "second"}], ids=str)
def test_a_plan_of_another_account_or_mode_is_not_tried_again_here(other: dict[str, Any]) -> None:
    assert "this is paper main" in retry.refusal(ended(**other))


def test_who_tries_again_past_a_newer_word_is_told_of_it(
    redis: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    old, since = ended(1), ended(2, state="filled", error="")
    with pytest.raises(SystemExit) as left:
        call_command("plan_retry", old.plan_id, reason=SAID["reason"], dry_run=True)
    told = capsys.readouterr().err
    assert left.value.code == 0 and f"plan {since.plan_id}, PARTIAL_25, filled" in told
    assert f"{old.created_at:%Y-%m-%d %H:%M}" in told
