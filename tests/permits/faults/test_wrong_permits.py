"""Every wrong permit, in the house: lessons 1, 2, 3, 7, 8 and faults E1-E8. No order, a reason, nothing spent,
and the next plan passes (its score is near one: lesson 9).

Elsewhere: a kill switch nobody could read (lesson 4) in test_wiped_redis.py and tests/flow/test_one_plan.py; no
bypass (5) in the import contracts; no rule that differs by mode and default limits (6, 10) in test_policy.py;
no default secret (11) in tests/test_settings.py; signatures, copies, replays and modes (E9-E12) with the desk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.conf import settings

from apply.models import Plan
from quantum.exchange.paper.process import PaperExchangeProcess
from quantum.plan import ExitPlan
from quantum.redis import Client
from tests.house import House
from tests.one_house import housed
from tests.own_server import OwnServer
from tests.permits_by_hand import GOVERNOR, P33, permit
from tests.proxy import Proxy

AT_ONCE_MS = 1000
"""Of 1200. Waiting to the end would be more; a machine that holds its breath for half a second is less."""
Put = Callable[[Client, str, ExitPlan], object]


@pytest.fixture(scope="module")
def apply_alone(
    own: OwnServer, line: Proxy, keys: None, paper_process: PaperExchangeProcess, db: None
) -> Iterator[House]:
    """Only apply runs: every permit here is laid by hand."""
    with housed(redis=own.client, paper=paper_process, roles=("apply",)) as house:
        yield house


@dataclass(frozen=True)
class Wrong:
    gate: str
    error: str
    put: Put


def stored(raw: Callable[[ExitPlan], bytes]) -> Put:
    return lambda server, key, plan: server.set(key, raw(plan), px=60_000)


def bent(gate: str, **members: Any) -> Put:
    return stored(lambda plan: permit(plan, gate, **members))


def exactly(raw: bytes) -> Put:
    return stored(lambda _plan: raw)


def replaced(gate: str, old: bytes, new: bytes) -> Put:
    """In the bytes themselves: JSON that no serialiser would write."""
    return stored(lambda plan: permit(plan, gate, safe="0.002").replace(old, new))


def as_hash(server: Client, key: str, _plan: ExitPlan) -> None:
    server.hset(key, "granted", "true")
    server.expire(key, 60)


def for_ever(gate: str) -> Put:
    return lambda server, key, plan: server.set(key, permit(plan, gate))


def nothing(_server: Client, _key: str, _plan: ExitPlan) -> None:
    pass


NOT_TRUE: dict[str, Any] = {
    '"true"': "true",
    "1": 1,
    '"yes"': "yes",
    "null": None,
    "[]": [],
    "{}": {},
    '"false"': "false",
}
NO_QUANTITY = {
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "-Infinity": b"-Infinity",
    "negative": b"-0.002",
    "zero": b"0",
    "huge": b"9" * 60,
    "1e5": b"1e5",
    "list": b"[0.002]",
    "text": b'"much"',
    "true": b"true",
}
NO_JSON = {
    "text": b"yes",
    "empty": b"",
    "broken": b'{"granted":true',
    "deep": b"[" * 4000,
    "binary": bytes(range(256)),
    "twice": b'{"granted":false,"granted":true}',
    "two_documents": b"{}{}",
    "too_large": b'{"granted":true,"reason":"' + b"x" * 5000 + b'"}',
    "null": b"null",
}
WRONG: dict[str, Wrong] = {
    "lesson_1_governor_did_not_grant": Wrong(
        GOVERNOR, "permit_denied:governor_denied", bent(GOVERNOR, granted=False, reason="not_in_allowlist")
    ),
    "lesson_1_brain_did_not_allow": Wrong(P33, "permit_denied:p33_denied", bent(P33, allow=False)),
    "lesson_3_safe_quantity_50_times_the_position": Wrong(P33, "malformed_p33", bent(P33, safe="50")),
    "E2_expired_by_what_it_says": Wrong(GOVERNOR, "expired_permit", bent(GOVERNOR, age_s=20, life_s=19)),
    "E2_older_than_any_permit_may_be": Wrong(P33, "expired_permit", bent(P33, age_s=61, life_s=3600)),
}
for _gate in (GOVERNOR, P33):
    _malformed, _verdict = f"malformed_{_gate}", "granted" if _gate == GOVERNOR else "allow"
    WRONG |= {
        f"E1_{_gate}_is_missing": Wrong(_gate, f"permit_timeout_or_missing:missing_{_gate}", nothing),
        f"E4_{_gate}_of_another_symbol": Wrong(_gate, "symbol_mismatch", bent(_gate, symbol="ETHUSDT")),
        f"E4_{_gate}_of_another_plan": Wrong(_gate, "digest_mismatch", bent(_gate, plan_id="0" * 16)),
        f"E5_{_gate}_says_consumed": Wrong(_gate, "already_consumed", bent(_gate, consumed=True)),
        f"E5_{_gate}_without_expiry": Wrong(_gate, "no_expiry", for_ever(_gate)),
        f"lesson_8_{_gate}_as_a_hash": Wrong(_gate, _malformed, as_hash),
    }
    for _name, _value in NOT_TRUE.items():
        WRONG[f"E6_{_gate}_verdict_{_name}"] = Wrong(_gate, _malformed, bent(_gate, **{_verdict: _value}))
    for _name, _raw in NO_JSON.items():
        WRONG[f"E8_{_gate}_{_name}"] = Wrong(_gate, _malformed, exactly(_raw))
for _name, _raw in NO_QUANTITY.items():
    WRONG[f"E7_safe_quantity_{_name}"] = Wrong(
        P33, "malformed_p33", replaced(P33, b'"safe_close_qty":0.002', b'"safe_close_qty":' + _raw)
    )


def places(plan: ExitPlan) -> dict[str, str]:
    keys = settings.KEYS
    return {GOVERNOR: keys.governor_permit(plan.plan_id), P33: keys.p33_permit(plan.plan_id)}


def laid(house: House, plan: ExitPlan, wrong: Wrong | None = None) -> dict[str, bytes | None]:
    """Both permits before the plan; what stands there then. The good one is small: a position is to last."""
    for gate, key in places(plan).items():
        if wrong is not None and gate == wrong.gate:
            wrong.put(house.redis, key, plan)
        else:
            house.redis.set(key, permit(plan, gate, safe="0.002"), px=60_000)
    house.redis.rpush(settings.KEYS.wake(plan.plan_id), "1")
    return standing(house, plan)


def standing(house: House, plan: ExitPlan) -> dict[str, bytes | None]:
    return {gate: house.redis.dump(key) for gate, key in places(plan).items()}


def a_good_plan_passes(house: House) -> None:
    plan = house.make(kill_score_text=f"0.99{House.next_number()}")
    laid(house, plan)
    assert house.ended(house.publish(plan)).state == Plan.State.FILLED, "the line stood still"


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_permit_is_a_named_refusal_spends_nothing_and_the_next_plan_passes(
    apply_alone: House, kind: str
) -> None:
    """Lesson 2: both stay where they are, as evidence. Lesson 7: what is there is answered at once."""
    wrong, plan = WRONG[kind], apply_alone.make()
    before = laid(apply_alone, plan, wrong)
    row = apply_alone.ended(apply_alone.publish(plan))
    assert (row.state, row.error) == (Plan.State.BLOCKED, wrong.error)
    assert apply_alone.orders(plan) == []
    assert standing(apply_alone, plan) == before, "a refused permit is gone"
    assert not apply_alone.redis.exists(settings.KEYS.receipt(plan.plan_id))
    assert row.wait_ms is not None
    assert wrong.put is nothing or row.wait_ms < AT_ONCE_MS, f"{row.wait_ms} ms for an answer that was there"
    a_good_plan_passes(apply_alone)


def test_permits_that_come_too_late_are_not_used_afterwards(apply_alone: House) -> None:
    """E3."""
    plan = apply_alone.publish()
    assert apply_alone.ended(plan).error == "permit_timeout_or_missing:missing_both"
    before = laid(apply_alone, plan)
    apply_alone.redis.xadd(settings.KEYS.plan_stream, plan.fields())  # and its bot tells the plan again
    a_good_plan_passes(apply_alone)
    assert apply_alone.orders(plan) == []
    assert standing(apply_alone, plan) == before


def test_the_other_plan_keeps_its_permits_and_passes_with_them(apply_alone: House) -> None:
    """E4."""
    other, plan = apply_alone.make(), apply_alone.make()
    laid(apply_alone, other)
    for gate, key in places(plan).items():
        apply_alone.redis.copy(places(other)[gate], key)
    apply_alone.redis.rpush(settings.KEYS.wake(plan.plan_id), "1")
    row = apply_alone.ended(apply_alone.publish(plan))
    assert (row.error, apply_alone.orders(plan)) == ("digest_mismatch", [])
    assert apply_alone.ended(apply_alone.publish(other)).state == Plan.State.FILLED


def test_e22_a_safe_quantity_above_the_position_contradicts_itself_and_is_refused(apply_alone: House) -> None:
    """A step above is as wrong as fifty times (lesson 3, above)."""
    plan = apply_alone.make()
    laid(apply_alone, plan, Wrong(P33, "malformed_p33", bent(P33, safe="1.001", position="1")))
    row = apply_alone.ended(apply_alone.publish(plan))
    assert (row.state, row.error, apply_alone.orders(plan)) == ("blocked", "malformed_p33", [])
    a_good_plan_passes(apply_alone)


@pytest.mark.parametrize("behind_s", [30, -30])
def test_e25_permits_of_a_host_whose_clock_is_half_a_minute_off_end_by_the_servers_clock(
    apply_alone: House, behind_s: int
) -> None:
    """Their life is their key's, by Redis' clock, and a minute at most; that clocks differ is no refusal. That they
    do is shown by doctor (tests/test_doctor.py)."""
    gone, plan = apply_alone.make(), apply_alone.make()
    for each, life_ms in ((gone, 1), (plan, 60_000)):
        for gate, key in places(each).items():
            signed = permit(each, gate, safe="0.002", age_s=behind_s)
            apply_alone.redis.set(key, signed, px=life_ms)
        apply_alone.redis.rpush(settings.KEYS.wake(each.plan_id), "1")
    row = apply_alone.ended(apply_alone.publish(gone))
    assert (row.error, apply_alone.orders(gone)) == ("permit_timeout_or_missing:missing_both", [])
    assert apply_alone.ended(apply_alone.publish(plan)).state == Plan.State.FILLED
    assert len(apply_alone.orders(plan)) == 1
