"""What another policy would have decided: those behind a stopped plan find room, those behind a freed one find less."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from msgspec.structs import replace

from permits.governor import replay
from permits.governor.replay import NOT_ENOUGH, Past, Replayed
from permits.governor.tally import Charge, Tally
from permits.models import Judgement, Permit, PolicyVersion
from permits.policy import judgements, policies
from permits.policy.judgements import Kept
from permits.policy.policy import TOTAL, Facts, Limits, LimitSet, Policy, evaluate
from quantum.commands import Exit
from tests.permits.governors import Start, limit

MINUTE_MS = 60_000
AT_MS = 1_764_000_000_000
SYMBOL, OTHER = "BTCUSDT", "ETHUSDT"
ONE = Decimal(1)


def policy_of(**total: Any) -> Policy:
    limits = LimitSet(total=Limits(**total))
    return Policy(mode="paper", allowlist=frozenset({SYMBOL, OTHER}), plan_ttl_s=Decimal(30), limits=limits)


def lived(
    policy: Policy, count: int, *, failed: Iterable[int] = (), **bent: Any
) -> tuple[list[Past], list[Charge]]:
    """A plan a minute, decided by that policy; what was let pass was filled a second later."""
    tally, pasts, charges = Tally(), list[Past](), list[Charge]()
    for number in range(count):
        at_ms, plan_id, symbol = AT_MS + number * MINUTE_MS, f"{number:016x}", (SYMBOL, OTHER)[number % 2]
        facts = Facts(
            now_s=Decimal(at_ms) / 1000, trading_active=True, quantity=ONE, notional=ONE * 100,
            of_symbol=tally.use(symbol, now_ms=at_ms), in_total=tally.use(TOTAL, now_ms=at_ms),
        )  # fmt: skip
        kept = Kept(symbol, "paper", facts.now_s + 30, replace(facts, **bent), "")
        verdict = evaluate(kept, policy, kept.facts)
        charge = None
        if verdict.approved:
            charge = Charge(plan_id, symbol, at_ms + 1000, ONE, ONE * 100, number in failed)
            tally.charge(charge)
            charges.append(charge)
        pasts.append(Past(plan_id, symbol, verdict.reason.value, kept, charge=charge))
    return pasts, charges


def passed(found: list[Replayed]) -> list[int]:
    return [number for number, one in enumerate(found) if one.reason == "approved"]


def test_an_unchanged_policy_says_what_was_said() -> None:
    for limits in (
        {"permits_per_5min": 2},
        {"cooldown_s": Decimal(90)},
        {"notional_per_day_usd": Decimal(700)},
    ):
        policy = policy_of(**limits)
        pasts, charges = lived(policy, 20)
        found = replay.replay(pasts, policy, charges=charges)
        assert 0 < len(passed(found)) < 20
        assert not any(one.differs for one in found)


def test_a_plan_that_would_have_been_stopped_leaves_its_room_to_those_behind() -> None:
    """Judged each by itself, every plan after the second would be denied: five had been let pass in 5 minutes."""
    pasts, charges = lived(policy_of(), 12)
    found = replay.replay(pasts, policy_of(permits_per_5min=2), charges=charges)
    assert passed(found) == [0, 1, 6, 7]
    assert found[2].stops and [found[2].rule[name] for name in ("used", "limit")] == [2, 2]


def test_a_plan_that_would_have_been_let_pass_takes_its_room_from_those_behind() -> None:
    pasts, charges = lived(policy_of(permits_per_5min=1), 12)
    assert [number for number, past in enumerate(pasts) if past.said == "approved"] == [0, 6]
    found = replay.replay(pasts, policy_of(permits_per_5min=3), charges=charges)
    assert passed(found) == [0, 1, 2, 6, 7, 8]
    assert [one.frees for one in found[:4]] == [False, True, True, False]


def test_a_cooldown_and_a_days_amount_are_counted_from_what_would_have_been_closed() -> None:
    pasts, charges = lived(policy_of(), 8)
    cooled = replay.replay(pasts, policy_of(cooldown_s=Decimal(119)), charges=charges)
    assert passed(cooled) == [0, 2, 4, 6]
    spent = replay.replay(pasts, policy_of(notional_per_day_usd=Decimal(250)), charges=charges)
    assert passed(spent) == [0, 1]


def test_a_failure_of_a_plan_that_would_have_been_stopped_opens_no_circuit() -> None:
    pasts, charges = lived(policy_of(), 4, failed=(1, 2))
    circuit = {"failures_in_a_row": 2, "circuit_open_s": Decimal(3600)}
    assert passed(replay.replay(pasts, policy_of(**circuit), charges=charges)) == [0, 1, 2]
    draft = replace(policy_of(**circuit), allowlist=frozenset({SYMBOL}))
    assert passed(replay.replay(pasts, draft, charges=charges)) == [0, 2], "plan 1 never failed then"


def test_what_no_policy_decides_stays() -> None:
    pasts, charges = lived(policy_of(), 2, trading_active=False)
    assert [past.said for past in pasts] == ["halted", "halted"]
    found = replay.replay(pasts, policy_of(), charges=charges)
    assert not any(one.differs for one in found)
    gone = replace(policy_of(), allowlist=frozenset({OTHER}))
    assert [one.reason for one in replay.replay(pasts, gone, charges=charges)] == [
        "not_in_allowlist",
        "halted",
    ]


def test_a_draft_that_needs_a_size_that_nobody_read_says_that_it_cannot_tell() -> None:
    pasts, charges = lived(policy_of(), 2, quantity=None, notional=None)
    found = replay.replay(pasts, policy_of(notional_per_day_usd=Decimal(1)), charges=charges)
    assert [one.reason for one in found] == [NOT_ENOUGH, NOT_ENOUGH]
    assert not any(one.differs or one.known for one in found)


def test_a_yes_of_people_counts_for_a_draft_that_asks_them() -> None:
    pasts, charges = lived(policy_of(), 2)
    pasts[0] = replace(pasts[0], approved=True)
    found = replay.replay(pasts, policy_of(approval_above_usd=Decimal(50)), charges=charges)
    assert [one.reason for one in found] == ["approved", "awaiting_approval"]


# ---- what is kept, and the command


@pytest.mark.usefixtures("transactional_db", "keys")
def test_a_decision_before_inputs_were_kept_is_not_guessed_at(start: Start, tmp_path: Path) -> None:
    governor = start()
    assert [governor.reason() for _ in range(3)] == ["approved"] * 3
    governor.end()
    assert [judgements.read(row).facts.in_total.in_flight for row in Judgement.objects.order_by("id")] == [
        0,
        1,
        2,
    ]
    Judgement.objects.filter(plan_id=Permit.objects.order_by("id")[0].plan_id).delete()
    Judgement.objects.filter(plan_id=Permit.objects.order_by("id")[1].plan_id).update(reason="halted")

    def told(*words: str, **more: Any) -> dict[str, Any]:
        out = io.StringIO()
        call_command("policy_replay", *words, json=True, stdout=out, stderr=io.StringIO(), **more)
        found: dict[str, Any] = json.loads(out.getvalue())
        return found

    found = told()
    assert (found["plans"], len(found["not_enough_recorded"]), found["differing"]) == (3, 2, [])
    assert found["by_the_policy_of_their_time"] == {"agree": 1, "of": 1}
    assert [one["would_be"] for one in told("allowlist=SOLUSDT")["differing"]] == ["not_in_allowlist"]
    draft = tmp_path / "draft.json"
    draft.write_text(json.dumps({"rules": {"allowlist": ["SOLUSDT"]}}))
    assert [one["would_be"] for one in told(draft=str(draft))["differing"]] == ["not_in_allowlist"]
    assert told(last=1)["plans"] == 1


@pytest.mark.usefixtures("transactional_db", "keys")
def test_each_decision_agrees_with_the_policy_of_its_time_whatever_holds_now(start: Start) -> None:
    limit("permits_per_5min=1")
    governor = start()
    assert [governor.reason(), governor.reason()] == ["approved", "burst_limit"]
    limit("permits_per_5min=5")
    governor.governor._books.look(age_s=0)
    assert governor.reason() == "approved"
    governor.end()
    recorded = replay.recent(10)
    assert replay.agree(recorded.pasts) == (3, 3)
    found = replay.replay(recorded.pasts, policies.current(), charges=recorded.charges)
    assert [one.frees for one in found] == [False, True, False]
    PolicyVersion.objects.filter(version__lt=policies.current().version).update(
        rules={"allowlist": ["SOLUSDT"]}
    )
    assert replay.agree(recorded.pasts) == (1, 3), "somebody changed the past"


@pytest.mark.usefixtures("transactional_db")
def test_a_policy_that_cannot_be_read_is_mended_by_a_whole_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    PolicyVersion.objects.create(version=1, rules=[], by="x", reason="y" * 8)
    senseless: list[Any] = [[], {"total": 3}, {"shadow": "x"}, {"symbols": {"ETHUSDT": 1}}]
    for rules in senseless:
        PolicyVersion.objects.update(rules=rules)
        for more in ({}, {"shadow": True}, {"symbol": "ETHUSDT"}):
            with pytest.raises(SystemExit) as left:
                call_command("policy_set", "permits_per_5min=5", reason="to mend it", **more)
            assert left.value.code == Exit.USAGE
    assert "give a whole policy with --draft FILE" in capsys.readouterr().err
    draft = tmp_path / "draft.json"
    draft.write_text('{"allowlist": ["BTCUSDT"]}')
    call_command(
        "policy_set", draft=str(draft), reason="to mend it", stdout=io.StringIO(), stderr=io.StringIO()
    )
    assert policies.current().allowlist == {"BTCUSDT"}


@pytest.mark.usefixtures("transactional_db")
def test_a_draft_that_is_nonsense_is_refused_with_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limit("permits_per_5min=5")
    draft = tmp_path / "draft.json"
    for text, said in (
        ("{", "no JSON file"),
        ('{"allowlist": []}', "at least one symbol"),
        ("[]", "allowlist"),
    ):
        draft.write_text(text)
        for command in ("policy_replay", "policy_set"):
            with pytest.raises(SystemExit) as left:
                call_command(command, draft=str(draft))
            assert left.value.code == Exit.USAGE
            assert said in capsys.readouterr().err
