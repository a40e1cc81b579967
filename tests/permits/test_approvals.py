"""Approvals: asked once, one vote each, a no ends it, and a yes makes exactly one new plan whatever dies."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.management import call_command
from django.db import connection
from pytest_django.fixtures import Settings

from apply.models import Plan
from apply.proving.janitor import Janitor
from permits.desk import approvals
from permits.desk.approvals import VoteRefused
from permits.models import Approval, ApprovalVote
from quantum import clock
from quantum.fault import FaultRaised
from quantum.models import AuditEvent
from quantum.plan import Action, ExitPlan
from quantum.redis import Client
from tests.house import House, wait_for

pytestmark = pytest.mark.django_db(transaction=True)
REASON = "the position is too large"


def asked(plan: ExitPlan | None = None, *, age_s: float = 60) -> Approval:
    """A question that has stood for a minute."""
    approval = approvals.ask(
        plan=plan or House.make(),
        rule="notional_above",
        compared={"notional": Decimal("120000.5"), "limit": Decimal(100_000)},
    )
    Approval.objects.filter(pk=approval.pk).update(asked_at=clock.now() - dt.timedelta(seconds=age_s))
    return approval


def says(approval: Approval, by: str, *, yes: bool = True, confirm: str = "BTCUSDT") -> approvals.Voted:
    return approvals.vote(approval_id=approval.pk, by=by, yes=yes, reason=REASON, confirm=confirm)


def published(redis: Client) -> list[str]:
    entries = redis.xrange(django_settings.KEYS.plan_stream)
    return [fields[b"plan_id"].decode() for _, fields in entries]


@pytest.fixture
def two(settings: Settings) -> None:
    settings.APPROVERS_REQUIRED = 2


def test_a_question_keeps_the_whole_plan_and_is_asked_once(redis: Client) -> None:
    plan = House.make()
    first, again = asked(plan), asked(plan)
    assert first.pk == again.pk
    approval = Approval.objects.get()
    assert approval.fields == plan.fields()
    assert approval.compared == {"notional": "120000.5", "limit": "100000"}
    assert AuditEvent.objects.filter(kind="approval_asked", plan_id=plan.plan_id).count() == 1
    assert published(redis) == []


def test_a_brain_that_repeats_itself_asks_one_question_and_a_decided_one_is_asked_anew(redis: Client) -> None:
    first = asked(House.make())
    assert asked(House.make()).pk == first.pk
    other_step = House.make(action=Action.FULL_CLOSE)
    assert asked(other_step).pk != first.pk
    says(first, "ann", yes=False)
    assert asked(House.make()).pk != first.pk


def test_a_yes_makes_one_new_plan_that_names_its_parent_and_is_known_again(redis: Client) -> None:
    parent = House.make()
    approval = says(asked(parent), "ann").approval
    row = Plan.objects.get()
    assert (row.plan_id, row.digest) == (approval.plan_id, approval.plan_digest)
    assert row.plan_id != parent.plan_id
    assert (row.symbol, row.action, row.kill_score) == (parent.symbol, parent.action, parent.kill_score_text)
    assert row.source == "approval" and parent.plan_id in row.reason_codes
    assert clock.now() < row.expires_at
    assert published(redis) == [row.plan_id]
    kinds = set(AuditEvent.objects.filter(plan_id=parent.plan_id).values_list("kind", flat=True))
    assert kinds == {"approval_asked", "approval_yes", "approval_approved"}


def test_only_the_new_plan_is_approved_and_only_with_its_own_content(redis: Client) -> None:
    parent = House.make()
    approval = says(asked(parent), "ann").approval
    new = House.make(action=parent.action)
    same_id = ExitPlan(
        **{name: getattr(new, name) for name in new.__struct_fields__} | {"plan_id": approval.plan_id}
    )
    exact = ExitPlan(
        **{name: getattr(same_id, name) for name in new.__struct_fields__} | {"digest": approval.plan_digest}
    )
    assert approvals.is_approved(plan=exact)
    assert not approvals.is_approved(plan=same_id)
    assert not approvals.is_approved(plan=parent)
    Approval.objects.update(state=Approval.State.REFUSED)
    assert not approvals.is_approved(plan=exact)


@pytest.mark.usefixtures("two")
def test_two_are_needed_and_one_person_is_one(redis: Client) -> None:
    approval = asked()
    assert says(approval, "ann").yes_votes == 1
    for spelling in ("ann", "Ann", " ANN "):
        with pytest.raises(VoteRefused, match="already answered"):
            says(approval, spelling)
    assert published(redis) == []
    assert says(approval, "ben", confirm="").approval.state == "approved"
    assert len(published(redis)) == 1


def test_a_no_ends_it_and_a_later_yes_does_not_count(redis: Client, two: None) -> None:
    approval = asked()
    says(approval, "ann")
    assert says(approval, "ben", yes=False, confirm="").approval.state == "refused"
    with pytest.raises(VoteRefused, match="refused"):
        says(approval, "cid")
    assert published(redis) == [] and not Plan.objects.exists()


def test_one_who_changes_his_mind_has_voted(redis: Client, two: None) -> None:
    approval = asked()
    says(approval, "ann")
    with pytest.raises(VoteRefused, match="already answered"):
        says(approval, "ann", yes=False)
    assert Approval.objects.get().state == "waiting"


def test_what_waited_too_long_is_over(redis: Client) -> None:
    approval = asked()
    Approval.objects.update(expires_at=clock.now() - dt.timedelta(seconds=1))
    with pytest.raises(VoteRefused, match="expired"):
        says(approval, "ann")
    assert Approval.objects.get().state == "expired"
    assert approvals.waiting() == [] and published(redis) == []
    assert AuditEvent.objects.filter(kind="approval_expired").count() == 1
    assert asked(House.make()).pk != approval.pk


def test_a_question_that_nobody_answers_is_ended_by_whoever_looks(redis: Client) -> None:
    asked()
    Approval.objects.update(expires_at=clock.now())
    assert approvals.expire_overdue() == 1
    assert approvals.expire_overdue() == 0


def test_one_approver_types_the_symbol_and_waits_a_moment(redis: Client) -> None:
    approval = asked(age_s=0)
    for confirm in ("", "btcusdt", "ETHUSDT"):
        with pytest.raises(VoteRefused, match="--confirm BTCUSDT"):
            says(approval, "ann", confirm=confirm)
    with pytest.raises(VoteRefused, match="5 s after the question"):
        says(approval, "ann")
    assert not ApprovalVote.objects.exists()
    assert says(approval, "ann", yes=False, confirm="").approval.state == "refused"  # a no never waits


@pytest.mark.parametrize(("by", "reason"), [("", REASON), ("ann", "short"), ("  ", REASON)])
def test_a_vote_without_a_name_or_a_reason_does_not_count(redis: Client, by: str, reason: str) -> None:
    with pytest.raises(VoteRefused):
        approvals.vote(approval_id=asked().pk, by=by, yes=True, reason=reason, confirm="BTCUSDT")
    assert not ApprovalVote.objects.exists()


# ---- at the same time, and half done


def at_once(*calls: Callable[[], Any]) -> list[object]:
    """Each in a thread of its own, let go together; what came of them."""
    gate, came = threading.Barrier(len(calls)), []

    def run(call: Callable[[], Any]) -> None:
        gate.wait(5)
        try:
            came.append(call())
        except VoteRefused as refused:
            came.append(refused)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(came) == len(calls)
    return came


def test_two_people_at_once_make_one_plan(redis: Client, two: None) -> None:
    for _ in range(5):
        approval = asked()
        came = at_once(lambda: says(approval, "ann"), lambda: says(approval, "ben"))
        states = sorted(one.approval.state for one in came if isinstance(one, approvals.Voted))
        assert states == ["approved", "waiting"]
    assert Plan.objects.count() == len(published(redis)) == 5


def test_the_same_person_twice_at_once_is_one_vote(redis: Client, two: None) -> None:
    approval = asked()
    came = at_once(lambda: says(approval, "ann"), lambda: says(approval, "ann"))
    assert sum(isinstance(one, VoteRefused) for one in came) == 1
    assert Approval.objects.get().state == "waiting"


def test_of_a_yes_and_a_yes_where_one_is_enough_only_one_counts(redis: Client) -> None:
    approval = asked()
    came = at_once(*[partial(says, approval, by) for by in ("ann", "ben", "cid")])
    assert sum(isinstance(one, approvals.Voted) for one in came) == 1
    assert len(published(redis)) == Plan.objects.count() == 1


def test_a_death_between_commit_and_publication_loses_nothing_and_makes_nothing_twice(
    redis: Client, settings: Settings
) -> None:
    approval = asked()
    settings.QUANTUM_FAULT = "approval_committed:raise"
    with pytest.raises(FaultRaised):
        says(approval, "ann")
    settings.QUANTUM_FAULT = ""
    approval.refresh_from_db()
    assert approval.state == "approved" and published(redis) == []

    Plan.objects.update(
        created_at=clock.now() - dt.timedelta(seconds=2)
    )  # the janitor leaves the youngest alone
    janitor = Janitor(client=redis)
    janitor.tick()
    janitor.tick()
    assert published(redis) == [approval.plan_id]
    with pytest.raises(VoteRefused):
        says(approval, "ben")
    assert Plan.objects.count() == 1


def test_a_failure_before_the_commit_leaves_the_question_open(
    redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise FaultRaised("plan_recorded")

    approval = asked()
    monkeypatch.setattr("apply.plans.publish.record", fails)
    with pytest.raises(FaultRaised):
        says(approval, "ann")
    monkeypatch.undo()
    assert Approval.objects.get().state == "waiting" and not ApprovalVote.objects.exists()
    assert says(approval, "ann").approval.state == "approved"
    assert len(published(redis)) == 1


def test_without_redis_the_yes_stands_and_the_janitor_publishes_it(redis: Client, settings: Settings) -> None:
    approval, there = asked(), settings.REDIS_URL
    settings.REDIS_URL = "unix:///nowhere/at/all.sock"
    assert says(approval, "ann").approval.state == "approved"
    settings.REDIS_URL = there
    assert published(redis) == []
    Plan.objects.update(created_at=clock.now() - dt.timedelta(seconds=2))
    Janitor(client=redis).tick()
    assert len(published(redis)) == 1


@pytest.mark.slow
def test_an_exit_that_needs_a_person_is_asked_for_approved_and_filled(house: House) -> None:
    house.start()
    words = ("approval_symbols=BTCUSDT", "--reason", "a person looks first")
    call_command("policy_set", *words)
    denied = wait_for(lambda: _denied(house), what="the new policy to hold")
    waiting = approvals.waiting()[0]
    assert Plan.objects.get(plan_id=waiting.asked_plan_id).gate_reason == denied.gate_reason
    Approval.objects.update(asked_at=clock.now() - dt.timedelta(minutes=1))
    approval = says(waiting, "ann").approval
    wait_for(
        lambda: Plan.objects.get(plan_id=approval.plan_id).state == "filled",
        what="the approved plan to be filled",
    )
    [order] = [row for row in house.orders() if approval.plan_id in row["client_id"]]
    assert order["client_id"] == f"q-{approval.plan_id}-25"


def _denied(house: House) -> Plan | None:
    row = house.exit()
    return row if row.gate_reason == "awaiting_approval" and approvals.waiting() else None


# ---- the command


def told(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    call_command("approve", *words, "--json")
    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    return data


def test_the_command_lists_shows_and_answers(redis: Client, capsys: pytest.CaptureFixture[str]) -> None:
    approval = asked()
    number = str(approval.pk)
    assert [one["id"] for one in told(capsys)["waiting"]] == [approval.pk]
    assert told(capsys, number, "--dry-run")["state"] == "waiting"
    done = told(capsys, number, "--reason", REASON, "--confirm", "BTCUSDT", "--by", "ann")
    assert (done["state"], done["yes_votes"], done["votes"][0]["by"]) == ("approved", 1, "ann")
    assert published(redis) == [done["new_plan_id"]]
    assert told(capsys)["waiting"] == []


@pytest.mark.parametrize("words", [("--reason", "short"), ("--reason", REASON)])
def test_a_vote_that_lacks_a_word_ends_with_2(redis: Client, words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as left:
        call_command("approve", str(asked().pk), *words)
    assert left.value.code == 2


def test_a_vote_that_does_not_count_ends_with_4(redis: Client) -> None:
    approval = asked(age_s=10)
    call_command("approve", str(approval.pk), "--reason", REASON, "--no")
    with pytest.raises(SystemExit) as left:
        call_command("approve", str(approval.pk), "--reason", REASON, "--confirm", "BTCUSDT")
    assert left.value.code == 4
