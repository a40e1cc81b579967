"""F13: with APPROVERS_REQUIRED=2 the two gates of a plan are signed by two people, in whatever order they press."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.core.management import call_command
from django.urls import reverse
from msgspec.structs import replace

from permits import operators
from permits.desk.peek import peek
from permits.operators import Draft, NotSigned, Signed, Wish
from quantum.models import AuditEvent
from quantum.plan import ExitPlan
from quantum.redis import Client
from tests.flow.test_admin import someone, text_of
from tests.permits.desk_by_hand import allow, on_stream, snapshot
from tests.permits_by_hand import GOVERNOR, P33

WHY = "the Governor is down"


@pytest.fixture
def plan(redis: Client, keys: None, transactional_db: None, settings: Any) -> ExitPlan:
    settings.APPROVERS_REQUIRED = 2
    allow(GOVERNOR, P33)
    snapshot(redis, "1")
    return on_stream(redis)


def wish(gate: str, *, by: str = "nina", **more: Any) -> Wish:
    quantity = Decimal("0.25") if gate == P33 else None
    return Wish(**{"gate": gate, "verdict": True, "by": by, "reason": WHY, "quantity": quantity, **more})


def drafted(redis: Client, plan: ExitPlan, wanted: Wish) -> Draft:
    found = operators.draft(redis, plan_id=plan.plan_id, wish=wanted)
    assert isinstance(found, Draft), found
    return found


def signed(redis: Client, plan: ExitPlan, wanted: Wish) -> Signed | NotSigned:
    found = operators.draft(redis, plan_id=plan.plan_id, wish=wanted)
    return operators.sign(redis, found) if isinstance(found, Draft) else found


def standing(redis: Client, plan: ExitPlan) -> list[str]:
    return [found.gate for found in peek(redis, plan.plan_id).standing]


@pytest.mark.parametrize(("first", "then"), [(GOVERNOR, P33), (P33, GOVERNOR)])
@pytest.mark.parametrize("name", ["nina", "Nina "])
def test_f13_who_signed_for_one_gate_does_not_sign_for_the_other(
    redis: Client, plan: ExitPlan, first: str, then: str, name: str
) -> None:
    assert isinstance(signed(redis, plan, wish(first)), Signed)
    refused = signed(redis, plan, wish(then, by=name))
    assert isinstance(refused, NotSigned) and refused.reason == "second_person"
    assert f"nina signs for {first}" in refused.text
    assert "let another person sign" in refused.text and "break-glass" in refused.text
    assert standing(redis, plan) == [first]
    assert isinstance(signed(redis, plan, wish(then, by="omar")), Signed)


def test_f13_one_who_asks_for_both_at_the_same_moment_gets_no_pair(redis: Client, plan: ExitPlan) -> None:
    """Both are drafted before either is signed, so no draft sees the other."""
    both = [drafted(redis, plan, wish(gate)) for gate in (GOVERNOR, P33)]
    answers = [operators.sign(redis, each) for each in both]
    assert isinstance(answers[0], Signed)
    assert isinstance(answers[1], NotSigned) and answers[1].reason == "second_person"
    assert standing(redis, plan) == [GOVERNOR]
    refused = AuditEvent.objects.get(plan_id=plan.plan_id, kind="permit_grant_refused")
    assert (refused.actor, refused.data) == (both[1].wish.by, {"gate": P33, "why": "second_person"})


def test_f13_with_one_approver_one_person_may_sign_for_both(
    redis: Client, plan: ExitPlan, settings: Any
) -> None:
    settings.APPROVERS_REQUIRED = 1
    for gate in (GOVERNOR, P33):
        assert isinstance(signed(redis, plan, wish(gate)), Signed)


def test_to_deny_takes_one_person_and_what_another_approved_has_its_second(
    redis: Client, plan: ExitPlan
) -> None:
    assert isinstance(signed(redis, plan, wish(GOVERNOR)), Signed)
    approved = drafted(redis, plan, replace(wish(P33), approved_by="omar"))
    assert approved.finding.verdict
    assert isinstance(signed(redis, plan, wish(P33, verdict=False)), Signed)


def test_f13_the_command_refuses_and_says_what_to_do(
    redis: Client, plan: ExitPlan, capsys: pytest.CaptureFixture[str]
) -> None:
    said = [f"--reason={WHY}", "--by=nina"]
    call_command("permit_grant", plan.plan_id, "--gate=governor", *said)
    with pytest.raises(SystemExit) as left:
        call_command("permit_grant", plan.plan_id, "--gate=p33", "--quantity=0.25", *said)
    assert left.value.code == 4
    assert "let another person sign for p33" in capsys.readouterr().err
    assert standing(redis, plan) == [GOVERNOR]


def test_f13_the_page_refuses_and_has_said_so_before(redis: Client, plan: ExitPlan) -> None:
    web = someone("nina", "issue_permit", "view_permit")
    page = reverse("admin:permits_permit_change", args=[plan.plan_id])
    assert "does not sign for the other" in text_of(web.get(page))
    answer: Any = None
    for gate, quantity in ((GOVERNOR, ""), (P33, "0.25")):
        said = {"gate": gate, "verdict": "grant", "quantity": quantity, "reason": WHY}
        seen = peek(redis, plan.plan_id).seen
        address = reverse("admin:permits_permit_grant", args=[plan.plan_id])
        answer = web.post(address, {**said, "seen": seen}, follow=True)
    assert "let another person sign for p33" in text_of(answer)
    assert standing(redis, plan) == [GOVERNOR]


def test_f13_in_live_the_account_is_typed_to_sign(redis: Client, plan: ExitPlan, settings: Any) -> None:
    settings.APPLY_MODE = "live"
    web = someone("nina", "issue_permit", "view_permit")
    address = reverse("admin:permits_permit_grant", args=[plan.plan_id])
    said = {"gate": GOVERNOR, "verdict": "grant", "reason": WHY, "seen": peek(redis, plan.plan_id).seen}
    for confirm in ({}, {"confirm": "another"}):
        assert "Nothing was changed. confirm" in text_of(web.post(address, {**said, **confirm}, follow=True))
        typed = [f"--confirm={each}" for each in confirm.values()]
        with pytest.raises(SystemExit) as left:
            call_command("permit_grant", plan.plan_id, "--gate=governor", f"--reason={WHY}", *typed)
        assert left.value.code == 2
    assert not AuditEvent.objects.filter(kind="permit_grant_asked").exists()
    web.post(address, {**said, "confirm": settings.ACCOUNT})
    assert AuditEvent.objects.filter(kind="permit_grant_asked").count() == 1


def test_f13_the_command_in_live_with_the_account_typed_signs(
    redis: Client, plan: ExitPlan, settings: Any
) -> None:
    settings.APPLY_MODE = "live"
    typed = f"--confirm={settings.ACCOUNT}"
    call_command("permit_grant", plan.plan_id, "--gate=governor", f"--reason={WHY}", typed)
    assert standing(redis, plan) == [GOVERNOR]
