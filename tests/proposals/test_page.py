"""Proposing on a page: who may, with which reason, and once."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.urls import reverse

from apply.models import Plan, Proposal
from permits.models import PolicyVersion
from permits.policy import policies
from quantum.redis import Client
from tests.flow.test_admin import someone, text_of

ADDRESS = "admin:apply_proposal_propose"
SAID = {"symbol": "BTCUSDT", "action": "PARTIAL_25", "kill_score": "0.8", "reason": "it looks weak"}


@pytest.mark.django_db(transaction=True)
def test_a_person_with_the_permission_and_a_reason_proposes_once(redis: Client) -> None:
    address = reverse(ADDRESS)
    viewer, operator = (
        someone("viewer", "view_proposal"),
        someone("nina", "view_proposal", "view_plan", "propose"),
    )
    assert viewer.get(address).status_code == viewer.post(address, SAID).status_code == 403
    assert address not in text_of(viewer.get(reverse("admin:apply_proposal_changelist")))
    assert address in text_of(operator.get(reverse("admin:apply_proposal_changelist")))

    def once() -> str:
        [found] = re.findall(r'name="once" value="([0-9a-f]{32})"', text_of(operator.get(address)))
        return str(found)

    for wrong in (
        {"reason": "short"},
        {"symbol": "DOGEUSDT"},
        {"kill_score": "NaN"},
        {"action": "UPDATE_SL"},
    ):
        operator.post(address, {**SAID, "once": once(), **wrong}, follow=True)
        assert not Plan.objects.exists(), wrong
    sent = {**SAID, "once": once()}
    operator.post(address, sent, follow=True)
    answer = operator.post(address, sent, follow=True)  # a second click
    [row] = Proposal.objects.filter(refusal="")
    assert (row.actor, row.why, row.plan_id) == ("nina", SAID["reason"], Plan.objects.get().plan_id)
    assert "sent already" in text_of(answer)


@pytest.mark.django_db(transaction=True)
def test_a_policy_that_cannot_be_read_is_said_with_what_to_do_and_nothing_is_proposed(redis: Client) -> None:
    operator = someone("nina", "propose", "view_proposal", "view_plan")
    [once] = re.findall(r'name="once" value="([0-9a-f]{32})"', text_of(operator.get(reverse(ADDRESS))))
    rules = {**policies.seed(), "total": {"permits_per_hour": -1}}
    PolicyVersion.objects.create(version=1, rules=rules, by="a script", reason="past policy_set")
    for answer in (
        operator.get(reverse(ADDRESS)),
        operator.post(reverse(ADDRESS), {**SAID, "once": once}),
    ):
        shown = text_of(answer)
        assert answer.status_code == 200
        for told in ("Nothing can be proposed", "permits_per_hour: must be", "manage.py policy_set"):
            assert told in shown, told
        assert 'name="once"' not in shown
    assert not Plan.objects.exists()
    policies.change(rules=policies.seed(), by="nina", reason="mended by hand", expected_version=1)
    assert 'name="once"' in text_of(operator.get(reverse(ADDRESS)))


@pytest.mark.django_db(transaction=True)
def test_f13_in_live_the_account_is_typed(redis: Client, settings: Any) -> None:
    operator = someone("nina", "propose", "view_proposal", "view_plan")
    settings.APPLY_MODE = "live"
    shown = text_of(operator.get(reverse(ADDRESS), secure=True))
    assert "type the account&#x27;s name" in shown
    [once] = re.findall(r'name="once" value="([0-9a-f]{32})"', shown)
    for confirm in ("", "other"):
        answer = operator.post(reverse(ADDRESS), {**SAID, "once": once, "confirm": confirm}, secure=True)
        assert "confirm" in text_of(answer)
    assert not Plan.objects.exists()
