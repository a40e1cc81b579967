"""What a person does with permits: look, and take back."""

from __future__ import annotations

import datetime as dt
import threading
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from pytest_django.fixtures import Settings

from permits.desk import desk, records
from permits.desk.desk import Issued, NotIssued, NotRevoked, Revoked
from permits.desk.peek import peek
from permits.gate.gate import Gate
from permits.gate.outcome import Blocked, SpentPair
from permits.models import Permit
from quantum import clock
from quantum.fault import FaultRaised
from quantum.plan import ExitPlan
from quantum.redis import Client
from tests.house import House
from tests.permits.conftest import outcome_of
from tests.permits.desk_by_hand import (
    BOTH,
    WHO,
    Fate,
    fates,
    issue,
    issued_both,
    kinds,
    revoke,
)
from tests.permits_by_hand import GOVERNOR, P33, lay, lay_both, permit

pytestmark = pytest.mark.django_db


# ---- peek


def test_a_look_tells_both_permits_their_time_and_whose_key_signed_them(redis: Client, keys: None) -> None:
    plan = issued_both(redis)
    found = peek(redis, plan.plan_id)
    assert [(s.gate, s.signer, s.problem) for s in found.standing] == [
        (GOVERNOR, GOVERNOR, ""),
        (P33, P33, ""),
    ]
    assert all(59_000 < standing.ttl_ms <= 60_000 for standing in found.standing)
    assert found.p33 is not None and found.p33.permit is not None
    assert found.p33.permit.quantity == Decimal("0.25")
    assert (found.receipt, found.revoked, found.ended) == (None, False, False)


def test_a_look_at_a_spent_plan_gives_the_receipt_without_its_token(gate: Gate, redis: Client) -> None:
    plan = issued_both(redis)
    spent = outcome_of(gate, plan)
    assert isinstance(spent, SpentPair)
    found = peek(redis, plan.plan_id)
    assert found.standing == []
    assert found.receipt is not None and found.receipt.governor == spent.governor.raw
    assert spent.token not in repr(found)


def test_a_look_names_what_is_wrong_with_what_stands(redis: Client, keys: None) -> None:
    plan = House.make()
    redis.hset(settings.KEYS.governor_permit(plan.plan_id), "granted", "true")
    redis.set(settings.KEYS.p33_permit(plan.plan_id), permit(plan, P33, signer=GOVERNOR))
    found = peek(redis, plan.plan_id)
    assert found.governor is not None and "another type" in found.governor.problem
    assert found.p33 is not None
    assert (found.p33.signer, found.p33.ttl_ms) == ("", -1)


def test_a_look_without_any_key_says_that_nobody_signed(
    redis: Client, keys: None, settings: Settings, tmp_path: Any
) -> None:
    plan = issued_both(redis)
    settings.PERMIT_KEYS_DIR = tmp_path
    assert {standing.signer for standing in peek(redis, plan.plan_id).standing} == {""}


# ---- revoke


def test_a_revoked_permit_is_gone_recorded_and_can_never_be_spent(gate: Gate, redis: Client) -> None:
    plan = issued_both(redis)
    done = revoke(redis, plan, GOVERNOR)
    assert isinstance(done, Revoked) and done.gates == (GOVERNOR,)
    assert fates(plan) == {GOVERNOR: "revoked", P33: "live"}
    row = Permit.objects.get(plan_id=plan.plan_id, gate=GOVERNOR)
    assert (row.fate_by, row.fate_reason) == ("nina", "changed my mind")
    assert kinds(plan)[-2:] == ["permit_revoke_asked", "permit_revoked"]
    outcome = outcome_of(gate, plan)
    assert isinstance(outcome, Blocked) and outcome.reason == "missing_governor"


def test_no_later_wake_up_carries_a_revoked_permit(redis: Client, keys: None) -> None:
    plan = House.make()
    issue(redis, plan, GOVERNOR)
    assert redis.hexists(settings.KEYS.pair(plan.plan_id), "governor_raw")
    revoke(redis, plan, GOVERNOR)
    assert redis.hkeys(settings.KEYS.pair(plan.plan_id)) == [b"digest"]


@pytest.mark.parametrize("gate_name", BOTH)
def test_a_redelivered_plan_gets_no_new_permit_after_a_revocation(
    redis: Client, keys: None, gate_name: str
) -> None:
    """Neither from the gate whose permit was taken back, nor a first one from the other."""
    plan = House.make()
    issue(redis, plan, GOVERNOR)
    assert isinstance(revoke(redis, plan), Revoked)
    assert isinstance(issue(redis, plan, gate_name), NotIssued)
    assert peek(redis, plan.plan_id).standing == []


def test_a_permit_spent_a_moment_ago_is_not_revoked_and_the_answer_says_when(
    gate: Gate, redis: Client
) -> None:
    plan = issued_both(redis)
    spent = outcome_of(gate, plan)
    assert isinstance(spent, SpentPair)
    answer = revoke(redis, plan)
    assert isinstance(answer, NotRevoked)
    assert (answer.reason, answer.spent_at_ms) == ("already_consumed", spent.consumed_ms)
    assert "permit_revoke_refused" in kinds(plan)


def test_nothing_to_revoke_is_said_and_marks_nothing(redis: Client, keys: None) -> None:
    plan = House.make()
    answer = revoke(redis, plan)
    assert isinstance(answer, NotRevoked) and answer.reason == "missing"
    assert isinstance(issue(redis, plan, GOVERNOR), Issued), "a plan nobody revoked gets its permit"


def test_what_changed_since_the_look_is_left_alone(redis: Client, keys: None) -> None:
    plan = House.make()
    issue(redis, plan, GOVERNOR)
    seen = peek(redis, plan.plan_id).seen
    issue(redis, plan, P33)
    answer = revoke(redis, plan, GOVERNOR, seen=seen)
    assert isinstance(answer, NotRevoked) and answer.reason == "changed"
    assert len(peek(redis, plan.plan_id).standing) == 2


def test_bytes_that_changed_between_look_and_step_are_left_alone(
    redis: Client, keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = issued_both(redis)
    other = permit(plan, GOVERNOR)

    def meanwhile(name: str) -> None:
        if name == "revoke_asked":
            redis.set(settings.KEYS.governor_permit(plan.plan_id), other, px=60_000)

    monkeypatch.setattr(desk, "fault_point", meanwhile)
    answer = revoke(redis, plan)
    assert isinstance(answer, NotRevoked) and answer.reason == "changed"
    assert redis.get(settings.KEYS.governor_permit(plan.plan_id)) == other
    assert redis.exists(settings.KEYS.p33_permit(plan.plan_id)), "all of them or none"
    assert fates(plan) == {GOVERNOR: "live", P33: "live"}
    assert {row.fate_by for row in Permit.objects.filter(plan_id=plan.plan_id)} == {""}


def test_a_permit_without_a_row_yet_is_recorded_as_revoked_and_stays_so(redis: Client, keys: None) -> None:
    plan = House.make()
    issued = issue(redis, plan, GOVERNOR)
    assert isinstance(issued, Issued)
    revoke(redis, plan)
    late = records.row_of(issued.raw, gate=GOVERNOR, plan_id=plan.plan_id, fate=Fate.LIVE)
    records.record_issued([late])  # the gate's recorder comes 25 ms later
    assert fates(plan) == {GOVERNOR: "revoked"}


def test_after_a_death_between_redis_and_the_database_nothing_can_be_spent_and_the_record_follows(
    gate: Gate, redis: Client, settings: Settings
) -> None:
    plan = issued_both(redis)
    settings.QUANTUM_FAULT = "permit_revoked:raise"
    with pytest.raises(FaultRaised):
        revoke(redis, plan)
    settings.QUANTUM_FAULT = ""
    assert isinstance(outcome_of(gate, plan), Blocked)
    assert fates(plan) == {GOVERNOR: "live", P33: "live"}
    assert "permit_revoke_asked" in kinds(plan)
    Permit.objects.update(expires_at=clock.now() - dt.timedelta(seconds=60))
    records.sweep()
    assert fates(plan) == {GOVERNOR: "revoked", P33: "revoked"}
    assert {row.fate_by for row in Permit.objects.all()} == {"nina"}


def test_asking_again_completes_a_revocation_whose_answer_was_lost(
    redis: Client, keys: None, settings: Settings
) -> None:
    plan = issued_both(redis)
    settings.QUANTUM_FAULT = "permit_revoked:raise"
    with pytest.raises(FaultRaised):
        revoke(redis, plan)
    settings.QUANTUM_FAULT = ""
    assert isinstance(revoke(redis, plan), Revoked)
    assert fates(plan) == {GOVERNOR: "revoked", P33: "revoked"}


def test_a_death_after_the_question_leaves_the_permit_and_who_asked(
    gate: Gate, redis: Client, settings: Settings
) -> None:
    plan = issued_both(redis)
    settings.QUANTUM_FAULT = "revoke_asked:raise"
    with pytest.raises(FaultRaised):
        revoke(redis, plan)
    spent = outcome_of(gate, plan)
    assert isinstance(spent, SpentPair)
    records.record_spent(plan.plan_id, {GOVERNOR: spent.governor.raw})
    row = Permit.objects.get(plan_id=plan.plan_id, gate=GOVERNOR)
    assert (row.fate, row.fate_by) == ("spent", "apply")


def test_garbage_under_a_permit_key_can_be_taken_away_and_that_is_recorded(redis: Client, keys: None) -> None:
    plan = House.make()
    redis.set(settings.KEYS.governor_permit(plan.plan_id), b"\xff no permit")
    assert isinstance(revoke(redis, plan), Revoked)
    assert not redis.exists(settings.KEYS.governor_permit(plan.plan_id))
    assert "permit_revoked" in kinds(plan)


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_revoking_and_consuming_at_once_is_one_or_the_other_and_both_say_so(
    gate: Gate, redis: Client
) -> None:
    revoked, spent, delay_s = 0, 0, 0.0
    for _ in range(100):
        redis.delete(settings.KEYS.slot("BTCUSDT"))  # of the round before: nobody sent anything
        plan = House.make()
        lay_both(redis, plan)
        outcomes: list[Any] = []
        start = threading.Barrier(2)

        def consume(
            plan: ExitPlan = plan,
            start: threading.Barrier = start,
            outcomes: list[Any] = outcomes,
            late_s: float = delay_s,
        ) -> None:
            start.wait()
            clock.sleep_s(late_s)  # a revocation asks the database first: both must win sometimes
            outcomes.append(outcome_of(gate, plan))

        thread = threading.Thread(target=consume)
        thread.start()
        start.wait()
        answer = desk.revoke(redis, plan_id=plan.plan_id, gates=BOTH, **WHO)
        thread.join(5)
        [outcome] = outcomes
        if isinstance(answer, Revoked):
            revoked, delay_s = revoked + 1, max(0.0, delay_s - 0.0004)  # the loser gets a start: a close race
            assert isinstance(outcome, Blocked)
            assert not redis.exists(settings.KEYS.receipt(plan.plan_id))
        else:
            spent, delay_s = spent + 1, delay_s + 0.0004
            assert answer.reason == "already_consumed"
            assert isinstance(outcome, SpentPair)
            assert answer.spent_at_ms == outcome.consumed_ms
    assert revoked + spent == 100
    assert min(revoked, spent) >= 20, f"no race: {revoked} revoked, {spent} spent"
    connection.close()


def test_a_copy_of_a_spent_permit_can_be_taken_away_and_the_row_stays_spent(
    redis: Client, keys: None
) -> None:
    """Laid again by somebody when the receipt is gone: what was spent is not made unspent by a revocation."""
    plan = House.make()
    raw = permit(plan, GOVERNOR)
    records.record_spent(plan.plan_id, {GOVERNOR: raw})
    lay(redis, plan, governor=raw)
    assert isinstance(revoke(redis, plan), Revoked)
    assert fates(plan) == {GOVERNOR: "spent"}
    assert Permit.objects.get(plan_id=plan.plan_id).fate_by == "apply"
