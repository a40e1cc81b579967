"""Proposing on a page: who may, with which reason, and once."""

from __future__ import annotations

import re

import pytest
from django.urls import reverse

from apply.models import Plan, Proposal
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
