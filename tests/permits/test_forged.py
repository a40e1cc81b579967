"""What no gate can have made for this plan is blocked with its reason, raises one alarm, and stops nobody else."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from django.conf import settings
from prometheus_client import REGISTRY

from apply.models import Plan
from permits.gate import alarms
from permits.gate.outcome import Blocked
from quantum.models import AuditEvent
from quantum.plan import Action, ExitPlan
from quantum.reasons import GateReason
from quantum.redis import Client
from tests.house import House
from tests.permits_by_hand import GOVERNOR, P33, lay, lay_both, permit

pytestmark = pytest.mark.slow
Lay = Callable[[Client, ExitPlan], None]


@pytest.fixture
def apply_alone(house: House) -> House:
    house.start("apply")
    return house


def governor(**bent: object) -> Lay:
    def laid(redis: Client, plan: ExitPlan) -> None:
        lay(redis, plan, governor=permit(plan, GOVERNOR, **bent), p33=permit(plan, P33))  # type: ignore[arg-type]

    return laid


def p33(**bent: object) -> Lay:
    def laid(redis: Client, plan: ExitPlan) -> None:
        lay(redis, plan, governor=permit(plan, GOVERNOR), p33=permit(plan, P33, **bent))  # type: ignore[arg-type]

    return laid


def unsigned(redis: Client, plan: ExitPlan) -> None:
    """E9: a raw SET by whoever can reach Redis."""
    members = json.loads(permit(plan, GOVERNOR))
    del members["sig"]
    lay(redis, plan, governor=json.dumps(members).encode(), p33=permit(plan, P33))


def tampered(redis: Client, plan: ExitPlan) -> None:
    """A good permit of p33 that somebody made larger."""
    raw = permit(plan, P33, safe="0.2").replace(b'"safe_close_qty":0.2', b'"safe_close_qty":1.0')
    lay(redis, plan, governor=permit(plan, GOVERNOR), p33=raw)


def copied(redis: Client, plan: ExitPlan) -> None:
    """E10: both permits were made for another plan, well signed."""
    other = House.make()
    lay(redis, plan, governor=permit(other, GOVERNOR), p33=permit(other, P33))


def renamed(redis: Client, plan: ExitPlan) -> None:
    """E10: the id and digest of another plan's permit rewritten to fit."""
    other = House.make()
    raw = permit(other, GOVERNOR).replace(other.plan_id.encode(), plan.plan_id.encode())
    lay(redis, plan, governor=raw.replace(other.digest.encode(), plan.digest.encode()), p33=permit(plan, P33))


def as_a_hash(redis: Client, plan: ExitPlan) -> None:
    redis.hset(settings.KEYS.governor_permit(plan.plan_id), "granted", "true")
    redis.expire(settings.KEYS.governor_permit(plan.plan_id), 60)
    lay(redis, plan, p33=permit(plan, P33))


def without_end(redis: Client, plan: ExitPlan) -> None:
    lay_both(redis, plan)
    redis.persist(settings.KEYS.governor_permit(plan.plan_id))


def no_json(redis: Client, plan: ExitPlan) -> None:
    lay(redis, plan, governor=b"yes", p33=permit(plan, P33))


WRONG: dict[str, tuple[Lay, str, str]] = {
    "E9 unsigned, by a raw SET": (unsigned, "bad_signature", GOVERNOR),
    "E9 signed with the other gate's key": (p33(signer=GOVERNOR), "bad_signature", P33),
    "E9 signed with the operator's key, but not by an operator": (
        governor(signer="operator"),
        "bad_signature",
        GOVERNOR,
    ),
    "E10 copied from another plan": (copied, "digest_mismatch", GOVERNOR),
    "E10 copied and rewritten": (renamed, "bad_signature", GOVERNOR),
    "tampered with after it was signed": (tampered, "bad_signature", P33),
    "E11 a permit that says it was consumed": (governor(consumed=True), "already_consumed", GOVERNOR),
    "E12 of another mode": (governor(mode="testnet"), "mode_mismatch", GOVERNOR),
    "of another account": (p33(account="desk-7"), "account_mismatch", P33),
    "of another symbol (lesson 1)": (governor(symbol="ETHUSDT"), "symbol_mismatch", GOVERNOR),
    "no JSON (lesson 1)": (no_json, "malformed_governor", GOVERNOR),
    "granted by a text (lesson 1)": (governor(granted="true"), "malformed_governor", GOVERNOR),
    "50 times the position (lesson 3)": (p33(safe="50"), "malformed_p33", P33),
    "a hash (lesson 8)": (as_a_hash, "malformed_governor", GOVERNOR),
    "without an end": (without_end, "no_expiry", ""),
}


def counted(reason: str) -> float:
    return REGISTRY.get_sample_value("quantum_permit_alarms_total", {"reason": reason}) or 0.0


@pytest.mark.parametrize("kind", WRONG)
def test_a_permit_no_gate_made_is_blocked_alarms_once_and_a_good_plan_passes(
    apply_alone: House, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    laid, reason, gate = WRONG[kind]
    before = counted(reason)
    plan = apply_alone.make()
    laid(apply_alone.redis, plan)
    apply_alone.publish(plan)
    row = apply_alone.ended(plan)
    assert (row.error, apply_alone.orders(plan)) == (reason, [])
    assert row.state != Plan.State.FILLED
    alarm = AuditEvent.objects.get(kind="permit_forged", plan_id=plan.plan_id)
    assert (alarm.reason, alarm.data["gate"], alarm.symbol) == (reason, gate, plan.symbol)
    if gate and kind != "a hash (lesson 8)":
        assert len(alarm.data["claimed"]) == 16
    assert counted(reason) == before + 1
    line = next(line for line in capfd.readouterr().err.splitlines() if "[PERMIT_ALARM]" in line)
    assert plan.plan_id in line and f"reason={reason}" in line and "WARNING" in line
    assert '"sig"' not in line + json.dumps(alarm.data), "what was claimed is named, not shown"
    after = apply_alone.publish()
    lay_both(apply_alone.redis, after)
    assert apply_alone.ended(after).state == "filled"


def test_e11_permits_laid_again_after_they_were_spent_order_nothing(apply_alone: House) -> None:
    plan = apply_alone.publish()
    used = permit(plan, GOVERNOR), permit(plan, P33)
    lay(apply_alone.redis, plan, governor=used[0], p33=used[1])
    assert apply_alone.ended(plan).state == "filled"
    lay(apply_alone.redis, plan, governor=used[0], p33=used[1])
    apply_alone.redis.xadd(settings.KEYS.plan_stream, plan.fields())
    after = apply_alone.publish()
    lay_both(apply_alone.redis, after)
    assert apply_alone.ended(after).state == "filled"
    assert len(apply_alone.orders(plan)) == 1


@pytest.mark.parametrize("reason", ["denied", "missing", "receipt"])
def test_what_is_no_forgery_raises_no_alarm(apply_alone: House, reason: str) -> None:
    plan = apply_alone.make("BTCUSDT", Action.PARTIAL_25)
    if reason == "denied":
        denial = permit(plan, GOVERNOR, granted=False, reason="mode")
        lay(apply_alone.redis, plan, governor=denial, p33=permit(plan, P33))
    if reason == "receipt":
        apply_alone.redis.hset(
            settings.KEYS.receipt(plan.plan_id), mapping={"token": "another", "at": "1700000000000"}
        )
    apply_alone.publish(plan)
    assert apply_alone.ended(plan).state != "filled"
    assert not AuditEvent.objects.filter(kind="permit_forged").exists()


def blocked(reason: GateReason, accused: str = "") -> Blocked:
    return Blocked(reason, 50, 50, accused=accused, claimed="c" * 16)


@pytest.mark.django_db
def test_an_alarm_is_told_once_for_a_plan() -> None:
    plan = House.make()
    for _ in range(3):
        alarms.sound_if_forged(plan, blocked(GateReason.BAD_SIGNATURE, GOVERNOR), actor="apply")
    assert AuditEvent.objects.filter(kind=alarms.KIND).count() == 1


def test_every_reason_is_either_a_forgery_or_not() -> None:
    assert [reason.value for reason in GateReason if alarms.is_forged(blocked(reason))] == [
        "malformed_governor",
        "malformed_p33",
        "symbol_mismatch",
        "digest_mismatch",
        "mode_mismatch",
        "account_mismatch",
        "bad_signature",
        "no_expiry",
    ]
    assert alarms.is_forged(blocked(GateReason.ALREADY_CONSUMED, GOVERNOR))
