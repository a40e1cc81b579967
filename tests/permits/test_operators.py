"""An operator signs, where policy leaves that to people, and for what can still be done."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from msgspec.structs import replace
from redis.exceptions import ConnectionError as RedisConnectionError

from permits import operators
from permits.desk import payloads
from permits.desk.desk import Desk, Issued
from permits.desk.peek import peek
from permits.gate.gate import Gate
from permits.gate.outcome import Blocked, SpentPair
from permits.models import Hold
from permits.operators import Draft, NotSigned, Signed, Wish
from quantum import clock
from quantum.plan import ExitPlan
from quantum.redis import Client
from tests.house import House
from tests.permits.conftest import outcome_of
from tests.permits.desk_by_hand import (
    allow,
    issue,
    issued_both,
    kinds,
    on_stream,
    revoke,
    snapshot,
    wish,
)
from tests.permits_by_hand import GOVERNOR, P33, lay, permit

pytestmark = pytest.mark.django_db


def signed(redis: Client, plan: ExitPlan, wanted: Wish) -> Signed | NotSigned:
    drafted = operators.draft(redis, plan_id=plan.plan_id, wish=wanted)
    return operators.sign(redis, drafted) if isinstance(drafted, Draft) else drafted


def test_an_operators_grant_is_signed_with_the_operator_key_and_says_who_and_why(
    redis: Client, keys: None
) -> None:
    allow(GOVERNOR)
    plan = on_stream(redis)
    done = signed(redis, plan, wish())
    assert isinstance(done, Signed)
    [standing] = peek(redis, plan.plan_id).standing
    assert (standing.signer, standing.problem) == ("operator", "")
    assert standing.permit is not None and standing.permit.digest == plan.digest
    assert standing.permit.issuer == "operator:nina@main"
    assert b"the Governor is down" in standing.raw
    assert (done.row.verdict, done.row.issuer) == (True, "operator:nina@main")
    assert kinds(plan) == ["permit_grant_asked", "permit_granted"]


def test_a_grant_of_p33_needs_a_quantity_within_policy_and_position(redis: Client, keys: None) -> None:
    allow(P33, BTCUSDT="0.5")
    plan = on_stream(redis)
    assert_not(signed(redis, plan, wish(P33, quantity="0.25")), "position_unknown")
    for age_s in (3600, -3600):  # an exchange's clock that is ahead must not make it fresh for an hour
        snapshot(redis, "1", age_s=age_s)
        assert_not(signed(redis, plan, wish(P33, quantity="0.25")), "position_unknown")
    snapshot(redis, "0.4")
    assert_not(signed(redis, plan, wish(P33)), "usage")
    assert_not(signed(redis, plan, wish(P33, quantity="0.6")), "not_allowed")
    assert_not(signed(redis, plan, wish(P33, quantity="0.45")), "too_large")
    assert peek(redis, plan.plan_id).standing == []
    done = signed(redis, plan, wish(P33, quantity="0.25"))
    assert isinstance(done, Signed) and done.row.quantity == Decimal("0.25")
    assert b'"ledger":"unknown"' in done.raw, "what nobody looked up is not claimed"


def test_a_grant_of_p33_carries_what_the_ledger_says(redis: Client, keys: None) -> None:
    allow(P33, BTCUSDT="0.5")
    plan = on_stream(redis)
    snapshot(redis, "1")
    redis.hset(settings.KEYS.ledger("BTCUSDT"), "last_known_amt", "0.9")
    done = signed(redis, plan, wish(P33, quantity="0.25"))
    assert isinstance(done, Signed)
    assert b'"ledger_amt":0.9' in done.raw and b"unknown" not in done.raw


def assert_not(answer: Signed | NotSigned, reason: str) -> None:
    assert isinstance(answer, NotSigned), "it was signed"
    assert answer.reason == reason
    assert len(answer.text) > 20


def test_what_policy_does_not_name_no_operator_grants_but_anybody_may_be_denied(
    redis: Client, keys: None
) -> None:
    plan = on_stream(redis)
    assert_not(signed(redis, plan, wish()), "not_allowed")
    done = signed(redis, plan, wish(verdict=False))
    assert isinstance(done, Signed) and not done.row.verdict
    assert kinds(plan) == ["permit_denial_asked", "permit_denied"]


def test_a_grant_for_what_is_over_is_refused_with_its_reason(gate: Gate, redis: Client) -> None:
    allow(GOVERNOR)
    assert_not(signed(redis, House.make(), wish()), "unknown_plan")
    old = on_stream(redis, timestamp_text=f"{clock.now_s() - 31:.3f}")
    assert_not(signed(redis, old, wish()), "unknown_plan")
    spent = issued_both(redis)
    assert isinstance(outcome_of(gate, spent), SpentPair)
    assert_not(signed(redis, spent, wish()), "already_consumed")
    standing = on_stream(redis)
    issue(redis, standing, GOVERNOR, verdict=False, reason="mode")
    assert_not(signed(redis, standing, wish()), "standing")
    revoke(redis, standing)
    assert_not(signed(redis, standing, wish()), "revoked")
    ended = on_stream(redis)
    redis.set(settings.KEYS.result_published(ended.plan_id), "1-0")
    assert_not(signed(redis, ended, wish()), "plan_ended")


def test_a_grant_is_for_the_plan_that_was_published_first(redis: Client, keys: None) -> None:
    allow(GOVERNOR)
    plan = on_stream(redis)
    redis.xadd(settings.KEYS.plan_stream, {**House.make("ETHUSDT").fields(), "plan_id": plan.plan_id})
    done = signed(redis, plan, wish())
    assert isinstance(done, Signed) and (done.row.symbol, done.row.digest) == ("BTCUSDT", plan.digest)


def test_the_gate_that_reads_the_plan_later_leaves_the_operators_permit_standing(
    redis: Client, keys: None
) -> None:
    allow(GOVERNOR)
    plan = on_stream(redis)
    done = signed(redis, plan, wish())
    later = issue(redis, plan, GOVERNOR, verdict=False, reason="mode")
    assert isinstance(done, Signed) and isinstance(later, Issued)
    assert (later.raw, later.fresh) == (done.raw, False)


def test_who_asked_is_kept_when_redis_is_lost_in_the_middle(
    redis: Client, keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(GOVERNOR)
    plan = on_stream(redis)
    drafted = operators.draft(redis, plan_id=plan.plan_id, wish=wish())
    assert isinstance(drafted, Draft)

    def lost(*_: Any) -> None:
        raise RedisConnectionError

    monkeypatch.setattr(Desk, "issue", lost)
    with pytest.raises(RedisConnectionError):
        operators.sign(redis, drafted)
    assert kinds(plan) == ["permit_grant_asked"]


def test_permits_laid_by_hand_are_seen_like_any_other(redis: Client, keys: None) -> None:
    plan = House.make()
    lay(redis, plan, governor=permit(plan, GOVERNOR, symbol="ETHUSDT"))
    [standing] = peek(redis, plan.plan_id).standing
    assert standing.permit is not None and standing.permit.symbol == "ETHUSDT"


def test_a_grant_passes_the_hold_it_names_only_when_that_was_asked(redis: Client, keys: None) -> None:
    allow(GOVERNOR)
    asked = replace(wish(), through_hold=True)
    assert_not(signed(redis, on_stream(redis), asked), "no_hold")
    hold = Hold.objects.create(symbol="BTCUSDT", reason="drift", by="tests")
    for wanted, named in ((wish(), None), (asked, hold.pk)):
        done = signed(redis, on_stream(redis), wanted)
        assert isinstance(done, Signed)
        assert payloads.read(done.raw, gate=GOVERNOR, all_fields=True).hold_id == named


def test_an_operators_grants_of_both_gates_are_spent_where_the_policy_says_so(
    gate: Gate, redis: Client
) -> None:
    allow(GOVERNOR, P33, BTCUSDT="0.25")
    snapshot(redis, "1")
    plan = on_stream(redis)
    for wanted in (wish(), wish(P33, quantity="0.25")):
        assert isinstance(signed(redis, plan, wanted), Signed)
    spent = outcome_of(gate, plan)
    assert isinstance(spent, SpentPair), spent
    assert (spent.governor.issuer, spent.safe_quantity) == ("operator:nina@main", Decimal("0.25"))


def test_an_operators_denial_ends_the_wait_as_a_denial_of_the_gate(gate: Gate, redis: Client) -> None:
    plan = on_stream(redis)
    assert isinstance(signed(redis, plan, wish(verdict=False)), Signed)
    outcome = outcome_of(gate, plan)
    assert isinstance(outcome, Blocked)
    assert (outcome.reason, outcome.gate_reason) == ("governor_denied", "operator_denied")


@pytest.mark.parametrize(("most", "safe"), [("0.1", "0.1"), ("0.4", "0.25"), (None, "0.25")])
def test_an_operators_grant_of_the_governor_lets_no_more_be_closed_than_it_says(
    gate: Gate, redis: Client, most: str | None, safe: str
) -> None:
    """And by what it says the policy judges it: p33's place may allow more since."""
    allow(GOVERNOR, BTCUSDT=most or "1")
    plan = on_stream(redis)
    assert isinstance(signed(redis, plan, wish(quantity=most)), Signed)
    assert not redis.exists(settings.KEYS.reserved(GOVERNOR)), "the Governor's own limits hold nothing of it"
    issue(redis, plan, P33)
    spent = outcome_of(gate, plan)
    assert isinstance(spent, SpentPair) and spent.safe_quantity == Decimal(safe)


def test_an_operators_denial_names_no_quantity(redis: Client, keys: None) -> None:
    plan = on_stream(redis)
    done = signed(redis, plan, wish(verdict=False, quantity="0.1"))
    assert isinstance(done, Signed) and not done.row.quantity
