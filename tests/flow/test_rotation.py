"""Keys are rotated while exits flow through all four roles: none is refused for it."""

from __future__ import annotations

import threading
import time

import pytest
from django.conf import settings
from django.db import connection

from permits.models import Permit
from quantum import keyring
from quantum.models import AuditEvent
from quantum.plan import ExitPlan
from quantum.signing import SIGNERS, Verifier
from tests.house import House

pytestmark = pytest.mark.slow
ROTATED = ("governor", "p33", "governor")


def test_no_exit_is_refused_while_keys_are_rotated(house: House) -> None:
    house.start()
    ended = threading.Event()

    def rotate() -> None:
        try:
            for signer in ROTATED:
                keyring.rotate(signer, directory=settings.PERMIT_KEYS_DIR, by="nina", reason="under load")
                time.sleep(1.2)  # longer than a look: each new key is used before the next one comes
        finally:
            connection.close()
            ended.set()

    thread = threading.Thread(target=rotate)
    thread.start()
    plans: list[ExitPlan] = []
    symbols = list(House.POSITIONS)
    while not ended.is_set() and len(plans) < 200:
        plans.append(house.publish(house.make(symbols[len(plans) % len(symbols)])))
        time.sleep(0.15)
    thread.join(5)
    rows = [house.ended(plan) for plan in plans]
    house.stop()
    assert len(rows) > 30
    assert not AuditEvent.objects.filter(kind="permit_forged").exists()
    # A position that was closed a quarter so often is too small in the end; that is another matter.
    assert {row.error for row in rows} <= {"", "below_min", "permit_denied:p33_denied"}
    assert {row.gate_reason for row in rows} <= {"", "below_min_quantity"}
    used = keys_used(plan_ids=[plan.plan_id for plan in plans])
    assert {gate: len(marks) for gate, marks in used.items()} == {"governor": 3, "p33": 2}


def keys_used(*, plan_ids: list[str]) -> dict[str, set[str]]:
    verifier = Verifier(directory=settings.PERMIT_KEYS_DIR)
    used: dict[str, set[str]] = {name: set() for name in SIGNERS if name != "operator"}
    for row in Permit.objects.filter(plan_id__in=plan_ids):
        mark = verifier.signed_by(signer=row.gate, raw=row.raw.encode())
        assert mark, f"{row} was signed with a key nobody believes"
        used[row.gate].add(mark)
    return used
