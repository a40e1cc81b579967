"""What the tests of the desk do by hand: issue, revoke, look at rows and events, wish for an operator's permit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.conf import settings

from permits.desk import desk, records
from permits.desk.desk import Desk, Finding, Issued, NotIssued, NotRevoked, Revoked
from permits.models import Permit, PolicyVersion
from permits.operators import Wish
from quantum import clock
from quantum.models import AuditEvent
from quantum.plan import ExitPlan
from quantum.redis import Client
from quantum.signing import Signer
from tests.house import House
from tests.permits_by_hand import GOVERNOR, P33, permit

BOTH = (GOVERNOR, P33)
WHO = {"by": "nina", "reason": "changed my mind"}
Fate = Permit.Fate


def issue(redis: Client, plan: ExitPlan, gate: str, **said: Any) -> Issued | NotIssued:
    signer = Signer(name=gate, directory=settings.PERMIT_KEYS_DIR)
    finding = Finding(**{"verdict": True, "reason": "approved", **said})
    if gate == P33:
        finding = Finding(
            verdict=True,
            reason="ok",
            quantity=Decimal("0.25"),
            exchange_amt=Decimal(1),
            ledger_amt=Decimal(1),
        )
    return Desk(gate=gate, signer=signer, client=redis).issue(plan, finding)


def issued_both(redis: Client) -> ExitPlan:
    plan = House.make()
    for gate in BOTH:
        issued = issue(redis, plan, gate)
        assert isinstance(issued, Issued)
        records.record_issued([records.row_of(issued.raw, gate=gate, plan_id=plan.plan_id, fate=Fate.LIVE)])
    return plan


def revoke(redis: Client, plan: ExitPlan, *gates: str, **more: Any) -> Revoked | NotRevoked:
    return desk.revoke(redis, plan_id=plan.plan_id, gates=gates or BOTH, **{**WHO, **more})


def fates(plan: ExitPlan) -> dict[str, str]:
    return {row.gate: row.fate for row in Permit.objects.filter(plan_id=plan.plan_id).order_by("id")}


def kinds(plan: ExitPlan) -> list[str]:
    return list(AuditEvent.objects.filter(plan_id=plan.plan_id).order_by("id").values_list("kind", flat=True))


def row(plan: ExitPlan, *, age_s: int, life_s: int = 60, **more: Any) -> Permit:
    raw = permit(plan, GOVERNOR, age_s=age_s, life_s=life_s)
    made = records.row_of(raw, gate=GOVERNOR, plan_id=plan.plan_id, fate=Fate.LIVE)
    for name, value in more.items():
        setattr(made, name, value)
    made.save()
    return made


def allow(*gates: str, **most: str) -> None:
    rules = {"operator": {"gates": list(gates), "max_quantity": most or {"BTCUSDT": "1"}}}
    PolicyVersion.objects.create(version=1, rules=rules, by="tests", reason="to be tried")


def on_stream(redis: Client, **more: Any) -> ExitPlan:
    plan = House.make(**more)
    redis.xadd(settings.KEYS.plan_stream, plan.fields())
    return plan


def wish(gate: str = GOVERNOR, *, verdict: bool = True, quantity: str | None = None) -> Wish:
    amount = Decimal(quantity) if quantity else None
    return Wish(gate=gate, verdict=verdict, by="nina", reason="the Governor is down", quantity=amount)


def snapshot(redis: Client, amt: str, *, age_s: float = 0) -> None:
    told = {"position_amt": amt, "ts_epoch": f"{clock.now_s() - age_s:.3f}"}
    redis.hset(settings.KEYS.snapshot("BTCUSDT"), mapping=told)
