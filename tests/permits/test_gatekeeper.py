"""What both gates share: no permit for what closes nothing, and no signing without a record."""

from __future__ import annotations

from typing import Any, cast

import pytest

from permits.gatekeeper import Gatekeeper, RecorderEnded, Written
from quantum.plan import Action
from quantum.stream import Entry
from tests.house import House


def keeper() -> Gatekeeper:
    """Without desk and decision: whoever asks them fails."""
    return Gatekeeper(desk=cast("Any", None), decide=cast("Any", None), announce=cast("Any", None))


@pytest.mark.parametrize("action", [Action.HOLD, Action.NONE, Action.UPDATE_SL])
def test_a_plan_that_closes_nothing_gets_no_permit(action: Action) -> None:
    fields = {name.encode(): value.encode() for name, value in House.make(action=action).fields().items()}
    assert keeper().handle(Entry(entry_id="1-0", fields=fields)) is True


def test_a_gate_whose_recorder_has_ended_ends_too() -> None:
    gate = keeper()
    recorder = gate.start_recording(ack=lambda *_: None)
    gate.check_recorder()
    recorder.finish()
    with pytest.raises(RecorderEnded):
        gate.check_recorder()


def test_bytes_of_a_stranger_under_our_key_leave_no_row_and_end_nothing() -> None:
    assert Written(raw=b"\xff\xfe", gate="p33", plan_id="0" * 16, entry_id="1-0").row() is None
