"""A storm on a machine that stands still: asked again, and never taken for one that broke nothing it must not break."""

from __future__ import annotations

import pytest

from tests.chaos.evidence import Finding
from tests.chaos.rotation import LATE, NO_END, judged

BROKEN, PASSED = 1, 0


@pytest.mark.parametrize(
    ("plays", "away", "status"),
    [
        ([PASSED], True, PASSED),
        ([BROKEN], True, BROKEN),
        ([LATE], False, LATE),
        ([NO_END], False, NO_END),
        ([LATE, PASSED], True, PASSED),
        ([LATE, BROKEN], True, BROKEN),
        ([NO_END, LATE, NO_END], True, NO_END),
        ([NO_END, LATE, LATE], True, PASSED),
    ],
)
def test_what_is_late_while_the_machine_stood_still_is_played_again(
    plays: list[int], away: bool, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    left = list(plays)
    assert judged(7, lambda _: left.pop(0), lambda *_: "it stood still" if away else "") == status
    assert left == [], "it did not play so often"
    said = capsys.readouterr().out
    assert ("NOT JUDGED" in said) is (plays[-1] == LATE and status == PASSED)


def test_only_what_waits_for_a_clock_is_of_time() -> None:
    assert [name for name in ("I1", "I8", "I14", "untouched") if Finding(name, "it").is_of_time()] == [
        "I8",
        "untouched",
    ]
