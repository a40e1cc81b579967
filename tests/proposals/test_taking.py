"""Whatever proposes an exit ends in one function: a plan, once, or a refusal with a reason, once."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.conf import settings
from pytest_django.fixtures import Settings

from apply.models import Plan, Proposal
from apply.proposals import proposal as proposals
from apply.proposals import taking
from apply.proposals.proposal import Refused
from apply.proposals.taking import CameTo, Origin, Taken
from quantum import clock
from quantum.models import AuditEvent
from quantum.plan import Action
from quantum.reasons import ProposalReason
from quantum.redis import Client
from tests.proposals.by_hand import raw, said

pytestmark = pytest.mark.django_db
HERE = Origin(way="tests", actor="tests")
LATE, EARLY = f"{clock.now_s() - 3600:.3f}", f"{clock.now_s() + 3600:.3f}"


def take(redis: Client, fields: dict[bytes, bytes]) -> Taken:
    return taking.take_fields(redis, fields, origin=HERE)


def test_what_a_brain_said_is_kept_with_its_plan(redis: Client) -> None:
    taken = take(redis, raw(kill_score="0.81"))
    assert taken.came_to is CameTo.PLAN and taken.published and taken.plan
    [row], [plan] = Proposal.objects.all(), Plan.objects.all()
    assert (row.plan_id, row.kill_score, row.reason_codes) == (plan.plan_id, "0.81", "regime_flip,age")
    assert (row.k_regime_flip, row.k_age_penalty, row.r_net) == (
        Decimal("0.4"),
        Decimal("0.05"),
        Decimal("2.5"),
    )
    assert (plan.kill_score, plan.reason_codes, plan.source) == ("0.81", "regime_flip,age", "a brain outside")
    assert redis.xlen(settings.KEYS.plan_stream) == 1


def test_the_same_said_again_makes_no_second_plan_whatever_it_is_stamped_with(redis: Client) -> None:
    fields = raw()
    first = take(redis, fields)
    again = take(redis, {**fields, b"last_update_epoch": b"1999999999", b"reason_codes": b"other"})
    assert (first.came_to, again.came_to) == (CameTo.PLAN, CameTo.KNOWN)
    assert first.mark == again.mark
    assert (Plan.objects.count(), Proposal.objects.count()) == (1, 1)
    assert redis.xlen(settings.KEYS.plan_stream) == 1


def test_another_spelling_of_the_same_numbers_is_the_same_word(redis: Client) -> None:
    """A brain whose hash says 0.70 and whose HTTP client says 0.7 would close twice."""
    at_s = f"{clock.now_s():.0f}"
    first = take(redis, raw(kill_score="0.70", computed_at_utc=f"{at_s}.000"))
    again = take(redis, raw(kill_score="0.7", computed_at_utc=at_s))
    assert (first.came_to, again.came_to) == (CameTo.PLAN, CameTo.KNOWN)
    assert first.mark == again.mark


@pytest.mark.parametrize(
    "other",
    [{"kill_score": "0.9"}, {"harvest_action": "FULL_CLOSE_PROPOSED"}, {"new_sl_proposed": "61000"}],
    ids=str,
)
def test_what_differs_in_score_action_or_stop_is_another_plan(redis: Client, other: dict[str, str]) -> None:
    fields = said()
    take(redis, {name.encode(): text.encode() for name, text in fields.items()})
    take(redis, {name.encode(): text.encode() for name, text in {**fields, **other}.items()})
    assert Plan.objects.count() == 2


@pytest.mark.parametrize("action", ["HOLD", "NONE"])
def test_who_asks_for_nothing_leaves_no_row(redis: Client, action: str) -> None:
    assert take(redis, raw(harvest_action=action)).came_to is CameTo.NOTHING
    assert not (Proposal.objects.exists() or Plan.objects.exists() or AuditEvent.objects.exists())


WRONG = [
    (raw(kill_score="NaN"), "malformed_proposal"),
    (raw(kill_score="1e-5"), "malformed_proposal"),
    (raw(kill_score="99999"), "malformed_proposal"),
    (raw(R_net="inf"), "malformed_proposal"),
    (raw(k_sigma_spike="-nan"), "malformed_proposal"),
    (raw(new_sl_proposed="-1"), "malformed_proposal"),
    (raw(computed_at_utc="yesterday"), "malformed_proposal"),
    (raw(computed_at_utc="1700000000000"), "malformed_proposal"),
    (raw(symbol=""), "malformed_proposal"),
    (raw(symbol="BTC\x00USDT"), "malformed_proposal"),
    (raw(reason_codes="x" * 401), "malformed_proposal"),
    ({**raw(), b"symbol": b"\xff\xfe"}, "malformed_proposal"),
    ({**raw(), b"more": b"x" * 5000}, "malformed_proposal"),
    ({}, "malformed_proposal"),
    (raw(harvest_action="SELL_IT_ALL"), "unknown_action"),
    (raw(harvest_action="UPDATE_SL"), "missing_stop"),
    (raw(computed_at_utc=EARLY), "future_proposal"),
    (raw(computed_at_utc="2024-01-01T00:00:00Z"), "stale_proposal"),
    (raw(computed_at_utc=LATE), "stale_proposal"),
    (raw(symbol="DOGEUSDT"), "symbol_not_allowed"),
]


@pytest.mark.parametrize(("fields", "reason"), WRONG, ids=lambda value: str(value)[:60])
def test_a_wrong_one_is_refused_once_with_a_reason_and_the_next_one_passes(
    redis: Client, fields: dict[bytes, bytes], reason: str
) -> None:
    for _ in range(2):  # delivered again, or read again a second later
        assert take(redis, fields).reason == reason
    [row] = Proposal.objects.all()
    assert (row.refusal, row.plan_id) == (reason, "") and row.refusal_text
    assert AuditEvent.objects.filter(kind="proposal_refused", reason=reason).count() == 1
    assert not Plan.objects.exists()
    assert take(redis, raw()).came_to is CameTo.PLAN


def test_our_own_scorers_are_held_to_the_same(redis: Client) -> None:
    proposal = proposals.Proposal(
        symbol="BTCUSDT",
        action=Action.PARTIAL_25,
        kill_score_text="0.5",
        computed_at_text=f"{clock.now_s():.3f}",
        k_ts_drop=Decimal("NaN"),
    )
    assert taking.take(redis, proposal, origin=HERE).reason is ProposalReason.MALFORMED_PROPOSAL


def test_one_that_was_taken_in_time_and_is_said_again_too_late_was_no_mistake(
    redis: Client, settings: Settings
) -> None:
    """A hash keeps its last word for ever; the warden reads it again when it starts."""
    fields = raw(computed_at_utc=f"{clock.now_s() - 5:.3f}")
    take(redis, fields)
    settings.APPLY_PLAN_TTL_SEC = Decimal(2)
    assert take(redis, fields).came_to is CameTo.KNOWN
    assert not Proposal.objects.exclude(refusal="").exists()


def test_an_iso_time_and_its_epoch_are_one_moment() -> None:
    for text, epoch in (
        ("2026-11-21T17:00:00.123456+00:00", "1795280400.123456"),
        ("2026-11-21T18:00:00+01:00", "1795280400"),
        ("2026-11-21 17:00:00", "1795280400"),
    ):
        assert proposals.read(said(computed_at_utc=text)).computed_at_text == epoch


def test_a_hash_that_names_another_symbol_than_its_key_is_refused() -> None:
    with pytest.raises(Refused):
        proposals.read_bytes(raw(symbol="ETHUSDT"), symbol="BTCUSDT")
    assert proposals.read_bytes(raw(symbol=""), symbol="BTCUSDT").symbol == "BTCUSDT"


def test_a_plan_that_redis_did_not_hear_of_is_recorded_and_not_lost(redis: Client) -> None:
    """The janitor publishes it while it is fresh."""
    from quantum.redis import RedisError

    class Deaf:
        def evalsha(self, *_: object) -> None:
            raise RedisError("gone")

    taken = taking.take_fields(Deaf(), raw(), origin=HERE)
    assert (taken.came_to, taken.published) == (CameTo.PLAN, False)
    assert Plan.objects.get().state == "open" and Proposal.objects.get().plan_id
