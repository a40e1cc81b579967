"""Scenario items and acts of the control plane beside those of the orders' own suite, through the real adapter."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from quantum.exchange.paper.process import PaperExchangeFailed, PaperExchangeProcess
from quantum.exchange.reading import ReadFailed
from quantum.exchange.types import Answered, FateUnknown, OrderStatus, RefusalKind, Refused, SendOutcome, Side
from tests.paper.desk import Desk
from tests.paper.listener import Listener

BTC = "BTCUSDT"


@pytest.fixture
def other(desk: Desk) -> Desk:
    """A client with a silence of its own: what it is told must not silence the next test."""
    return Desk(desk.exchange)


def refusal(outcome: SendOutcome) -> tuple[RefusalKind, int | None]:
    assert isinstance(outcome, Refused)
    return outcome.kind, outcome.code


@pytest.mark.parametrize(
    ("code", "kind"),
    [(-1008, RefusalKind.BACK_OFF), (-1015, RefusalKind.BACK_OFF), (-1021, RefusalKind.CLOCK),
     (-1111, RefusalKind.REQUEST), (-2015, RefusalKind.ACCOUNT), (-2022, RefusalKind.CONFLICT),
     (-4061, RefusalKind.REQUEST), (-4116, RefusalKind.DUPLICATE), (-4109, RefusalKind.ACCOUNT)],
)  # fmt: skip
def test_any_error_of_the_exchange_can_be_asked_for_by_its_code(
    other: Desk, code: int, kind: RefusalKind
) -> None:
    other.exchange.push_scenario({"next": "order", "do": "refuse", "code": code})
    client_id = other.new_id("other")
    assert refusal(other.send(BTC, Side.SELL, "0.1", client_id=client_id)) == (kind, code)
    assert other.amount_by_hand(BTC) == "1.000"
    assert other.exchange.accepted(prefix=client_id) == []


def test_too_little_margin_can_be_asked_for(other: Desk) -> None:
    other.exchange.push_scenario({"next": "order", "do": "refuse", "code": -2019})
    outcome = other.send(BTC, Side.SELL, "0.1")
    assert isinstance(outcome, Refused)
    assert outcome.code == -2019


def test_the_two_texts_of_503_mean_two_things(other: Desk) -> None:
    other.exchange.push_scenario({"next": "order", "do": "unknown_503", "accepted": True})
    assert isinstance(other.send(BTC, Side.SELL, "0.1"), FateUnknown)
    assert other.amount_by_hand(BTC) == "0.900"
    other.exchange.push_scenario({"next": "order", "do": "unavailable"})
    assert isinstance(other.send(BTC, Side.SELL, "0.1"), Refused)
    assert other.amount_by_hand(BTC) == "0.900"


@pytest.mark.parametrize("status", [200, 502, 504])
def test_html_of_any_status_is_unknown(other: Desk, status: int) -> None:
    other.exchange.push_scenario({"next": "order", "do": "html", "status": status})
    assert isinstance(other.send(BTC, Side.SELL, "0.1"), FateUnknown)


def test_a_ban_names_its_time_in_the_text_and_the_adapter_believes_it(other: Desk) -> None:
    before_ms = time.time_ns() // 1_000_000
    other.exchange.push_scenario({"next": "order", "do": "banned", "for_s": 90})
    outcome = other.send(BTC, Side.SELL, "0.1")
    assert isinstance(outcome, Refused)
    assert outcome.retry_at_ms is not None
    assert 89_000 <= outcome.retry_at_ms - before_ms <= 95_000


def test_an_order_that_rests_is_new_until_it_fills(desk: Desk) -> None:
    desk.exchange.push_scenario({"next": "order", "do": "rest", "after_ms": 500})
    client_id = desk.new_id()
    outcome = desk.send(BTC, Side.SELL, "0.1", client_id=client_id)
    assert isinstance(outcome, Answered)
    assert (outcome.order.status, outcome.order.executed_quantity) == (OrderStatus.NEW, Decimal(0))
    assert desk.amount(BTC) == 1
    deadline = time.monotonic() + 5
    while desk.amount(BTC) == 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    order = desk.reader.order(symbol=BTC, client_order_id=client_id)
    assert order is not None
    assert order.status is OrderStatus.FILLED
    assert desk.amount(BTC) == Decimal("0.9")


def test_an_order_that_rests_for_good_fills_in_part_by_hand_and_is_cancelled(desk: Desk) -> None:
    desk.exchange.push_scenario({"next": "order", "do": "rest"})
    client_id = desk.new_id()
    desk.send(BTC, Side.SELL, "0.1", client_id=client_id)
    desk.exchange.set_price(symbol=BTC, price="99000")  # no price reaches it
    assert desk.amount(BTC) == 1
    desk.exchange.fill(symbol=BTC, client_order_id=client_id, quantity="0.04")
    order = desk.reader.order(symbol=BTC, client_order_id=client_id)
    assert order is not None
    assert (order.status, order.executed_quantity) == (OrderStatus.PARTIALLY_FILLED, Decimal("0.04"))
    outcome = desk.sender.cancel(symbol=BTC, client_order_id=client_id)
    assert isinstance(outcome, Answered)
    assert outcome.order.status is OrderStatus.CANCELED
    assert desk.amount(BTC) == Decimal("0.96")


def test_a_resting_exit_never_crosses_zero_when_the_position_shrinks_below_it(desk: Desk) -> None:
    desk.exchange.push_scenario({"next": "order", "do": "rest"})
    client_id = desk.new_id()
    desk.send(BTC, Side.SELL, "0.1", client_id=client_id)
    desk.hold(BTC, "0.03")
    desk.exchange.fill(symbol=BTC, client_order_id=client_id)
    order = desk.reader.order(symbol=BTC, client_order_id=client_id)
    assert order is not None
    assert (order.status, order.executed_quantity) == (OrderStatus.EXPIRED, Decimal("0.03"))
    assert desk.amount(BTC) == 0


@pytest.mark.parametrize(("amount", "code"), [("0", -2022), ("-0.5", -2022)])
def test_a_hand_that_was_faster_leaves_nothing_to_reduce(desk: Desk, amount: str, code: int) -> None:
    desk.exchange.push_scenario({"next": "order", "do": "move_first", "amount": amount})
    assert refusal(desk.send(BTC, Side.SELL, "0.1")) == (RefusalKind.CONFLICT, code)
    assert desk.amount(BTC) == Decimal(amount)


def test_a_hand_that_shrank_the_position_leaves_a_smaller_exit(desk: Desk) -> None:
    desk.exchange.push_scenario({"next": "order", "do": "move_first", "amount": "0.04"})
    outcome = desk.send(BTC, Side.SELL, "0.1")
    assert isinstance(outcome, Answered)
    assert outcome.order.executed_quantity == Decimal("0.04")
    assert desk.amount(BTC) == 0


@pytest.mark.parametrize(
    ("kind", "prefix", "execution"),
    [("liquidation", "autoclose-", "CALCULATED"), ("adl", "adl_autoclose-", "TRADE"),
     ("settlement", "settlement_autoclose-", "TRADE")],
)  # fmt: skip
def test_the_exchange_takes_a_position_by_itself_and_says_so(
    desk: Desk, kind: str, prefix: str, execution: str
) -> None:
    with Listener(desk.exchange) as heard:
        desk.exchange.seize(symbol=BTC, kind=kind, quantity="0.3")
        heard.wait(lambda: len(heard.orders()) == 2)
    taken = heard.orders()[-1]
    assert taken["c"].startswith(prefix)
    assert (taken["x"], taken["X"], taken["S"], taken["l"]) == (execution, "FILLED", "SELL", "0.3")
    assert desk.amount(BTC) == Decimal("0.7")
    trades = desk.reader.trades_of_order(symbol=BTC, order_id=taken["i"])
    assert [trade.trade_id for trade in trades] == [taken["t"]]


def test_funding_moves_the_wallet_and_no_position(desk: Desk) -> None:
    before = Decimal(desk.signed("GET", "/fapi/v3/balance")[1][0]["balance"])
    with Listener(desk.exchange) as heard:
        desk.exchange.control("POST", "/paper/funding", {"amount": "-1.25"})
        (event,) = heard.wait_for(1)
    assert (event["a"]["m"], event["a"]["P"], event["a"]["B"][0]["bc"]) == ("FUNDING_FEE", [], "-1.25000000")
    assert Decimal(desk.signed("GET", "/fapi/v3/balance")[1][0]["balance"]) == before - Decimal("1.25")


def test_filters_change_under_way(desk: Desk) -> None:
    desk.exchange.set_filters(symbol="SOLUSDT", step="1", quantity_min="1")
    try:
        assert desk.reader.symbol_rules()["SOLUSDT"].lot_step == 1
        desk.hold("SOLUSDT", "10")
        assert refusal(desk.send("SOLUSDT", Side.SELL, "0.5")) == (RefusalKind.REQUEST, -1111)
    finally:
        desk.hold("SOLUSDT", "0")
        desk.exchange.set_filters(symbol="SOLUSDT", step="0.01", quantity_min="0.01")


def test_positions_come_in_part_or_unreadable(desk: Desk) -> None:
    desk.exchange.push_scenario({"next": "positionRisk", "do": "edit", "leave_out": [BTC]})
    assert desk.amount(BTC) == 0, "v3 leaves flat symbols out: what is missing looks flat"
    desk.exchange.push_scenario({"next": "positionRisk", "do": "edit", "set": {"positionAmt": "much"}})
    with pytest.raises(ReadFailed):
        desk.reader.positions()


@pytest.mark.parametrize(
    "item",
    [{"next": "order", "do": "refuse", "code": 7}, {"next": "order", "do": "rest", "after_ms": -1},
     {"next": "order", "do": "move_first", "amount": "all"}, {"next": "order", "do": "partial", "pieces": 0},
     {"next": "order", "do": "html", "status": "502"}, {"now": "tea"}, {"now": "scenario"},
     {"now": "stream", "do": "explode"}, {"now": "latency", "ms": 5, "after_ms": "soon"}],
)  # fmt: skip
def test_an_item_with_a_mistake_takes_the_whole_scenario_with_it(desk: Desk, item: dict[str, Any]) -> None:
    with pytest.raises(PaperExchangeFailed):
        desk.exchange.push_scenario({"next": "order", "do": "accept_then_cut"}, item)
    assert isinstance(desk.send(BTC, Side.SELL, "0.001"), Answered)


def test_a_mistake_among_acts_does_nothing_of_them(desk: Desk) -> None:
    act = {"now": "position", "symbol": BTC, "amount": "0.5", "client_order_id": desk.new_id("web_")}
    with pytest.raises(PaperExchangeFailed):
        desk.exchange.push_scenario(act, {"now": "tea"})
    assert desk.amount(BTC) == 1


# --- scenario files


def started(tmp_path: Path, *rows: object) -> PaperExchangeProcess:
    path = tmp_path / "scenario.json"
    path.write_text(json.dumps(rows))
    return PaperExchangeProcess(data_path=tmp_path / "paper.sqlite3", scenario_path=path)


def test_a_scenario_file_acts_at_once_later_and_on_the_next_request(tmp_path: Path) -> None:
    position = {"now": "position", "symbol": BTC, "client_order_id": "web_1", "amount": "1"}
    later = {**position, "client_order_id": "web_2", "amount": "0.25", "after_ms": 400}
    with started(tmp_path, position, later, {"next": "order", "do": "partial", "percent": 50}) as exchange:
        desk = Desk(exchange)
        assert desk.amount(BTC) == 1
        outcome = desk.send(BTC, Side.SELL, "0.1")
        assert isinstance(outcome, Answered)
        assert outcome.order.executed_quantity == Decimal("0.05")
        deadline = time.monotonic() + 5
        while desk.amount(BTC) != Decimal("0.25") and time.monotonic() < deadline:
            time.sleep(0.05)
        assert desk.amount(BTC) == Decimal("0.25")


def test_a_scenario_file_with_a_mistake_does_not_start_and_says_which(tmp_path: Path) -> None:
    with pytest.raises(
        PaperExchangeFailed, match=r"\Apaper exchange: 'latency' does not take \['percent'\]\Z"
    ):
        started(tmp_path, {"next": "order", "do": "latency", "percent": 3}).start()
