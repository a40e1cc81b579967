"""A11 to A14: kill -9 around the ledger. Afterwards it is the exchange's own trades, once, with one record of each."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.conf import settings

from permits.models import Hold
from positions.drift import incidents
from positions.models import Balance, Fill, Incident, LedgerEntry
from quantum.exchange import connect
from quantum.models import AuditEvent
from quantum.plan import Action, ExitPlan
from tests.faults.ends import balance, fills_are_the_exchanges_own, is_booked, ledger_agrees, told_once
from tests.house import House, wait_for

pytestmark = pytest.mark.slow

WHY = "my own trade in the app, checked there"


def killed(house: House, *command: str, point: str) -> None:
    victim = house.spawn(*command, fault=f"{point}:kill")
    assert victim.wait(15) == -9, f"{command[0]} did not die at {point}"


def exit_in_three_fills(house: House, *, point: str) -> ExitPlan:
    """Apply dies at this point of a settling, and another apply begins."""
    house.start("p33", "governor", "warden")
    victim = house.spawn_role("apply", fault=f"{point}:kill")
    house.paper.push_scenario({"next": "order", "do": "partial", "percent": 100, "pieces": 3})
    plan = house.publish(house.make("BTCUSDT", Action.PARTIAL_50))
    assert victim.wait(10) == -9, f"it did not die at {point}"
    house.spawn_role("apply")
    return plan


def is_whole(house: House, plan: ExitPlan) -> None:
    """One order, three fills, three entries, each told of once; one result; the copy in Redis is right as well."""
    told_once(house, plan, state="filled", within_s=20)
    fills = Fill.objects.filter(client_order_id__startswith=f"q-{plan.plan_id}", booked=True)
    assert fills.count() == LedgerEntry.objects.filter(plan_id=plan.plan_id).count() == 3
    kinds = list(AuditEvent.objects.filter(plan_id=plan.plan_id).values_list("kind", flat=True))
    assert (kinds.count("ledger_moved"), kinds.count("order_intended")) == (3, 1)
    assert balance("BTCUSDT") == Decimal("0.5")
    fills_are_the_exchanges_own(house, [plan])
    ledger_agrees(house)
    copy = settings.KEYS.ledger("BTCUSDT")
    wait_for(lambda: house.redis.hget(copy, "last_known_amt") == b"0.5", what="the ledger's copy")
    assert not Incident.objects.exists()


@pytest.mark.parametrize("point", ["exit_stored", "balance_moved", "trade_booked"])
def test_a11_a_death_between_the_fill_and_the_ledger_leaves_neither_and_is_caught_up(
    house: House, quick: None, point: str
) -> None:
    """The second and third fill of three are still to come wherever it dies."""
    is_whole(house, exit_in_three_fills(house, point=point))


@pytest.mark.parametrize("point", ["order_settled", "result_published"])
def test_a12_a_death_between_the_ledger_and_the_result_tells_it_once(
    house: House, quick: None, point: str
) -> None:
    plan = exit_in_three_fills(house, point=point)
    is_whole(house, plan)
    assert house.exit("SOLUSDT").state == "filled"
    assert len(house.results(plan)) == 1


def test_a11_a_feed_that_dies_three_times_while_it_books_an_entry_books_it_once(house: House) -> None:
    ours = House.entry_id()
    house.start("p33")
    house.stop("p33")
    house.paper.set_position(symbol="BTCUSDT", amount="2.500", client_order_id=ours)
    for point in ("entry_stored", "balance_moved", "trade_booked"):
        victim = house.spawn("consume", "p33", fault=f"{point}:kill")
        assert victim.wait(15) == -9, f"it did not die at {point}"
        assert balance("BTCUSDT") == 1
        assert not Fill.objects.filter(client_order_id=ours).exists(), "half of it stayed"
        house.redis.delete(settings.KEYS.lease("p33"))  # or each would wait for the end of the last one's
    house.spawn_role("p33")
    is_booked("BTCUSDT", "2.5")
    [entry] = LedgerEntry.objects.filter(symbol="BTCUSDT", kind=LedgerEntry.Kind.ENTRY)
    trades = connect.reader().trades_since(symbol="BTCUSDT", since_ms=int(entry.at.timestamp() * 1000))
    assert entry.fill is not None
    assert [trade.trade_id for trade in trades] == [entry.fill.trade_id]
    assert not Incident.objects.exists()
    ledger_agrees(house)


def drifting(house: House, **amounts: str) -> None:
    """Trades by a person's hand, each an incident with its hold."""
    house.start("p33")
    for symbol, amount in amounts.items():
        by_hand = house.entry_id().replace("entry", "web")
        house.paper.set_position(symbol=symbol, amount=amount, client_order_id=by_hand)
    wait_for(lambda: incidents.standing().count() == len(amounts), what="the incidents")


def standing() -> tuple[dict[str, Decimal], int, int, int, int]:
    """Amounts, entries, records of adoptions by a person, open incidents, holds."""
    return (
        dict(Balance.objects.filter(symbol__in=House.POSITIONS).values_list("symbol", "amount")),
        LedgerEntry.objects.count(),
        AuditEvent.objects.filter(kind="ledger_adopted", actor="nina").count(),
        incidents.standing().count(),
        Hold.objects.filter(lifted_at=None).count(),
    )


def adopts(*symbols: str) -> tuple[str, ...]:
    return ("reconcile", *symbols, "--adopt", "--yes", "--by", "nina", "--reason", WHY)


def test_a13_a_reconciliation_that_dies_half_way_has_changed_nothing_and_may_be_done_again(
    house: House,
) -> None:
    drifting(house, BTCUSDT="3.000")
    before = standing()
    for point in ("ledger_balance_corrected", "ledger_corrected", "incidents_resolved"):
        killed(house, *adopts("BTCUSDT"), point=point)
        assert standing() == before, point
    assert house.spawn(*adopts("BTCUSDT")).wait(15) == 0
    amounts, entries, records, open_, holds = standing()
    assert (entries, records, open_, holds) == (before[1] + 1, 1, 0, 0)
    assert amounts["BTCUSDT"] == 3
    ledger_agrees(house)


def test_a14_a_decision_over_three_symbols_that_dies_after_the_first_is_none(house: House) -> None:
    """No page offers an action over many rows; this is the one act of a person that touches many symbols."""
    drifting(house, BTCUSDT="3.000", ETHUSDT="-9.000", SOLUSDT="100.00")
    before = standing()
    killed(house, *adopts(), point="ledger_corrected")
    assert standing() == before, "the first of three stayed"
    assert house.spawn(*adopts()).wait(15) == 0
    amounts, entries, records, open_, holds = standing()
    assert amounts == {"BTCUSDT": 3, "ETHUSDT": -9, "SOLUSDT": 100}
    assert (entries, records, open_, holds) == (before[1] + 3, 3, 0, 0)
    ledger_agrees(house)
