"""What a decision rests on: the policy of this second, a size that is known, people who said yes."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import Any

import pytest
import redis as redis_py
from django.conf import settings
from django.db import DatabaseError

from permits.models import Approval, Judgement, Permit, PolicyVersion
from permits.policy import inputs, judgements, policies
from quantum import clock
from quantum.redis import Client, RedisError
from tests.house import House, wait_for
from tests.permits.governors import Start, limit, snapshot

pytestmark = pytest.mark.usefixtures("transactional_db", "keys")


# ---- the policy changes


def test_a_change_is_obeyed_within_a_second(start: Start) -> None:
    governor = start()
    assert governor.reason() == "approved"
    limit("permits_per_5min=1")
    wait_for(lambda: governor.reason() == "burst_limit", what="the new limit", within_s=1.2)


def test_a_governor_that_denies_without_a_pause_still_learns_of_a_change(start: Start) -> None:
    """Each denial reads the usage anew; that must not pass for a look at the policy."""
    limit("permits_per_5min=1")
    governor = start()
    governor.answer()
    assert governor.reason() == "burst_limit"
    limit("permits_per_5min=2")
    wait_for(lambda: governor.reason() == "approved", what="the new limit")


def test_an_idle_governor_has_read_a_change_before_the_next_plan(start: Start) -> None:
    governor = start()
    limit("allowlist=ETHUSDT")
    clock.sleep_s(0.6)
    governor.governor.look()
    assert governor.reason() == "not_in_allowlist"


@pytest.mark.parametrize(
    "broken", [{"allowlist": []}, "rules", {"allowlist": ["BTCUSDT"], "total": {"x": 1}}]
)
def test_rules_that_cannot_be_read_are_not_guessed_at(
    start: Start, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("permits.governor.books.BOOKS_STALE_S", 0.1)
    governor = start()
    PolicyVersion.objects.create(version=99, rules=broken, by="somebody", reason="past the door")
    clock.sleep_s(1.1)
    assert governor.reason() == "inputs_unavailable"


def test_a_database_that_is_gone_denies_when_the_copy_is_old(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    governor = start()

    def fails(**_: object) -> None:
        raise DatabaseError

    monkeypatch.setattr(policies, "copy", fails)
    clock.sleep_s(1.1)
    assert governor.reason() == "approved", "a short failure stops no exit"
    monkeypatch.setattr("permits.governor.books.BOOKS_STALE_S", 0.5)
    denied = governor.answer()
    assert denied.reason == "inputs_unavailable"
    assert denied.context == {"missing": "policy and usage"}


# ---- inputs


BAD_SNAPSHOTS: dict[str, dict[str, Any]] = {
    "old": {"age_s": 10.5},
    "from the future": {"age_s": -10.5},
    "no time": {"seen_epoch": "never"},
    "unreadable position": {"position_amt": "NaN"},
    "no mark price": {"mark_price": ""},
    "mark price of zero": {"mark_price": "0"},
}


@pytest.mark.parametrize("bad", BAD_SNAPSHOTS)
def test_a_size_that_cannot_be_known_denies(start: Start, redis: Client, bad: str) -> None:
    governor = start()
    snapshot(redis, **BAD_SNAPSHOTS[bad])
    denied = governor.answer()
    assert denied.reason == "inputs_unavailable"
    assert denied.context is not None
    assert "BTCUSDT" in str(denied.context["missing"])


def test_a_snapshot_that_is_gone_is_asked_for_and_waited_for_once(start: Start, redis: Client) -> None:
    """A wiped Redis: the feed, woken, tells anew; the plan in hand is not lost to it."""
    governor = start()
    redis.delete(settings.KEYS.snapshot("BTCUSDT"), settings.KEYS.snapshot("ETHUSDT"))

    def feed() -> None:
        assert redis.blpop([settings.KEYS.feed_wake], timeout=5)
        snapshot(redis)

    woken = threading.Thread(target=feed)
    woken.start()
    assert governor.reason() == "approved"
    woken.join(5)
    started_s = clock.monotonic_s()
    assert governor.reason(symbol="ETHUSDT") == "inputs_unavailable"
    assert clock.monotonic_s() - started_s < 0.1, "not again within the second"
    assert not redis.exists(settings.KEYS.feed_wake)


def test_a_limit_that_is_not_set_needs_no_snapshot(start: Start, redis: Client) -> None:
    limit("notional_per_day_usd=none")
    governor = start()
    redis.delete(settings.KEYS.snapshot("BTCUSDT"))
    assert governor.reason() == "approved"


def test_a_short_position_has_a_size_too_and_a_flat_one_is_zero(start: Start, redis: Client) -> None:
    governor = start()
    snapshot(redis, position_amt="-8")
    assert governor.answer().quantity == 2
    snapshot(redis, position_amt="0", mark_price="")
    flat = governor.answer()
    assert flat.verdict
    assert flat.notional == 0


# ---- sizes that are kept warm


def test_a_size_is_read_between_plans_and_not_on_the_way(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    governor = start()
    governor.governor.look()
    monkeypatch.setattr(governor.governor._snapshots, "_read", lambda _: pytest.fail("read on the way"))
    assert governor.answer().quantity == Decimal("0.25")


def test_a_position_that_moved_after_it_was_copied_is_read_again(start: Start, redis: Client) -> None:
    """The interleaving: copy, entry of the user's bot, plan. By the copy the exit would be half of what it is."""
    governor = start()
    governor.governor.look()
    snapshot(redis, position_amt="2")
    assert governor.answer().quantity == Decimal("0.5")


def test_a_position_that_moves_between_decision_and_permit_is_decided_by_again(
    start: Start, redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    governor = start()
    governor.governor.look()
    issue, once = governor.keeper._desk.issue, [snapshot]

    def moved_first(*asked: Any) -> Any:
        if once:
            once.pop()(redis, position_amt="4")
        return issue(*asked)

    monkeypatch.setattr(governor.keeper._desk, "issue", moved_first)
    assert governor.answer().quantity == 1


def test_a_denial_by_size_rests_on_what_stands_and_not_on_the_copy(start: Start, redis: Client) -> None:
    limit("notional_per_day_usd=20000")
    snapshot(redis, position_amt="4")
    governor = start()
    governor.governor.look()
    snapshot(redis, position_amt="1")
    assert governor.reason() == "approved"


def test_a_position_that_was_flat_is_read_when_its_exit_comes(
    start: Start, redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a round: nearly every exit finds that its position was flat once."""
    snapshot(redis, position_amt="0")
    governor = start()
    governor.governor.look()
    snapshot(redis, position_amt="1")
    monkeypatch.setattr(governor.keeper, "_decide_anew", lambda _: pytest.fail("decided by a flat copy"))
    assert governor.answer().quantity == Decimal("0.25")


def test_a_copy_that_was_not_renewed_in_time_is_not_used(
    start: Start, redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plans one after the other leave no idle turn. The mark price is nobody's to compare: only age bounds it."""
    monkeypatch.setattr(inputs, "COPY_EVERY_S", 0.1)
    monkeypatch.setattr(inputs, "COPY_LATE_S", 0.1)
    governor = start()
    governor.governor.look()
    snapshot(redis, mark_price="80000")
    clock.sleep_s(0.25)
    assert governor.answer().notional == 20_000


def test_an_exit_that_was_let_pass_is_not_measured_by_the_copy_before_it(
    start: Start, redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is being closed: the copy would only be found out by the script, a round later."""
    governor = start()
    governor.governor.look()
    governor.answer()
    monkeypatch.setattr(governor.keeper, "_decide_anew", lambda _: pytest.fail("decided by the copy"))
    snapshot(redis, position_amt="0.75", mark_price="60000")
    assert governor.answer().notional == Decimal("11250")


def test_a_position_that_is_about_to_move_is_not_copied_meanwhile(
    start: Start, redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its exit takes longer than a copy is left alone: the copy of before it cost every next exit a second round."""
    monkeypatch.setattr(inputs, "MOVED_S", 0.0)
    governor = start()
    governor.answer()
    governor.governor.look()
    monkeypatch.setattr(governor.keeper, "_decide_anew", lambda _: pytest.fail("decided by the copy"))
    snapshot(redis, position_amt="0.75", mark_price="60000")
    assert governor.answer().notional == Decimal("11250")


def test_a_server_that_fails_between_plans_does_no_harm(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    governor = start()
    with monkeypatch.context() as broken:
        broken.setattr(
            redis_py.client.Pipeline, "execute", lambda *_, **__: (_ for _ in ()).throw(RedisError)
        )
        governor.governor.look()
    assert governor.reason() == "approved"


def test_a_position_that_moves_after_a_fresh_read_is_decided_by_again_too(
    start: Start, redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No copy at hand, and a database that is asked between read and permit may take a second: flat by the read,
    and the exit of an entry that came meanwhile would reserve nothing."""
    snapshot(redis, position_amt="0")
    governor = start()
    issue, once = governor.keeper._desk.issue, [snapshot]

    def moved_first(*asked: Any) -> Any:
        if once:
            once.pop()(redis, position_amt="4")
        return issue(*asked)

    monkeypatch.setattr(governor.keeper._desk, "issue", moved_first)
    assert governor.answer().quantity == 1


def test_people_are_not_asked_by_the_price_of_a_copy(start: Start, redis: Client) -> None:
    """It fell since: the exit would wait for a person who is shown a number that no longer holds."""
    limit("approval_above_usd=10000")
    governor = start()
    governor.governor.look()
    snapshot(redis, mark_price="30000")
    assert governor.reason() == "approved"
    snapshot(redis, mark_price="50000")
    governor.governor._snapshots._due_s.clear()
    governor.governor.look()
    snapshot(redis, mark_price="60000")
    assert governor.reason() == "awaiting_approval"
    governor.end()
    assert Approval.objects.get().compared["asked"] == "15000"


def test_a_denial_by_size_is_not_of_the_copy_where_the_usage_cannot_be_read_either(
    start: Start, redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit("notional_per_day_usd=20000")
    snapshot(redis, mark_price="90000")
    governor = start()
    governor.governor.look()
    snapshot(redis, mark_price="70000")

    def fails() -> None:
        raise DatabaseError

    monkeypatch.setattr(governor.governor._books, "read_anew", fails)
    assert governor.reason() == "approved"


def test_one_snapshot_that_is_no_hash_costs_no_other_symbol_its_copy(
    start: Start, redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit("allowlist=BTCUSDT,ETHUSDT")
    redis.delete(settings.KEYS.snapshot("ETHUSDT"))
    redis.set(settings.KEYS.snapshot("ETHUSDT"), "by hand")
    governor = start()
    governor.governor.look()
    monkeypatch.setattr(governor.governor._snapshots, "_read", lambda _: pytest.fail("read on the way"))
    assert governor.answer().quantity == Decimal("0.25")


# ---- approvals and shadow rules


def test_an_exit_that_people_must_see_is_kept_with_its_plan(start: Start) -> None:
    limit("approval_above_usd=10000")
    governor, plan = start(), House.make()
    assert governor.reason(plan) == "awaiting_approval"
    governor.end()
    parked = Approval.objects.get()
    assert (parked.asked_plan_id, parked.symbol, parked.state) == (plan.plan_id, "BTCUSDT", "waiting")
    assert parked.fields == plan.fields()
    assert parked.compared["asked"] == "12500"


def test_a_yes_lets_exactly_that_plan_pass(start: Start) -> None:
    limit("approval_symbols=BTCUSDT")
    said_yes, other = House.make(), House.make()
    for plan, digest in ((said_yes, said_yes.digest), (other, "f" * 64)):
        Approval.objects.create(
            asked_plan_id=House.make().plan_id,
            symbol="BTCUSDT",
            fields={},
            rule="tests",
            state=Approval.State.APPROVED,
            expires_at=clock.now(),
            plan_id=plan.plan_id,
            plan_digest=digest,
        )
    governor = start()
    assert governor.reason(said_yes) == "approved"
    assert governor.reason(other) == "awaiting_approval", "another content under that id"
    assert governor.reason() == "awaiting_approval"
    assert governor.reason(symbol="ETHUSDT") == "approved"


def test_a_shadow_rule_is_recorded_and_blocks_nothing(start: Start) -> None:
    limit("permits_per_5min=1", shadow=True)
    governor, second = start(), House.make()
    assert [governor.reason(), governor.reason(second)] == ["approved", "approved"]
    governor.end()
    judged = Judgement.objects.exclude(shadow="").get()
    assert (judged.plan_id, judged.reason, judged.shadow) == (second.plan_id, "approved", "burst_limit")
    assert (judged.shadow_rule["limit"], judged.shadow_rule["used"]) == ("1", "1")
    assert Permit.objects.filter(verdict=True).count() == 2


def test_shadow_rules_leave_the_decision_its_reads_and_its_permit_as_they_are(
    start: Start, redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They ask for no size that the limits do not ask for, and are looked at only when the permit is out."""
    limit("notional_per_day_usd=none", "each.quantity_per_day=none")
    limit("notional_per_day_usd=1", shadow=True)
    governor = start()
    monkeypatch.setattr(governor.governor._snapshots, "size_of", lambda _: pytest.fail("read for a shadow"))
    shadowed: list[int] = []
    monkeypatch.setattr(judgements, "_shadow", lambda *_: shadowed.append(len(governor.findings)))
    finding = governor.answer()
    assert (finding.reason, finding.quantity, finding.position) == ("approved", Decimal(0), b"")
    governor.end()
    assert shadowed == [1], "when the decision had been told"


def test_a_shadow_limit_of_a_size_that_nobody_read_says_so(start: Start) -> None:
    limit("notional_per_day_usd=none", "each.quantity_per_day=none")
    limit("notional_per_day_usd=1", shadow=True)
    governor = start()
    assert governor.reason() == "approved"
    governor.end()
    judged = Judgement.objects.get()
    assert (judged.shadow, judged.shadow_rule["missing"]) == ("inputs_unavailable", judgements.NOT_READ)
