"""The checker finds nothing where all is well, and each seeded wrong by its invariant, its plan and its numbers.

A checker that finds nothing anywhere would let every storm pass.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal

import pytest

from tests.chaos import checker
from tests.chaos.good import START_S, World, moment, world

Wrong = Callable[[World], object]


def found_in(bent: Wrong) -> list[str]:
    good = world()
    bent(good)
    return [finding.line() for finding in checker.check(good.evidence)]


def test_nothing_is_found_where_all_is_well() -> None:
    assert [finding.line() for finding in checker.check(world().evidence)] == []


# ---- I1: once


def accepted_twice(good: World) -> None:
    again = dict(good.evidence.received[0])
    good.evidence.received.append(again | {"source": "late", "client_id": again["client_id"] + "b"})


def two_rows(good: World) -> None:
    good.evidence.orders.append(dict(good.evidence.orders[0]))


# ---- I2: two keys


def without_permits(good: World) -> None:
    good.evidence.orders[1]["governor_permit"] = ""


def pair_of_another(good: World) -> None:
    """A pair that was spent is laid again for another plan: properly signed, and not for this one."""
    first, second = good.evidence.orders[0], good.evidence.orders[2]
    second["governor_permit"], second["p33_permit"] = first["governor_permit"], first["p33_permit"]


def signed_by_the_other_gate(good: World) -> None:
    plan = good.evidence.plans[0]
    good.keys["governor"] = good.keys["p33"]
    good.evidence.orders[0]["governor_permit"] = good.permit("governor", plan)


def resigned(good: World, gate: str, **members: object) -> None:
    order = good.evidence.orders[0]
    said = json.loads(order[f"{gate}_permit"])
    del said["sig"]
    order[f"{gate}_permit"] = good.evidence.receipts[order["plan_id"]][gate] = good.sign(gate, said | members)


def changed_byte(good: World) -> None:
    order = good.evidence.orders[0]
    order["p33_permit"] = order["p33_permit"].replace('"safe_close_qty":"0.250"', '"safe_close_qty":"9.250"')


def spent_by_another(good: World) -> None:
    good.evidence.receipts[good.evidence.plans[0]["plan_id"]]["token"] = "x" * 16


def bigger_plan(good: World) -> None:
    """The permits were for a quarter; the row says something else now."""
    good.evidence.plans[0]["kill_score"] = "0.9"


# ---- I3: bounds


def request(good: World, old: str, new: str) -> None:
    row = good.evidence.received[0]
    assert old in row["params"]
    row["params"] = row["params"].replace(old, new)


def across_zero(good: World) -> None:
    """The exchange took more than the position: what reduce-only is there to prevent."""
    good.evidence.trades[-1]["quantity"] = "9.000"


def more_than_its_share(good: World) -> None:
    trade = next(row for row in good.evidence.trades if row["side"] == "SELL" and row["symbol"] == "BTCUSDT")
    trade["quantity"] = "0.300"


# ---- I4: record first


def without_its_row(good: World) -> None:
    good.evidence.received.append({**good.evidence.received[0], "client_id": "q-00000000000000ff-25"})


def sent_before(good: World) -> None:
    good.evidence.received[0]["received_us"] -= 500_000


def intent_without_event(good: World) -> None:
    good.evidence.events = [event for event in good.evidence.events if event["kind"] != "order_intended"]


# ---- I5: unknown is a state


def sent_again(good: World) -> None:
    good.evidence.received.append({**good.evidence.received[0], "verdict": "refused"})


def not_waited_for(good: World) -> None:
    good.evidence.orders[0]["settled_at"] = moment(START_S + 3600)


def unknown_and_free(good: World) -> None:
    good.evidence.plans[0]["state"] = "unknown"


def locked_for_nothing(good: World) -> None:
    good.evidence.locks.append({"plan_id": good.evidence.plans[0]["plan_id"], "symbol": "BTCUSDT"})


# ---- I6: say why


def last_plan(good: World, **members: object) -> None:
    good.evidence.plans[-1].update(members)
    good.evidence.results[-1]["error"] = good.evidence.plans[-1]["error"]


def told_twice(good: World) -> None:
    good.evidence.results.append(dict(good.evidence.results[0]))


def told_otherwise(good: World) -> None:
    good.evidence.results[0]["executed"] = "False"


# ---- I7, I8


def spent_late(good: World) -> None:
    good.evidence.plans[0]["expires_at"] = moment(START_S + 10)


def never_back(good: World) -> None:
    good.evidence.probes[0]["took_s"] = None


def back_late(good: World) -> None:
    good.evidence.probes[0]["took_s"] = 11.5


def without_an_end(good: World) -> None:
    good.evidence.plans[-1].update(state="open", result_id="")


# ---- I9


def secret_in(where: str) -> Wrong:
    return lambda good: good.evidence.texts.update(
        {where: f"key={good.evidence.secrets['SECRET_KEY']} and more"}
    )


# ---- I11, I12


def moved_without_fill(good: World) -> None:
    good.evidence.ledger[-1]["fill_id"] = None


def booked_twice(good: World) -> None:
    ledger = good.evidence.ledger
    ledger.append({**ledger[-1], "id": len(ledger) + 1,
                   "balance": str(Decimal(ledger[-1]["balance"]) + Decimal(ledger[-1]["delta"]))})  # fmt: skip
    good.evidence.balances[0]["amount"] = ledger[-1]["balance"]


def not_booked(good: World) -> None:
    good.evidence.ledger.pop()
    good.evidence.balances[0]["amount"] = good.evidence.ledger[-2]["balance"]


def by_nobody(good: World) -> None:
    good.evidence.ledger[0]["reason"] = ""


def invented_fill(good: World) -> None:
    good.evidence.fills[0]["quantity"] = "0.200"


def drifted(good: World) -> None:
    """A trade by hand that nobody was told of."""
    good.trade("ETHUSDT", "BUY", Decimal("2.000"), "web_1")


def balance_by_hand(good: World) -> None:
    good.evidence.balances[0]["amount"] = "7"


def guessed(held: str) -> Wrong:
    def bend(good: World) -> None:
        plan = good.evidence.plans[0]
        look = {"safe_close_qty": "0.250", "exchange_position_amt": held, "observed_at": good.now_s}
        good.evidence.permits[1]["raw"] = good.permit("p33", plan, **look)

    return bend


# ---- I13 to I17


def intended_while(kind: str) -> Wrong:
    def bend(good: World) -> None:
        events = good.evidence.events
        for event in events:
            event["id"] = event["id"] * 10
        at = next(event["id"] for event in events if event["kind"] == "order_intended")
        events.append({**events[0], "id": at - 1, "kind": kind, "symbol": "BTCUSDT"})

    return bend


def poison_stays(good: World) -> None:
    good.evidence.dead.clear()


def parked_twice(good: World) -> None:
    good.evidence.dead[0]["entry"] = good.evidence.poisons[0]["entry"] = f"{int(good.now_s * 1000)}-0"
    good.evidence.dead.append(dict(good.evidence.dead[0]))


def pending(good: World) -> None:
    good.evidence.groups[0]["pending"] = 1


def of_another_mode(good: World) -> None:
    good.evidence.permits[0]["mode"] = "live"


def another_instance(good: World) -> None:
    good.evidence.instances[0]["mode"] = "live"


def trade_of_nobody(good: World) -> None:
    good.trade("BTCUSDT", "SELL", Decimal("0.001"), "reconcile-1")


def without_history(good: World) -> None:
    plan_id = good.evidence.plans[0]["plan_id"]
    good.evidence.events = [
        event
        for event in good.evidence.events
        if event["plan_id"] != plan_id or event["kind"] == "order_intended"
    ]


@pytest.mark.parametrize(
    ("bent", "says"),
    [
        (accepted_twice, "I1 0000000000000001 more than one accepted order"),
        (two_rows, "I1 0000000000000001 more than one order row"),
        (without_permits, "I2 0000000000000002 a permit is missing or not signed"),
        (pair_of_another, "I2 0000000000000003 a permit used twice"),
        (pair_of_another, "I2 0000000000000003 the permit says another plan_id"),
        (pair_of_another, "I2 0000000000000003 spent by another attempt"),
        (signed_by_the_other_gate, "I2 0000000000000001 the signature does not hold gate=governor"),
        (changed_byte, "I2 0000000000000001 the signature does not hold gate=p33"),
        (bigger_plan, "I2 0000000000000001 the permit says another digest"),
        (spent_by_another, "I2 0000000000000001 spent by another attempt"),
        (
            lambda good: resigned(good, "governor", mode="live"),
            "I2 0000000000000001 the permit says another mode",
        ),
        (
            lambda good: resigned(good, "p33", symbol="ETHUSDT"),
            "I2 0000000000000001 the permit says another symbol",
        ),
        (lambda good: resigned(good, "p33", allow=False), "I2 0000000000000001 the permit is a denial"),
        (
            lambda good: resigned(good, "governor", expires_at=START_S),
            "I2 0000000000000001 the permit had expired",
        ),
        (
            lambda good: resigned(good, "governor", created_at=START_S - 90),
            "I2 0000000000000001 the permit had expired",
        ),
        (lambda good: request(good, "reduceOnly=true", "x=1"), "I3 0000000000000001 not reduce-only"),
        (lambda good: request(good, "side=SELL", "side=BUY"), "I3 0000000000000001 not the closing side"),
        (
            lambda good: request(good, "quantity=0.250", "quantity=0.251"),
            "I3 0000000000000001 more than the permit",
        ),
        (
            lambda good: good.evidence.terms.update(allowlist=["ETHUSDT"]),
            "I3 0000000000000001 a symbol that is not",
        ),
        (across_zero, "I3 0000000000000005 the position crossed zero"),
        (more_than_its_share, "I3 0000000000000001 more than its share of the position it met"),
        (without_its_row, "I4 00000000000000ff an order without its row"),
        (sent_before, "I4 0000000000000001 sent before its intent"),
        (intent_without_event, "I4 0000000000000001 an intent without its audit event"),
        (sent_again, "I5 0000000000000001 sent again requests=2"),
        (not_waited_for, "I5 0000000000000003 an order while the last was in flight"),
        (unknown_and_free, "I5 0000000000000001 in flight, and its symbol is not locked"),
        (locked_for_nothing, "I5 0000000000000001 ended, and its symbol is still locked"),
        (lambda good: last_plan(good, error="because"), "I6 0000000000000006 no reason of the closed lists"),
        (lambda good: last_plan(good, error=""), "I6 0000000000000006 no reason of the closed lists"),
        (lambda good: last_plan(good, gov_ttl=None), "I6 0000000000000006 blocked without both TTLs"),
        (lambda good: last_plan(good, gate_reason=""), "I6 0000000000000006 a gate said no and not why"),
        (told_twice, "I6 0000000000000001 more than one result"),
        (told_otherwise, "I6 0000000000000001 a result that is not what the row says"),
        (spent_late, "I7 0000000000000001 spent after the plan's end"),
        (never_back, "I8 no fresh plan passed within 10 s after=kill_role"),
        (back_late, "I8 no fresh plan passed within 10 s after=kill_role took=11.5"),
        (lambda good: good.evidence.faults_of_end.append("group apply"), "I8 did not come to rest"),
        (without_an_end, "I8 0000000000000006 has no end after the quiet phase"),
        (
            secret_in("stderr.log"),
            "I9 a secret is written where it must not be secret=SECRET_KEY in=stderr.log",
        ),
        (secret_in("Redis"), "I9 a secret is written where it must not be secret=SECRET_KEY in=Redis"),
        (secret_in("quantum.sqlite3"), "I9 a secret is written where it must not be"),
        (moved_without_fill, "I11 0000000000000005 the ledger moved without a fill"),
        (booked_twice, "I11 0000000000000005 a fill booked twice"),
        (not_booked, "I11 0000000000000005 an exit's trade that is not in the ledger"),
        (by_nobody, "I11 the ledger moved without who and why"),
        (invented_fill, "I11 0000000000000001 a fill that the exchange did not report so"),
        (drifted, "I11 ledger and exchange differ, and nobody was told symbol=ETHUSDT"),
        (balance_by_hand, "I11 the running sum is not that of the entries"),
        (across_zero, "I11 0000000000000005 settled with another quantity than was traded"),
        (guessed("0"), "I12 0000000000000001 a grant on no position"),
        (guessed("0.9"), "I12 0000000000000001 a grant on an amount that was never held then"),
        (lambda good: good.evidence.terms.update(stale_s=-2), "I12 0000000000000001 a grant on an old look"),
        (intended_while("trading_halted"), "I13 0000000000000001 an intent while HALTED"),
        (intended_while("hold_placed"), "I13 0000000000000001 an intent under a hold"),
        (poison_stays, "I14 poison that was not parked"),
        (parked_twice, "I14 parked more than once"),
        (pending, "I14 entries nobody ends"),
        (of_another_mode, "I15 0000000000000001 a permit of another mode or account"),
        (another_instance, "I15 the instance is not this mode and account"),
        (trade_of_nobody, "I16 a trade of nobody"),
        (without_history, "I17 0000000000000001 nobody can see what became of it"),
    ],
)
def test_each_wrong_is_found_by_its_name(bent: Wrong, says: str) -> None:
    found = found_in(bent)
    assert any(line.startswith(says) for line in found), found


def test_an_order_that_left_long_after_its_plans_end_is_late() -> None:
    good = world()
    good.evidence.received[0]["received_us"] += 16_000_000
    assert any(
        "I7 0000000000000001 an order after the plan's end" in f.line() for f in checker.check(good.evidence)
    )


# ---- what is no violation


def findings_of(good: World) -> list[str]:
    return [finding.line() for finding in checker.check(good.evidence)]


def test_an_intent_of_an_operator_passes_the_halt_it_was_made_for() -> None:
    good = world()
    intended_while("trading_halted")(good)
    for event in good.evidence.events:
        if event["kind"] == "order_intended":
            event["data"] = json.dumps({"operator": "operator:nina"})
    assert findings_of(good) == []


def test_poison_that_went_with_a_wiped_redis_is_nobodys_fault() -> None:
    good = world()
    good.evidence.dead.clear()
    good.evidence.faults[0].update({"kind": "wipe", "from": good.evidence.poisons[0]["at"] + 1})
    assert findings_of(good) == []


def test_a_group_that_was_made_anew_parks_once_more() -> None:
    good = world()
    parked_twice(good)
    good.evidence.faults[0]["kind"] = "group_gone"
    assert findings_of(good) == []
