"""Hundreds of waits at the same time in two workers: each pair is spent once, and nothing else is."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from apply.acting.lanes import WAITERS_MAX
from apply.plans import publish
from permits.desk.desk import Desk, Finding, Issued
from permits.gate.gate import Gate
from permits.gate.outcome import Blocked
from quantum.keys import APPLY_GROUP
from quantum.plan import ExitPlan
from quantum.redis import Client
from quantum.signing import Signer
from tests.house import House, wait_for
from tests.permits.conftest import ACTIVE, outcome_of
from tests.permits.gate_worker import TOLD
from tests.permits_by_hand import GOVERNOR, P33

pytestmark = pytest.mark.slow

PAIRS, LONE, NONE = 500, 34, 32
SYMBOLS = 300
WAIT_MS = 6000
PERMITS_WITHIN_S = 1.5
MISSING = {GOVERNOR: "missing_p33", P33: "missing_governor", "": "missing_both"}


@pytest.fixture
def two_workers(redis: Client, keys: None) -> Iterator[list[subprocess.Popen[bytes]]]:
    env = os.environ | {
        "DJANGO_SETTINGS_MODULE": "quantum.settings",
        "APPLY_PERMIT_WAIT_MS": str(WAIT_MS),
        "LOG_LEVEL": "WARNING",
    }
    command = [sys.executable, "-m", "tests.permits.gate_worker"]
    workers = [
        subprocess.Popen([*command, name, ACTIVE.raw.decode()], env=env, stderr=subprocess.DEVNULL)
        for name in ("one", "two")
    ]
    yield workers
    for worker in workers:
        worker.kill()
        worker.wait(5)


def issue(desks: dict[str, Desk], plan: ExitPlan, gate: str) -> None:
    finding = Finding(
        verdict=True,
        reason="approved",
        quantity=Decimal("0.25"),
        exchange_amt=Decimal(1),
        ledger_amt=Decimal(1),
    )
    assert isinstance(desks[gate].issue(plan, finding), Issued)


def given(plans: list[ExitPlan]) -> dict[str, tuple[str, ...]]:
    """Which permits come for which plan: 500 pairs, 34 of one gate alone, 34 of the other, 32 none."""
    kinds = [(GOVERNOR, P33)] * PAIRS + [(GOVERNOR,)] * LONE + [(P33,)] * LONE + [()] * NONE
    return {plan.plan_id: kind for plan, kind in zip(plans, kinds, strict=True)}


def test_500_pairs_at_random_times_and_100_plans_that_lack_one_in_two_workers(
    redis: Client, settings: Settings, two_workers: list[subprocess.Popen[bytes]]
) -> None:
    """500 consumes, none twice, none lost; 100 blocks with the right reasons; late permits stay unspent."""
    chance = random.Random(3)
    redis.set(settings.KEYS.trading_state, ACTIVE.raw, px=600_000)
    plans = [House.make(f"S{number % SYMBOLS:03d}USDT") for number in range(PAIRS + 2 * LONE + NONE)]
    permits = given(plans)
    desks = {
        gate: Desk(gate=gate, signer=Signer(name=gate, directory=settings.PERMIT_KEYS_DIR), client=redis)
        for gate in (GOVERNOR, P33)
    }
    wait_for(lambda: both_read(redis, settings), what="both workers to read")

    for plan in chance.sample(plans, len(plans)):
        publish.put_on_stream(redis, plan)
    started = time.monotonic()
    coming = sorted(
        (chance.uniform(0, PERMITS_WITHIN_S), number, gate)
        for number, plan in enumerate(plans)
        for gate in permits[plan.plan_id]
    )
    for at_s, number, gate in coming:
        time.sleep(max(0.0, started + at_s - time.monotonic()))
        issue(desks, plans[number], gate)
    wait_for(lambda: redis.llen(TOLD) >= len(plans), what="every plan to end", within_s=30)

    ended = [json.loads(line) for line in redis.lrange(TOLD, 0, -1)]
    check_each_ended_once(ended, plans)
    spent = {line["plan"]: line["token"] for line in ended if line["token"]}
    assert set(spent) == {plan for plan, kind in permits.items() if len(kind) == 2}
    assert len(set(spent.values())) == PAIRS
    for plan_id, token in spent.items():
        assert redis.hget(settings.KEYS.receipt(plan_id), "token") == token.encode()
    blocked = {line["plan"]: line["reason"] for line in ended if not line["token"]}
    assert blocked == {
        plan: f"permit_timeout_or_missing:{MISSING[''.join(kind)]}"
        for plan, kind in permits.items()
        if len(kind) < 2
    }
    check_late_permits_stay(redis, settings, desks, [plan for plan in plans if plan.plan_id in blocked])


def test_as_many_waits_as_apply_may_have_each_see_the_server(
    gate: Gate, redis: Client, settings: Settings
) -> None:
    """All of them wait at the server at the same time: with a smaller pool some only ask now and then for a line,
    and one that is refused at its end is told that Redis is gone."""
    settings.APPLY_PERMIT_WAIT_MS = 1500
    plans = [House.make() for _ in range(WAITERS_MAX)]
    with ThreadPoolExecutor(WAITERS_MAX) as waiters:
        waiting = [waiters.submit(outcome_of, gate, plan) for plan in plans]
        at_once = 0
        while not all(wait.done() for wait in waiting):
            at_once = max(at_once, int(redis.info("clients")["blocked_clients"]))
            time.sleep(0.01)
    ended = [wait.result() for wait in waiting]
    assert Counter(outcome.reason for outcome in ended if isinstance(outcome, Blocked)) == {
        "missing_both": WAITERS_MAX
    }
    assert at_once > WAITERS_MAX / 2, f"only {at_once} of {WAITERS_MAX} waits were at the server"


def both_read(redis: Client, settings: Settings) -> bool:
    """Listed, or blocked in their read: Redis 7.0 lists a consumer only after its first entry."""
    return sum(1 for row in redis.client_list() if row["cmd"] == "xreadgroup" and "b" in row["flags"]) == 2


def check_each_ended_once(ended: list[dict[str, Any]], plans: list[ExitPlan]) -> None:
    times = Counter(line["plan"] for line in ended)
    assert set(times) == {plan.plan_id for plan in plans}
    assert set(times.values()) == {1}, "a plan ended twice"
    assert set(Counter(line["worker"] for line in ended)) == {"one", "two"}


def check_late_permits_stay(
    redis: Client, settings: Settings, desks: dict[str, Desk], plans: list[ExitPlan]
) -> None:
    """The missing ones come now, after the wait: nobody takes the pair."""
    for plan in plans:
        for gate in (GOVERNOR, P33):
            issue(desks, plan, gate)
    wait_for(
        lambda: redis.xpending(settings.KEYS.plan_stream, APPLY_GROUP)["pending"] == 0,
        what="all acknowledged",
    )
    time.sleep(0.5)
    for plan in plans:
        keys = settings.KEYS
        assert redis.exists(keys.governor_permit(plan.plan_id), keys.p33_permit(plan.plan_id)) == 2
        assert not redis.exists(keys.receipt(plan.plan_id))
