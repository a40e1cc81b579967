"""Blocking everything keeps every other invariant: so exits that no fault has met must fill."""

from __future__ import annotations

from tests.chaos import checker, ends
from tests.chaos.evidence import Evidence
from tests.chaos.good import START_S, World, world


def findings_of(good: World) -> list[str]:
    return [finding.line() for finding in checker.check(good.evidence)]


def blocked_instead(evidence: Evidence, plans: int) -> None:
    for row in evidence.plans[:plans]:
        row["state"] = "blocked"


def test_blocking_everything_fails_too() -> None:
    good = world()
    blocked_instead(good.evidence, 3)
    assert any(line.startswith("untouched") and "untouched=5 filled=2" in line for line in findings_of(good))


def test_what_a_fault_has_met_need_not_fill() -> None:
    good = world()
    assert len(ends.untouched(good.evidence)) == 5
    good.evidence.faults.append(
        {"kind": "wipe", "symbols": None, "plans": [], "from": START_S, "until": START_S + 900}
    )
    blocked_instead(good.evidence, 3)
    assert not any("did not fill" in line for line in findings_of(good))


def test_a_fault_of_one_symbol_leaves_the_others_alone() -> None:
    good = world()
    good.evidence.faults.append(
        {"kind": "hold", "symbols": ["ETHUSDT"], "plans": [], "from": START_S, "until": START_S + 900}
    )
    assert {plan["symbol"] for plan in ends.untouched(good.evidence)} == {"BTCUSDT"}


def test_a_storm_that_leaves_nothing_alone_proves_nothing() -> None:
    good = world()
    good.evidence.published *= 8
    good.evidence.faults[0].update({"from": START_S, "until": START_S + 900})
    assert any("too few plans were left alone" in line for line in findings_of(good))
