"""How much leaves: never above the permit, the plan's share or the market's limit, on the closing side (I3)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, cast

import pytest

from apply.acting import orders
from apply.acting.sizing import Size, size
from apply.models import Order
from permits.desk import payloads
from permits.gate.outcome import SpentPair
from permits.policy import policies
from quantum.exchange.types import Side, SymbolRules
from quantum.plan import STEPS, Action, make
from quantum.reasons import ApplyReason
from tests.properties import given, st

FULL, QUARTER = STEPS[Action.FULL_CLOSE], STEPS[Action.PARTIAL_25]
STEP_SIZES = st.sampled_from([Decimal(text) for text in ("0.001", "0.01", "0.1", "1", "10")])
POSITIONS = st.decimals(min_value=-10_000, max_value=10_000, places=4, allow_nan=False, allow_infinity=False)
POSITIVE = st.decimals(min_value="0.0001", max_value=20_000, places=4, allow_nan=False, allow_infinity=False)


def rules(*, step: str | Decimal = "0.001", least: str = "0.001", most: str | Decimal = "120") -> SymbolRules:
    return SymbolRules(
        symbol="BTCUSDT",
        lot_step=Decimal("0.0001"),
        lot_min=Decimal("0.0001"),
        lot_max=Decimal(1_000_000),
        market_step=Decimal(step),
        market_min=Decimal(least),
        market_max=Decimal(most),
        price_tick=Decimal("0.1"),
        min_notional=Decimal(5),
    )


@given(st.sampled_from(list(STEPS.values())), POSITIONS, POSITIVE, STEP_SIZES, POSITIVE)
def test_never_more_than_share_permit_or_market(
    step: Any, position: Decimal, safe: Decimal, market_step: Decimal, most: Decimal
) -> None:
    found = size(step=step, position=position, safe_quantity=safe, rules=rules(step=market_step, most=most))
    if not isinstance(found, Size):
        return
    assert 0 < found.quantity <= safe <= abs(position)
    assert found.quantity <= abs(position) * step.percent / 100
    assert found.quantity <= most
    assert found.quantity % market_step == 0
    after = position + (found.quantity if found.side is Side.BUY else -found.quantity)
    assert after * position >= 0, "the position crossed zero"
    assert abs(after) < abs(position), "not the closing side"


def test_never_more_than_share_permit_or_market_by_example() -> None:
    def quantity(step: Any = FULL, safe: str = "1", most: str = "120") -> Decimal:
        found = size(step=step, position=Decimal(1), safe_quantity=Decimal(safe), rules=rules(most=most))
        assert isinstance(found, Size)
        return found.quantity

    assert quantity() == 1
    assert quantity(QUARTER) == Decimal("0.25")
    assert quantity(safe="0.1") == Decimal("0.1")
    assert quantity(most="0.5") == Decimal("0.5")


@pytest.mark.parametrize(("position", "side"), [("1", Side.SELL), ("-1", Side.BUY)])
def test_the_side_closes(position: str, side: Side) -> None:
    found = size(step=FULL, position=Decimal(position), safe_quantity=Decimal(1), rules=rules())
    assert found == Size(side=side, quantity=Decimal(1))


@pytest.mark.parametrize(("position", "safe"), [("0", "1"), ("1", "0"), ("1", "-1"), ("1", "1.0001")])
def test_a_permit_that_does_not_fit_the_position_sizes_nothing(position: str, safe: str) -> None:
    found = size(step=FULL, position=Decimal(position), safe_quantity=Decimal(safe), rules=rules())
    assert found is ApplyReason.POSITION_CHANGED


@pytest.mark.parametrize(
    ("position", "bounds"),
    [("0.0009", rules()), ("0.004", rules(least="0.002")), ("1", rules(step="10", least="0"))],
)
def test_what_is_below_the_least_is_not_rounded_up(position: str, bounds: SymbolRules) -> None:
    found = size(step=QUARTER, position=Decimal(position), safe_quantity=Decimal(position), rules=bounds)
    assert found is ApplyReason.BELOW_MIN


# ---- the last look before the wire

PLAN = make(
    symbol="BTCUSDT",
    action=Action.PARTIAL_25,
    kill_score_text="1",
    timestamp_text="1764000000",
    mode="paper",
    source="tests",
)


def pair(*, position: str = "1", safe: str = "0.25", governor: str = '{"granted":true}') -> SpentPair:
    raw = f'{{"allow":true,"safe_close_qty":{safe},"exchange_position_amt":{position}}}'.encode()
    p33 = payloads.read(raw, gate=payloads.P33, all_fields=False)
    other = payloads.read(governor.encode(), gate=payloads.GOVERNOR, all_fields=False)
    return SpentPair(PLAN, "t", other, p33, 0, 0.0, 0, {})


@pytest.mark.parametrize(("computed", "safe"), [("0.1", "0.1"), ("7", "0.25"), ("0", "0.25")])
def test_no_more_is_closed_than_the_governor_held_of_its_limits(computed: str, safe: str) -> None:
    """The position grew between the Governor's snapshot and the Brain's look; zero says it held no size."""
    said = f'{{"granted":true,"computed_qty":{computed}}}'
    assert pair(governor=said).safe_quantity == Decimal(safe)


def order(**more: Any) -> Order:
    said = {"plan_id": PLAN.plan_id, "symbol": "BTCUSDT", "side": "SELL", "quantity": Decimal("0.25")}
    return Order(client_order_id="q-1", timestamp_ms=1, **(said | more))


class Wire:
    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, request: Any) -> Any:
        self.sent.append(request)
        return "sent"


@pytest.mark.django_db
def test_an_order_within_its_permits_leaves() -> None:
    wire = Wire()
    assert cast("Any", orders.send(cast("Any", wire), pair(), order())) == "sent"
    assert wire.sent[0].quantity == Decimal("0.25")


@pytest.mark.django_db
@pytest.mark.parametrize(
    "wrong",
    [
        {"quantity": Decimal("0.26")},
        {"quantity": Decimal(0)},
        {"quantity": Decimal(-1)},
        {"side": "BUY"},
        {"symbol": "ETHUSDT"},
        {"plan_id": "0" * 16},
    ],
    ids=lambda wrong: "_".join(map(str, *wrong.items())),
)
def test_an_order_no_permit_covers_never_leaves(wrong: dict[str, Any]) -> None:
    wire = Wire()
    with pytest.raises(orders.OutOfBounds):
        orders.send(cast("Any", wire), pair(), order(**wrong))
    assert wire.sent == []


@pytest.mark.django_db
def test_a_permit_for_more_than_the_plans_share_lets_no_more_leave() -> None:
    """Whoever made the quantity: the plan closes a quarter."""
    wire = Wire()
    generous = pair(safe="1")
    assert orders.send(cast("Any", wire), generous, order()) is not None
    with pytest.raises(orders.OutOfBounds):
        orders.send(cast("Any", wire), generous, order(quantity=Decimal("0.26")))
    assert len(wire.sent) == 1


@pytest.mark.django_db
def test_an_order_of_a_symbol_off_the_list_never_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire()
    monkeypatch.setattr(policies, "allows", lambda symbol, *, age_s: symbol != "BTCUSDT")
    with pytest.raises(orders.OutOfBounds):
        orders.send(cast("Any", wire), pair(), order())
    assert wire.sent == []
