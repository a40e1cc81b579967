"""What the checker rests on: it shares nothing with the judged, and blocking everything is found as well.

Blocking everything keeps every other invariant: so exits that no fault has met must fill.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.chaos import books, checker, ends, evidence, orders
from tests.chaos.evidence import Evidence
from tests.chaos.good import START_S, World, world


@pytest.mark.parametrize("part", [checker, orders, books, ends, evidence], ids=lambda part: part.__name__)
def test_the_checker_imports_nothing_of_the_product(part: object) -> None:
    tree = ast.parse(Path(str(part.__file__)).read_text())  # type: ignore[attr-defined]
    named = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    named += [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    foreign = {name for name in named if name.partition(".")[0] not in sys.stdlib_module_names}
    assert {name for name in foreign if not name.startswith("cryptography.")} <= {
        "tests.chaos",
        "tests.chaos.evidence",
    }


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
