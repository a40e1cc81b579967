"""What a server may do to a house at work: B1-B21 of the list of faults, with a real one.

After each of them exits flow again within ten seconds and nobody has done anything (the fixture
`house` sees to it). What a server forgets has its own file, test_wiped_redis.py (B6, B7, B17-B19).
What only the start can see: B11 and B20, here at the end; more of both in tests/test_doctor.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from unittest.mock import patch

import pytest
from django.conf import settings
from pytest_django.fixtures import Settings
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError

from apply.models import Plan
from apply.plans import publish
from permits.desk.desk import Desk, Finding, Issued, NotIssued
from permits.models import TradingState
from permits.state import trading
from quantum import instance
from quantum.doctor import State, server
from quantum.plan import ExitPlan
from quantum.redis import command_client
from tests.house import House, wait_for
from tests.one_house import final, passes_again
from tests.own_server import OwnServer, refuses
from tests.permits.faults.conftest import waiting
from tests.permits_by_hand import GOVERNOR, P33, lay, permit
from tests.proxy import Proxy


def blocked(house: House, plan: ExitPlan, *, within_s: float = 5) -> Plan:
    row = final(plan, within_s=within_s)
    assert row is not None, "the plan has no end"
    assert row.state == Plan.State.BLOCKED, row.state
    assert house.orders(plan) == [], "an order left"
    return row


def lay_small(house: House, plan: ExitPlan) -> None:
    lay(house.redis, plan, governor=permit(plan, GOVERNOR), p33=permit(plan, P33, safe="0.002"))


def unspent(house: House, plan: ExitPlan) -> bool:
    keys = settings.KEYS
    permits = (keys.governor_permit(plan.plan_id), keys.p33_permit(plan.plan_id))
    return bool(house.redis.exists(*permits) == 2 and not house.redis.exists(keys.receipt(plan.plan_id)))


# ---- the server is not there


def test_a_role_that_finds_no_server_at_its_start_waits_for_it(house: House, own: OwnServer) -> None:
    """B1."""
    house.stop("governor")
    own.kill()
    governor = house.spawn("consume", "governor")
    time.sleep(2.5)
    assert governor.poll() is None, "it gave up"
    own.start()
    passes_again(house)
    governor.kill()
    governor.wait(5)
    own.client.delete(settings.KEYS.lease("governor"))
    house.start("governor")


def test_a_server_that_dies_during_the_wait_blocks_by_name_and_the_result_is_told_later(
    muted: House, own: OwnServer
) -> None:
    """B2."""
    plan = waiting(muted, muted.make())
    own.kill()
    assert blocked(muted, plan).error == "redis_unavailable"
    own.start()
    muted.ended(plan)
    [result] = muted.results(plan)
    assert (result["executed"], result["error"]) == ("False", "redis_unavailable")


# ---- the server is slow


@pytest.mark.parametrize("slow", ["frozen", "paused"])
def test_a_server_that_is_slow_does_not_stretch_the_wait_and_late_permits_stay_unspent(
    muted: House, own: OwnServer, slow: str
) -> None:
    """B3. The deadline is kept by our own clock, while the server still says nothing."""
    plan = waiting(muted, muted.make())
    started = time.monotonic()
    own.freeze() if slow == "frozen" else own.client.execute_command("CLIENT", "PAUSE", 2500, "ALL")
    assert blocked(muted, plan).error == "redis_unavailable"
    assert time.monotonic() - started < 4, "it waited for the server"
    own.thaw()
    own.client.execute_command("CLIENT", "UNPAUSE")
    lay_small(muted, plan)
    muted.ended(plan)
    assert unspent(muted, plan)


def test_another_ones_script_that_does_not_end_blocks_by_name(muted: House, own: OwnServer) -> None:
    """B21: -BUSY to every question."""
    plan = waiting(muted, muted.make())
    with own.busy():
        wait_for(lambda: refuses(muted.redis, "BUSY"), what="the server to be busy")
        assert blocked(muted, plan).error in ("redis_refused", "redis_unavailable")


# ---- answers are lost


def test_a_publish_whose_answer_was_lost_is_one_plan(house: House, line: Proxy) -> None:
    """B4: the entry stands, nobody resends it, and publishing again gives the same one."""
    plan = house.make()
    client = command_client()
    loss = line.lose_answers(plan.plan_id, "EXECUTE")
    with pytest.raises(RedisConnectionError):
        publish.publish(client, plan, actor="tests")
    assert loss.lost == 1
    publish.publish(client, plan, actor="tests")
    entries = house.redis.xrange(settings.KEYS.plan_stream)
    assert [fields[b"plan_id"] for _, fields in entries].count(plan.plan_id.encode()) == 1
    assert house.ended(plan).state == "filled"
    assert len(house.orders(plan)) == 1


def test_a_spend_whose_answer_was_lost_is_told_again_to_the_same_attempt(muted: House, line: Proxy) -> None:
    """B5."""
    plan = muted.make()
    loss = line.lose_answers(*spend_of(plan))
    muted.publish(plan)
    lay_small(muted, plan)
    assert muted.ended(plan).state == "filled"
    assert loss.lost == 1
    assert len(muted.orders(plan)) == 1


def test_a_spend_whose_answer_never_comes_sends_nothing_and_nobody_else_gets_it(
    muted: House, line: Proxy
) -> None:
    """B5: the receipt stands, and it is another's for everyone who asks later."""
    plan = muted.make()
    loss = line.lose_answers(plan.plan_id, settings.KEYS.slot(plan.symbol), times=1000)
    muted.publish(plan)
    lay_small(muted, plan)
    assert blocked(muted, plan).error == "redis_unavailable"
    assert loss.lost > 2
    line.lose_answers(times=0)
    muted.redis.xadd(settings.KEYS.plan_stream, plan.fields())
    muted.ended(plan)
    assert muted.orders(plan) == []


def spend_of(plan: ExitPlan) -> tuple[bytes | str, ...]:
    """What only the spending call contains: the look carries no permit, the desk no slot."""
    return plan.plan_id, settings.KEYS.slot(plan.symbol), b'"allow":true'


# ---- the server refuses to write


def test_a_plan_published_while_the_server_is_full_goes_out_when_it_is_not(
    house: House, own: OwnServer
) -> None:
    """B10: the row stands, the stream does not take it; the janitor publishes it again."""
    own.client.config_set("maxmemory", "1")
    plan = house.make()
    with pytest.raises(OutOfMemoryError):
        house.publish(plan)
    time.sleep(0.5)
    assert Plan.objects.get(plan_id=plan.plan_id).state == Plan.State.OPEN
    own.client.config_set("maxmemory", "0")
    assert house.ended(plan).state == "filled"
    assert len(house.orders(plan)) == 1


def test_a_server_that_fills_up_during_the_wait_lets_no_permit_come(house: House, own: OwnServer) -> None:
    """B10: the desk cannot write, the waiter says what is missing, and the entry is no poison."""
    issue = Desk.issue

    def fills_up(desk: Desk, plan: ExitPlan, finding: Finding) -> Issued | NotIssued:
        own.client.config_set("maxmemory", "1")
        return issue(desk, plan, finding)

    with patch.object(Desk, "issue", fills_up):
        plan = house.publish()
        assert blocked(house, plan).error.startswith("permit_timeout_or_missing:missing_")
    own.client.config_set("maxmemory", "0")
    house.ended(plan)
    assert not house.redis.exists(settings.KEYS.dead_letters(settings.KEYS.plan_stream))


IN_VAIN = ("redis_refused",)
"""The server refuses the wait itself; that the one look at the end finds its time over is not the cause."""
READ_ONLY: dict[str, tuple[str, ...]] = {
    "replica": ("REPLICAOF", "127.0.0.1", "1"),
    "no_replicas": ("CONFIG", "SET", "min-replicas-to-write", "1"),
}


@pytest.mark.parametrize("kind", READ_ONLY)
def test_a_server_that_may_only_be_read_blocks_by_name(
    muted: House, own: OwnServer, settings: Settings, kind: str
) -> None:
    """B12. Both permits stand there, and cannot be spent."""
    settings.APPLY_PERMIT_WAIT_MS = (
        3000  # room for a look between this and the last one, which spends nothing
    )
    plan = muted.make()
    muted.redis.set(settings.KEYS.governor_permit(plan.plan_id), permit(plan, GOVERNOR), px=60_000)
    waiting(muted, plan)
    at_once = own.client.pipeline(transaction=False)  # no look comes between the two
    at_once.set(settings.KEYS.p33_permit(plan.plan_id), permit(plan, P33), px=60_000)
    at_once.execute_command(*READ_ONLY[kind])
    at_once.execute()
    assert refuses(muted.redis, "ReadOnly" if kind == "replica" else "NOREPLICAS")
    assert blocked(muted, plan).error in IN_VAIN
    assert unspent(muted, plan)


# ---- small things


def test_a_server_that_forgot_the_scripts_is_told_them_again(house: House, own: OwnServer) -> None:
    """B13: every script of the chain, and nobody sees it."""
    own.client.script_flush()
    plan = house.publish()
    assert house.ended(plan).state == "filled"
    assert len(house.orders(plan)) == 1


@pytest.mark.parametrize("jump_s", [70, -40])
def test_when_the_servers_clock_jumps_a_permit_lives_no_longer_than_its_cap(
    muted: House, jump_s: int
) -> None:
    """B14, told from the server's side: the permit's times are off by the jump, the key lives on."""
    plan = muted.make()
    lay(muted.redis, plan, governor=permit(plan, GOVERNOR, age_s=jump_s), p33=permit(plan, P33, safe="0.002"))
    muted.publish(plan)
    if jump_s > 0:
        assert blocked(muted, plan).error == "expired_permit"
    else:
        assert muted.ended(plan).state == "filled"


WRONG_KEYS: dict[str, tuple[Callable[[ExitPlan], str], tuple[str, ...]]] = {
    "receipt": (lambda plan: settings.KEYS.receipt(plan.plan_id), IN_VAIN),
    "slot": (lambda plan: settings.KEYS.slot(plan.symbol), IN_VAIN),
    "hold": (lambda plan: settings.KEYS.hold(plan.symbol), ("hold",)),
    "governor_permit": (lambda plan: settings.KEYS.governor_permit(plan.plan_id), ("malformed_governor",)),
    "p33_permit": (lambda plan: settings.KEYS.p33_permit(plan.plan_id), ("malformed_p33",)),
}


@pytest.mark.parametrize("name", WRONG_KEYS)
def test_a_key_of_the_wrong_type_is_a_named_refusal(muted: House, name: str) -> None:
    """B15, for every key that the consume reads. Nothing is spent, and the line goes on."""
    key_of, reasons = WRONG_KEYS[name]
    plan = muted.make()
    key, keys = key_of(plan), settings.KEYS
    for gate, place in ((GOVERNOR, keys.governor_permit), (P33, keys.p33_permit)):
        muted.redis.set(place(plan.plan_id), permit(plan, gate), px=60_000)
    muted.redis.delete(key)
    muted.redis.geoadd(key, (1, 1, "of another type"))
    muted.redis.expire(key, 60)
    muted.publish(plan)
    assert blocked(muted, plan).error in reasons
    assert muted.redis.type(key) == b"zset"
    muted.redis.delete(key)
    muted.ended(plan)


def test_a_state_of_the_wrong_type_halts_until_a_person_resumes(muted: House) -> None:
    """B15: nobody of ours writes anything but text there, so it is tampering and no fault that ends by itself."""
    key = settings.KEYS.trading_state
    muted.redis.delete(key)
    muted.redis.geoadd(key, (1, 1, "of another type"))
    try:
        plan = muted.make()
        lay_small(muted, plan)
        muted.publish(plan)
        assert blocked(muted, plan).error in ("not_armed", "halted")
        wait_for(lambda: trading.current().active is False, what="the halt")
        newest = trading.newest()
        assert newest is not None
        assert newest.cause == trading.TAMPERING
        wait_for(lambda: muted.redis.type(key) == b"string", what="the halt in Redis")
    finally:
        trading.change(state=TradingState.State.ACTIVE, by="tests", reason="looked at and resumed")
        wait_for(lambda: b"ACTIVE" in (muted.redis.get(key) or b""), what="the state to be armed again")


def test_connections_that_are_cut_again_and_again_cost_no_plan(house: House, line: Proxy) -> None:
    """B16: at the server's side and in the middle, while plans are on their way."""
    plans, cuts = [], 0
    for symbol in House.POSITIONS:
        plans.append(house.publish(house.make(symbol)))
        cuts += line.cut()
        time.sleep(0.05)
        house.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert cuts > 0
    for plan in plans:
        assert len(house.orders(plan)) <= 1
        assert house.ended(plan).state in ("filled", "blocked", "spent_unsent")


def test_a_plan_whose_reading_was_lost_is_read_again_at_once(house: House, line: Proxy) -> None:
    """B16: the server has handed it out, apply never got it; it must not wait for the reclaim of 15 s."""
    loss = line.lose_answers("XREADGROUP", "apply-test", b"$1\r\n>\r\n")
    wait_for(lambda: loss.lost, what="apply to read where the answer will be lost")
    plan = house.publish()
    row = house.ended(plan, within_s=6)
    assert row.state == "filled", f"{row.error} {row.gate_reason}"
    assert len(house.orders(plan)) == 1


# ---- what the start sees


def test_a_server_that_evicts_is_found_before_it_costs_a_permit(own: OwnServer, line: Proxy) -> None:
    """B11."""
    own.client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        [found] = server.eviction()
    finally:
        own.client.config_set("maxmemory-policy", "noeviction")
    assert (found.state, "noeviction" in found.remedy) == (State.FAIL, True)


def test_a_role_refuses_to_start_on_the_keys_of_another_instance(house: House) -> None:
    """B20: a wrong database number, or another tenant's server."""
    key = settings.KEYS.instance
    own_identity = house.redis.get(key)
    house.redis.set(key, b'{"id":"another","mode":"live","account":"theirs"}')
    try:
        with pytest.raises(instance.WrongInstance, match="KEY_PREFIX"):
            instance.ensure_here()
        governor = house.spawn("consume", "governor")
        wait_for(lambda: governor.poll() is not None, what="the role to refuse")
        assert governor.returncode != 0
    finally:
        house.redis.set(key, own_identity)
