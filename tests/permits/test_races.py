"""Many attempts, each with a token of its own, want the same pair at the same moment: one has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from quantum.plan import ExitPlan
from quantum.redis import Client
from tests.house import House
from tests.permits.conftest import ACTIVE
from tests.permits.racers import race
from tests.permits_by_hand import GOVERNOR, P33, lay, permit

ROUNDS, LANES = 200, 4
HEAD_START_S = 0.008


@pytest.fixture(scope="module")
def other_process(valkey: None, keys: None) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.permits.racers"],
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "quantum.settings"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.communicate(timeout=10)


def both_race(process: subprocess.Popen[str], redis: Client, plan: ExitPlan) -> list[dict[str, Any]]:
    at_s = time.monotonic() + HEAD_START_S
    asked = {"plan": plan.fields(), "state": ACTIVE.raw.decode(), "lanes": LANES, "at_s": at_s}
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(asked) + "\n")
    process.stdin.flush()
    here = race(plan, client=redis, state=ACTIVE.raw, lanes=LANES, at_s=at_s)
    there: list[dict[str, Any]] = json.loads(process.stdout.readline())
    return [{"process": "here", **told} for told in here] + [{"process": "there", **told} for told in there]


def test_of_eight_attempts_in_two_processes_exactly_one_spends_a_pair_two_hundred_times(
    redis: Client, settings: Settings, other_process: subprocess.Popen[str]
) -> None:
    """I1 at the gate: threads and processes, real server. The receipt, the winner and what was laid agree."""
    settings.APPLY_PERMIT_WAIT_MS = 5000
    redis.set(settings.KEYS.trading_state, ACTIVE.raw, px=120_000)
    winners: Counter[str] = Counter()
    for number in range(ROUNDS):
        plan = House.make(("BTCUSDT", "ETHUSDT", "SOLUSDT")[number % 3])
        governor, p33 = permit(plan, GOVERNOR), permit(plan, P33)
        lay(redis, plan, governor=governor, p33=p33)
        redis.rpush(settings.KEYS.wake(plan.plan_id), *["1"] * 2 * LANES)
        told = both_race(other_process, redis, plan)
        assert len(told) == 2 * LANES, f"round {number}: an attempt never ended"
        [winner] = [each for each in told if each["spent"]]
        assert {each["reason"] for each in told if not each["spent"]} == {"already_consumed"}
        assert winner["pair"] == [governor.decode(), p33.decode()]
        receipt = redis.hgetall(settings.KEYS.receipt(plan.plan_id))
        assert (receipt[b"token"], receipt[b"governor"], receipt[b"p33"]) == (
            winner["token"].encode(),
            governor,
            p33,
        )
        assert not redis.exists(
            settings.KEYS.governor_permit(plan.plan_id), settings.KEYS.p33_permit(plan.plan_id)
        )
        redis.delete(settings.KEYS.slot(plan.symbol))  # as the end of a plan does
        winners[winner["process"]] += 1
    assert set(winners) == {"here", "there"}, f"it was no race: {winners}"
