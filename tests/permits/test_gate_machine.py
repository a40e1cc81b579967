"""I1, I2 and I13 over random sequences: 500 on the real server, some beside it on the fake. `make deep` runs 10,000."""

from __future__ import annotations

import fakeredis
import pytest
from hypothesis.stateful import run_state_machine_as_test
from pytest_django.fixtures import Settings

from quantum.redis import Client
from tests.permits.gate_machine import WAIT_MS, machine_on, terms

OFTEN = 500
"""Of so many, 18 meet a hold; of fifty one or two, or none: what is tried moves with every constant of the sources."""


@pytest.mark.parametrize(("kind", "sequences"), [("valkey", 500), ("fakeredis", 50)])
def test_no_sequence_spends_twice_without_two_keys_or_under_a_halt(
    redis: Client, keys: None, settings: Settings, kind: str, sequences: int
) -> None:
    settings.APPLY_PERMIT_WAIT_MS = WAIT_MS
    machine = machine_on(redis if kind == "valkey" else fakeredis.FakeRedis(version=(7,)))
    run_state_machine_as_test(machine, settings=terms(sequences=sequences, derandomize=True))
    assert machine.seen["spent"] >= sequences / 4, "the sequences hardly spend anything"
    met = {"already_consumed", "halted", "not_armed"} | ({"hold"} if sequences >= OFTEN else set())
    assert met <= set(machine.seen)
