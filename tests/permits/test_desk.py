"""What a person does with permits: look, take back, sign; and what becomes of each permit in the end."""

from __future__ import annotations

import datetime as dt
import threading
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from pytest_django.fixtures import Settings
from redis.exceptions import ConnectionError as RedisConnectionError

from permits import desk, operators, records
from permits.desk import Desk, Finding, Issued, NotIssued, NotRevoked, Revoked
from permits.gate import Gate
from permits.models import Permit, PolicyVersion
from permits.operators import Draft, NotSigned, Signed, Wish
from permits.outcome import Blocked, SpentPair
from permits.peek import peek
from permits.sweep import PermitSweep
from quantum import clock
from quantum.fault import FaultRaised
from quantum.models import AuditEvent
from quantum.plan import ExitPlan
from quantum.redis import Client
from quantum.signing import Signer
from tests.house import House
from tests.permits.conftest import outcome_of
from tests.permits_by_hand import GOVERNOR, P33, lay, lay_both, permit

pytestmark = pytest.mark.django_db
BOTH = (GOVERNOR, P33)
WHO = {"by": "nina", "reason": "changed my mind"}
Fate = Permit.Fate


def issue(redis: Client, plan: ExitPlan, gate: str, **said: Any) -> Issued | NotIssued:
    signer = Signer(name=gate, directory=settings.PERMIT_KEYS_DIR)
    finding = Finding(**{"verdict": True, "reason": "approved", **said})
    if gate == P33:
        finding = Finding(
            verdict=True,
            reason="ok",
            quantity=Decimal("0.25"),
            exchange_amt=Decimal(1),
            ledger_amt=Decimal(1),
        )
    return Desk(gate=gate, signer=signer, client=redis).issue(plan, finding)


def issued_both(redis: Client) -> ExitPlan:
    plan = House.make()
    for gate in BOTH:
        issued = issue(redis, plan, gate)
        assert isinstance(issued, Issued)
        records.record_issued([records.row_of(issued.raw, gate=gate, plan_id=plan.plan_id, fate=Fate.LIVE)])
    return plan


def revoke(redis: Client, plan: ExitPlan, *gates: str, **more: Any) -> Revoked | NotRevoked:
    return desk.revoke(redis, plan_id=plan.plan_id, gates=gates or BOTH, **{**WHO, **more})


def fates(plan: ExitPlan) -> dict[str, str]:
    return {row.gate: row.fate for row in Permit.objects.filter(plan_id=plan.plan_id).order_by("id")}


def kinds(plan: ExitPlan) -> list[str]:
    return list(AuditEvent.objects.filter(plan_id=plan.plan_id).order_by("id").values_list("kind", flat=True))


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
    records.record_spent(
        [records.row_of(spent.governor.raw, gate=GOVERNOR, plan_id=plan.plan_id, fate=Fate.SPENT)]
    )
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
    revoked = spent = 0
    for round_number in range(60):
        plan = House.make()
        lay_both(redis, plan)
        outcomes: list[Any] = []
        start = threading.Barrier(2)

        def consume(
            plan: ExitPlan = plan, start: threading.Barrier = start, outcomes: list[Any] = outcomes
        ) -> None:
            start.wait()
            outcomes.append(outcome_of(gate, plan))

        thread = threading.Thread(target=consume)
        thread.start()
        start.wait()
        if round_number % 2:
            clock.sleep_s(0.0005)
        answer = desk.revoke(redis, plan_id=plan.plan_id, gates=BOTH, **WHO)
        thread.join(5)
        [outcome] = outcomes
        if isinstance(answer, Revoked):
            revoked += 1
            assert isinstance(outcome, Blocked)
            assert not redis.exists(settings.KEYS.receipt(plan.plan_id))
        else:
            spent += 1
            assert answer.reason == "already_consumed"
            assert isinstance(outcome, SpentPair)
            assert answer.spent_at_ms == outcome.consumed_ms
    assert revoked + spent == 60
    connection.close()


# ---- late, duplicate, issued again


def test_a_spent_plan_gets_no_permit(gate: Gate, redis: Client) -> None:
    plan = issued_both(redis)
    assert isinstance(outcome_of(gate, plan), SpentPair)
    for name in BOTH:
        assert issue(redis, plan, name) == NotIssued(reason="already_consumed")


def test_a_duplicate_is_answered_with_the_permit_that_stands(redis: Client, keys: None) -> None:
    plan = House.make()
    first, second = issue(redis, plan, GOVERNOR), issue(redis, plan, GOVERNOR, verdict=False, reason="mode")
    assert isinstance(first, Issued) and isinstance(second, Issued)
    assert (second.raw, second.fresh) == (first.raw, False)


def row(plan: ExitPlan, *, age_s: int, life_s: int = 60, **more: Any) -> Permit:
    raw = permit(plan, GOVERNOR, age_s=age_s, life_s=life_s)
    made = records.row_of(raw, gate=GOVERNOR, plan_id=plan.plan_id, fate=Fate.LIVE)
    for name, value in more.items():
        setattr(made, name, value)
    made.save()
    return made


def test_the_sweep_tells_expired_superseded_and_revoked_apart_and_leaves_the_living(
    redis: Client, keys: None
) -> None:
    plans = {name: House.make() for name in ("expired", "superseded", "renewed", "asked", "young", "live")}
    row(plans["expired"], age_s=100)
    row(plans["superseded"], age_s=200)
    row(plans["superseded"], age_s=180)
    row(plans["renewed"], age_s=200)
    row(plans["renewed"], age_s=100)
    row(plans["asked"], age_s=100, fate_by="nina", fate_reason="no answer came")
    row(plans["young"], age_s=65)  # over, but its outcome may still be on its way into the database
    row(plans["live"], age_s=5)
    assert records.sweep() == 6
    told = {
        name: list(Permit.objects.filter(plan_id=plan.plan_id).order_by("id").values_list("fate", flat=True))
        for name, plan in plans.items()
    }
    assert told == {
        "expired": ["expired"],
        "superseded": ["superseded", "expired"],
        "renewed": ["expired", "expired"],
        "asked": ["revoked"],
        "young": ["live"],
        "live": ["live"],
    }
    ended = Permit.objects.get(plan_id=plans["expired"].plan_id)
    assert ended.fate_at == ended.expires_at
    for name, plan in plans.items():
        history = list(Permit.objects.filter(plan_id=plan.plan_id))
        Permit.objects.filter(plan_id=plan.plan_id).update(fate="live")
        again = [
            records.fate_at(each, now=clock.now(), history=history)
            for each in Permit.objects.filter(plan_id=plan.plan_id).order_by("id")
        ]
        if name != "young":
            assert again == told[name], "what a person is told before the sweep is what it will say"
        else:
            assert again == ["expired"]


def test_what_was_spent_after_all_wins_over_the_sweep(redis: Client, keys: None) -> None:
    plan = House.make()
    made = row(plan, age_s=100)
    records.sweep()
    records.record_spent(
        [records.row_of(made.raw.encode(), gate=GOVERNOR, plan_id=plan.plan_id, fate=Fate.SPENT)]
    )
    assert fates(plan) == {GOVERNOR: "spent"}
    assert records.sweep() == 0
    assert fates(plan) == {GOVERNOR: "spent"}


def test_the_sweep_asks_the_index_of_the_living(db: None) -> None:
    explain = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
    with connection.cursor() as cursor:
        if connection.vendor != "sqlite":
            cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(explain + records._SWEEP, ("2026-01-01 00:00:00", 5))
        assert "permit_live_by_expiry" in str(cursor.fetchall())


def test_a_backlog_is_worked_off_turn_by_turn(
    redis: Client, keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "SWEEP_BATCH", 2)
    for _ in range(5):
        row(House.make(), age_s=100)
    duty = PermitSweep()
    left = []
    for _ in range(4):
        duty.tick()
        left.append(Permit.objects.filter(fate="live").count())
    assert left == [3, 1, 0, 0]
    row(House.make(), age_s=100)
    duty.tick()
    assert Permit.objects.filter(fate="live").count() == 1, "it looks every ten seconds, not every turn"


# ---- an operator signs


def allow(*gates: str, **most: str) -> None:
    rules = {"operator_permits": {"gates": list(gates), "quantity_max": most}}
    PolicyVersion.objects.create(version=1, rules=rules, by="tests", reason="to be tried")


def on_stream(redis: Client, **more: Any) -> ExitPlan:
    plan = House.make(**more)
    redis.xadd(settings.KEYS.plan_stream, plan.fields())
    return plan


def wish(gate: str = GOVERNOR, *, verdict: bool = True, quantity: str | None = None) -> Wish:
    amount = Decimal(quantity) if quantity else None
    return Wish(gate=gate, verdict=verdict, by="nina", reason="the Governor is down", quantity=amount)


def snapshot(redis: Client, amt: str, *, age_s: float = 0) -> None:
    told = {"position_amt": amt, "ts_epoch": f"{clock.now_s() - age_s:.3f}"}
    redis.hset(settings.KEYS.snapshot("BTCUSDT"), mapping=told)


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
    snapshot(redis, "1", age_s=3600)
    assert_not(signed(redis, plan, wish(P33, quantity="0.25")), "position_unknown")
    snapshot(redis, "0.4")
    assert_not(signed(redis, plan, wish(P33)), "usage")
    assert_not(signed(redis, plan, wish(P33, quantity="0.6")), "not_allowed")
    assert_not(signed(redis, plan, wish(P33, quantity="0.45")), "too_large")
    assert peek(redis, plan.plan_id).standing == []
    done = signed(redis, plan, wish(P33, quantity="0.25"))
    assert isinstance(done, Signed) and done.row.quantity == Decimal("0.25")


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
