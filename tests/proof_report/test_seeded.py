"""Somebody with rights to the database and a hand at the exchange: `proof --json` names each thing that he did."""

from __future__ import annotations

import base64
import datetime as dt
import json
from decimal import Decimal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from apply.models import Order, Plan
from permits.models import Permit
from permits.state import freezing
from positions.models import LedgerEntry
from quantum import audit, clock
from tests.house import House, wait_for
from tests.proof_report.by_hand import figure, proved, said, wrongs
from tests.proof_report.test_proof import exits
from tests.unguarded import unguarded


def about(named: dict[str, list[str]], plan: Plan) -> set[str]:
    return {wrong for wrong, texts in named.items() if any(plan.plan_id in text for text in texts)}


def test_rows_that_were_changed_or_taken_away_are_named(house: House) -> None:
    house.start()
    resized, unbooked, gone = exits(house)
    freezing.place(house.redis, symbol="ETHUSDT", reason="to see it blocked", by="tests")
    blocked = house.ended(house.publish(house.make("ETHUSDT")))
    house.stop()
    assert proved()[1]["outcome"] == "clean"
    with unguarded():
        Order.objects.filter(plan_id=resized.plan_id).update(quantity=Decimal("0.001"))
        LedgerEntry.objects.filter(plan_id=unbooked.plan_id).delete()
        Plan.objects.filter(plan_id=gone.plan_id).delete()
        Plan.objects.filter(plan_id=blocked.plan_id).update(state="filled", error="", gate_reason="")
    code, found = proved()
    named = wrongs(found)
    assert code == 6
    assert about(named, resized) == {"order_is_not_its_intent", "order_differs_at_exchange"}
    assert about(named, unbooked) == {"executed_not_in_ledger"}
    assert len(named["fill_not_in_ledger"]) == 1
    assert about(named, gone) == {"plan_row_missing", "order_without_plan"}
    assert named["end_without_event"] == [
        f"plan {blocked.plan_id} counts as filled, and the audit tells of no such end"
    ]


def test_an_unknown_outcome_that_a_hand_made_filled_is_named(house: House) -> None:
    house.start("governor", "p33", "apply")  # no resolver: nobody proves it
    house.play("d01_cut_after_accept")
    made = house.publish(house.make("BTCUSDT"))
    flying = Plan.objects.filter(plan_id=made.plan_id, state="unknown")
    wait_for(flying.exists, what="an order of unknown fate", within_s=20)
    house.stop()
    house.paper.clear_scenario()
    plan = flying.get()
    heard = {"fill_missing"}
    """Or not: the ear may have stored the trade, which nobody has booked."""
    with unguarded():
        Plan.objects.filter(plan_id=plan.plan_id).update(
            state="filled", result_id="1-1", ended_at=clock.now()
        )
    assert about(wrongs(proved()[1]), plan) - heard == {"end_without_event", "end_is_not_its_order"}
    with unguarded():  # he goes on, and says that nothing was executed
        Plan.objects.filter(plan_id=plan.plan_id).update(state="rejected")
        Order.objects.filter(plan_id=plan.plan_id).update(
            status="CANCELED", executed_quantity=0, settled_at=clock.now()
        )
    assert about(wrongs(proved()[1]), plan) - heard == {"end_without_event", "order_differs_at_exchange"}


def test_two_ends_of_a_plan_are_named(house: House) -> None:
    house.start()
    plan = exits(house, "BTCUSDT")[0]
    house.stop()
    audit.record(kind="plan_rejected", actor="apply", plan_id=plan.plan_id, symbol=plan.symbol)
    assert about(wrongs(proved()[1]), plan) == {"two_ends_of_a_plan"}


def test_an_order_by_hand_is_not_hidden_by_a_row_of_another_time(house: House) -> None:
    house.start()
    plan = exits(house, "BTCUSDT")[0]
    house.stop()
    ghost = f"{House.next_number():016x}"
    row = Order.objects.get(plan_id=plan.plan_id)
    row.pk, row.plan_id, row.client_order_id = None, ghost, f"q-{ghost}-25"
    row.intended_at = clock.now() - dt.timedelta(days=9000)
    row.quantity, row.side, row.order_id = Decimal("0.5"), "BUY", 4711
    with unguarded():
        row.save(force_insert=True)
    house.paper.set_position(symbol="BTCUSDT", amount="0.500", client_order_id=row.client_order_id)
    named = wrongs(proved()[1])
    mine = {wrong for wrong, texts in named.items() if any(ghost in text for text in texts)}
    assert {"order_without_permit", "order_without_plan", "order_without_intent"} <= mine


def forged(raw: str) -> str:
    body = raw.partition(',"sig":')[0]
    signature = Ed25519PrivateKey.generate().sign(body.encode() + b"}")
    return f'{body},"sig":"{base64.urlsafe_b64encode(signature).rstrip(b"=").decode()}"}}'


def test_a_permit_by_a_wrong_key_is_named_when_signatures_are_verified(house: House) -> None:
    house.start()
    plan, retold, _ = exits(house)
    house.stop()
    code, found = proved("--signatures")
    assert (code, found["signatures_verified"], figure(found, "signatures", "permits")) == (0, 6, 6)
    assert "Signatures of 6 permits were verified" in said("proof", "--signatures")[1]
    permit = Permit.objects.get(plan_id=plan.plan_id, gate="governor")
    raw = forged(permit.raw)
    with unguarded():
        Permit.objects.filter(pk=permit.pk).update(raw=raw)
        Order.objects.filter(plan_id=plan.plan_id).update(governor_permit=raw)
        Permit.objects.filter(plan_id=retold.plan_id, gate="p33").update(quantity=Decimal("7"))
    code, found = proved()
    assert (code, found["signatures_verified"], "signatures" in found["parts"]) == (0, None, False)
    words = said("proof")[1]
    assert "Signatures were not verified: proof --signatures does" in words
    code, found = proved("--signatures")
    named = wrongs(found)
    assert (code, set(named)) == (6, {"permit_signature_wrong", "permit_row_changed"})
    assert about(named, plan) == {"permit_signature_wrong"}
    assert "has another quantity than was signed" in named["permit_row_changed"][0]


def test_a_permit_of_another_plan_and_one_that_is_none_are_named(house: House) -> None:
    house.start()
    plan, other, _ = exits(house)
    house.stop()
    with unguarded():
        Permit.objects.filter(plan_id=plan.plan_id, gate="p33").update(raw="{}")
        Plan.objects.filter(plan_id=other.plan_id).update(digest="f" * 64)
    named = wrongs(proved("--signatures")[1])
    assert "permit_unreadable" in about(named, plan)
    assert about(named, other) == {"permit_of_another_plan"}
    assert len(named["permit_of_another_plan"]) == 2


def test_the_progress_of_signatures_is_told(house: House) -> None:
    house.start()
    exits(house, "BTCUSDT")
    house.stop()
    code, out, err = said("proof", "--json", "--signatures")
    assert (code, json.loads(out)["signatures_verified"]) == (0, 2)
    assert "2 of 2 permits: signatures verified" in err
