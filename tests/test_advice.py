"""What a reason means and what to do next is read from docs/OPERATIONS.md, and every reason has it."""

from __future__ import annotations

from enum import StrEnum

import pytest

from quantum import advice
from quantum.reasons import ApplyReason, BrainReason, GateReason, GovernorReason

EVERY = [token for kind in (GateReason, ApplyReason, BrainReason, GovernorReason) for token in kind]


@pytest.mark.parametrize("reason", EVERY, ids=str)
def test_every_reason_says_what_it_means_and_what_to_do(reason: StrEnum) -> None:
    found = advice.of(str(reason))
    assert found is not None and found.means and found.next


def test_a_gate_speaks_for_itself() -> None:
    governor, brain = advice.of("stale_plan", gate="governor"), advice.of("stale_plan", gate="p33")
    assert governor is not None and "the Governor saw it" in governor.means
    assert brain is not None and "P3.3 saw it" in brain.means


def test_what_nobody_wrote_about_has_no_advice() -> None:
    assert advice.of("<script>") is None
