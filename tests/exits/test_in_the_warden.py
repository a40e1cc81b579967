"""The exit brain where it lives: in the warden, on snapshots of the feed and klines over HTTP, through both gates."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings as django_settings
from django.test import Client as WebClient
from django.urls import reverse

from apply import warden
from apply.exits import brain
from apply.exits.apart import Apart
from apply.exits.brain import ExitBrain
from apply.exits.demo import DemoFeed
from apply.exits.proposing import proposal_of, to_the_gates
from apply.exits.score import Crossing
from apply.exits.scorers import NoSuchScorer
from apply.models import PENDING_STATES, Plan, Proposal
from apply.proposals import tokens
from quantum import clock
from quantum.plan import Action
from quantum.redis import Client
from tests.exits import by_hand
from tests.house import House, wait_for


def duty_of(client: Client) -> list[type]:
    """Who of the warden's duties proposes."""
    found = [getattr(duty, "__self__", None) for duty in warden.duties_of(client)]
    behind = [
        type(getattr(each._duty, "__self__", None) if isinstance(each, Apart) else each) for each in found
    ]
    return [each for each in behind if each in (DemoFeed, ExitBrain)]


def test_who_proposes_is_what_exit_brain_names(redis: Client, settings: Any) -> None:
    for name, behind in (("off", []), ("demo", [DemoFeed]), ("rules", [ExitBrain])):
        settings.EXIT_BRAIN = name
        assert duty_of(redis) == behind
    settings.EXIT_BRAIN = "nobody"
    with pytest.raises(NoSuchScorer):
        warden.duties_of(redis)


def test_what_the_scorer_finds_passes_both_gates_once_for_every_position(
    house: House, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brain, "EVERY_S", 0.2)
    settings.EXIT_BRAIN, settings.EXIT_INTERVAL = "tests.exits.by_hand.Eager", "1m"
    house.start("governor", "p33", "apply")
    house.begin(
        "warden"
    )  # what is not adopted yet would be denied once, and proposed again only when it changes

    def ended() -> bool:
        rows = Plan.objects.exclude(state__in=PENDING_STATES)
        return set(rows.values_list("symbol", flat=True)) == set(House.POSITIONS)

    wait_for(ended, what="an exit of every position", within_s=30)
    rows = Plan.objects.all()
    assert {(row.state, row.gate_reason, row.source, row.reason_codes) for row in rows} == {
        ("filled", "", "exit-brain:eager", "eager,R_net=1.5,k_regime_flip=0.7")
    }
    assert set(Proposal.objects.values_list("why", flat=True)) == {"the test says so."}
    assert len(rows) == len(House.POSITIONS)  # the positions are smaller now, and still the same ones


def test_a_proposal_of_a_scorer_explains_itself_where_people_and_programs_look(
    redis: Client, admin_client: WebClient
) -> None:
    """The sentence of the score, on its row, on the list, on its own page and by HTTP."""
    score, symbol = (
        by_hand.a_score(Action.PARTIAL_25, Crossing("kill_score")),
        django_settings.APPLY_ALLOWLIST[0],
    )
    to_the_gates(redis)(proposal_of(symbol, score, scorer="says", at_s=clock.now_s()), score.reason)
    row = Proposal.objects.get()
    assert (row.why, row.plan_id) == (score.reason, Plan.objects.get().plan_id)
    listed, shown = (
        admin_client.get(reverse(f"admin:apply_proposal_{page}", args=args)).content.decode()
        for page, args in (("changelist", ()), ("change", (row.pk,)))
    )
    assert score.reason in listed and score.reason in shown
    token = tokens.create(
        name="onlooker", scopes=(tokens.READ,), symbols=(symbol,), per_minute=9, by="tests", reason="looks on"
    )
    answer = admin_client.get(f"/api/proposals/{row.pk}", headers={"Authorization": f"Bearer {token}"})
    assert answer.json()["why"] == score.reason
