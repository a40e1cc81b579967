"""1,000 plans of mixed fate through the real Governor, and through a replay of what was kept of them."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError

from permits.desk import approvals, payloads
from permits.governor import replay
from permits.models import Approval, Judgement, Permit, Usage
from permits.policy import policies
from quantum import clock
from quantum.plan import ExitPlan
from quantum.reasons import GovernorReason
from quantum.redis import Client
from tests.house import House, wait_for
from tests.permits.governors import AtWork, Start, arm, limit, snapshot

pytestmark = pytest.mark.usefixtures("transactional_db", "keys")
PLANS, BLOCK = 1000, 100
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


class Time:
    """Goes on by itself, and jumps ahead when it is told to: hours of plans in seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead_s = 0.0
        now, now_s, now_ms, boot_s = clock.now, clock.now_s, clock.now_ms, clock.boot_s
        monkeypatch.setattr(clock, "now", lambda: now() + dt.timedelta(seconds=self.ahead_s))
        monkeypatch.setattr(clock, "now_s", lambda: now_s() + self.ahead_s)
        monkeypatch.setattr(clock, "now_ms", lambda: now_ms() + int(self.ahead_s * 1000))
        monkeypatch.setattr(clock, "boot_s", lambda: boot_s() + self.ahead_s)


class Day:
    """Plans as they come, and what becomes of those that were let pass."""

    def __init__(self, governor: AtWork, redis: Client, time: Time, patch: pytest.MonkeyPatch) -> None:
        self.governor, self.redis, self.time, self.patch = governor, redis, time, patch
        self.random, self.in_flight = Random(7), list[ExitPlan]()

    def go(self) -> None:
        for number in range(PLANS):
            self.time.ahead_s += (
                5 * 3600 if number % BLOCK == 0 else self.random.choice((0.0, 0.3, 2, 4, 20, 40))
            )
            if number % 10 == 0:
                arm(self.redis)
            for symbol in SYMBOLS:
                snapshot(self.redis, symbol=symbol)
            while len(self.in_flight) > self.random.choice((0, 0, 0, 2)):
                self.end(self.in_flight.pop(0))
            self.governor.governor.look()
            kind = self.random.choices(list(KINDS), weights=[weight for weight, _ in KINDS.values()])[0]
            plan = KINDS[kind][1](self)
            if self.governor.answer(plan).verdict:
                self.in_flight.append(plan)
            self.patch.undo()

    def end(self, plan: ExitPlan) -> None:
        """As a settlement does: what it came to is charged, what it held is freed."""
        kind = self.random.choice(("executed", "executed", "failed", "nothing"))
        if kind != "nothing":
            size = Decimal(self.random.randrange(1, 26)) / 100 if kind == "executed" else Decimal(0)
            Usage.objects.create(
                plan_id=plan.plan_id, symbol=plan.symbol, kind=kind, quantity=size, notional=size * 49_990,
                at=clock.now(),
            )  # fmt: skip
        self.redis.hdel(settings.KEYS.reserved(payloads.GOVERNOR), plan.plan_id)

    # ---- plans

    def plain(self) -> ExitPlan:
        return House.make(self.random.choice(SYMBOLS[:2]))

    def foreign(self) -> ExitPlan:
        return House.make("XRPUSDT")

    def of_another_mode(self) -> ExitPlan:
        return House.make(mode="live")

    def late(self) -> ExitPlan:
        return House.make(timestamp_text=f"{clock.now_s() - 3600:.3f}")

    def halted(self) -> ExitPlan:
        self._state(b'{"state":"HALTED","version":2}')
        return House.make()

    def unarmed(self) -> ExitPlan:
        self._state(b"")
        return House.make()

    def _state(self, raw: bytes) -> None:
        """The Governor looks again; the state is armed again with the next plan."""
        self.patch.setattr(self.governor.governor, "look_at_state", lambda: None)
        self.patch.setattr(self.governor.governor, "_active", False if raw else None)

    def without_price(self) -> ExitPlan:
        snapshot(self.redis, symbol="BTCUSDT", mark_price="0")
        return House.make()

    def asked(self) -> ExitPlan:
        return House.make("SOLUSDT")

    def approved(self) -> ExitPlan:
        plan = House.make("SOLUSDT")
        Approval.objects.create(
            asked_plan_id=House.make().plan_id, symbol="SOLUSDT", fields={}, rule="tests", expires_at=clock.now(),
            state=Approval.State.APPROVED, plan_id=plan.plan_id, plan_digest=plan.digest,
        )  # fmt: skip
        return plan

    def without_approvals(self) -> ExitPlan:
        self.patch.setattr(approvals, "is_approved", _no_database)
        return House.make("SOLUSDT")

    def blind(self) -> ExitPlan:
        """The database is gone for longer than a copy of policy and usage may be old."""
        self.time.ahead_s += 11
        self.patch.setattr(policies, "copy", _no_database)
        snapshot(self.redis, symbol="BTCUSDT")
        return House.make()


def _no_database(**_: Any) -> Any:
    raise DatabaseError("gone")


KINDS: dict[str, tuple[int, Callable[[Day], ExitPlan]]] = {
    "plain": (150, Day.plain),
    "foreign": (6, Day.foreign),
    "mode": (6, Day.of_another_mode),
    "late": (6, Day.late),
    "halted": (6, Day.halted),
    "unarmed": (6, Day.unarmed),
    "priceless": (6, Day.without_price),
    "asked": (6, Day.asked),
    "approved": (10, Day.approved),
    "no approvals": (4, Day.without_approvals),
    "blind": (4, Day.blind),
}


def told_by(*words: str) -> dict[str, Any]:
    out = io.StringIO()
    call_command("policy_replay", *words, json=True, stdout=out, stderr=io.StringIO())
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def test_a_replay_of_1000_plans_agrees_with_what_the_governor_decided_exactly(
    start: Start, redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(
        "allowlist=BTCUSDT,ETHUSDT,SOLUSDT", "approval_symbols=SOLUSDT", "permits_per_5min=7", "permits_per_hour=14",
        "notional_per_day_usd=260000", "failures_in_a_row=5", "each.cooldown_s=3", "each.failures_in_a_row=2",
        "each.circuit_open_s=25", "each.quantity_per_day=2.6",
    )  # fmt: skip
    time = Time(monkeypatch)
    governor = start()
    with pytest.MonkeyPatch.context() as patch:
        Day(governor, redis, time, patch).go()
    wait_for(lambda: len(governor.acked) == PLANS, what="every decision to be recorded")
    said = Counter(Permit.objects.values_list("reason", flat=True))
    assert Judgement.objects.count() == said.total() == PLANS
    assert set(said) == {reason.value for reason in GovernorReason}, said
    assert min(said.values()) > 2, said

    told = told_by()
    assert told["plans"] == PLANS
    assert told["differing"] == told["not_enough_recorded"] == []
    assert told["by_the_policy_of_their_time"] == {"agree": PLANS, "of": PLANS}

    stricter = told_by("permits_per_5min=2")
    assert {one["was"] for one in stricter["differing"]} >= {"approved"}
    recorded = replay.recent(PLANS)
    looser = replay.replay(
        recorded.pasts, policies.of(_without_limits(), version=9), charges=recorded.charges
    )
    freed = {one.past.said for one in looser if one.frees}
    assert freed >= {"burst_limit", "hourly_limit", "daily_notional_limit", "cooldown", "circuit_open"}


def _without_limits() -> dict[str, Any]:
    return {"allowlist": list(SYMBOLS)}
