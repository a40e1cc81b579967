"""The paper exchange, as a real process, spoken to through the real adapter or by raw HTTP."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum.exchange import binance_reader
from quantum.exchange.paper.auth import PaperKeys, RawRequest
from quantum.exchange.paper.book import Holding, book
from quantum.exchange.paper.process import PaperExchangeFailed, PaperExchangeProcess
from quantum.exchange.reading import ReadFailed
from quantum.exchange.types import (
    Answered,
    FateUnknown,
    OrderStatus,
    RefusalKind,
    Refused,
    Side,
)
from tests.paper.desk import Desk


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    path = tmp_path_factory.mktemp("paper") / "paper.sqlite3"
    with PaperExchangeProcess(data_path=path) as exchange:
        yield Desk(exchange)


@pytest.fixture
def desk(running: Desk) -> Desk:
    """The module's exchange, brought back to rest: 1 BTC long at 64000, nothing scripted."""
    exchange = running.exchange
    exchange.clear_scenario()
    exchange.set_latency(ms=0)
    exchange.set_clock(skew_ms=0)
    exchange.set_hedge_mode(on=False)
    for order in running.reader.open_orders():
        running.sender.cancel(symbol=order.symbol, client_order_id=order.client_order_id)
    running.hold("BTCUSDT", "0")
    exchange.set_price(symbol="BTCUSDT", price="64000")
    running.hold("BTCUSDT", "1")
    return running


@contextmanager
def own_exchange(path: Path, *, seed_positions: bool = False) -> Iterator[Desk]:
    exchange = PaperExchangeProcess(data_path=path, seed_positions=seed_positions)
    exchange.start()
    try:
        yield Desk(exchange)
    finally:
        exchange.stop()


def accepted(desk: Desk, client_id: str) -> int:
    return len(desk.exchange.accepted(prefix=client_id))


# --- orders, positions and money


def test_an_exit_fills_at_once_and_position_trade_and_order_agree(desk: Desk) -> None:
    outcome = desk.send("BTCUSDT", Side.SELL, "0.008")
    assert isinstance(outcome, Answered)
    order = outcome.order
    assert (order.status, order.executed_quantity, order.average_price) == (
        OrderStatus.FILLED, Decimal("0.008"), Decimal(64000),
    )  # fmt: skip
    assert desk.amount("BTCUSDT") == Decimal("0.992")
    (trade,) = desk.reader.trades_of_order(symbol="BTCUSDT", order_id=order.order_id)
    assert (trade.signed_quantity, trade.price) == (Decimal("-0.008"), Decimal(64000))
    assert trade.commission == Decimal("0.256")
    assert desk.reader.order(symbol="BTCUSDT", client_order_id=order.client_order_id) == order
    assert desk.reader.order_by_id(symbol="BTCUSDT", order_id=order.order_id) == order


def test_realised_profit_is_exact_and_leaves_commission_out(desk: Desk) -> None:
    desk.exchange.set_price(symbol="ETHUSDT", price="2778.35")
    desk.hold("ETHUSDT", "-0.005")
    desk.exchange.set_price(symbol="ETHUSDT", price="2779")
    assert desk.reader.positions().positions["ETHUSDT"].unrealized_pnl == Decimal("-0.00325")
    outcome = desk.send("ETHUSDT", Side.BUY, "0.005")
    assert isinstance(outcome, Answered)
    (trade,) = desk.reader.trades_of_order(symbol="ETHUSDT", order_id=outcome.order.order_id)
    assert trade.realized_pnl == Decimal("-0.00325")
    assert trade.commission == Decimal("0.0069475")
    assert desk.amount("ETHUSDT") == 0


def test_reduce_only_shrinks_to_the_position_and_never_crosses_zero(desk: Desk) -> None:
    outcome = desk.send("BTCUSDT", Side.SELL, "5")
    assert isinstance(outcome, Answered)
    assert outcome.order.executed_quantity == 1
    assert desk.amount("BTCUSDT") == 0
    for side in Side:
        again = desk.send("BTCUSDT", side, "0.001")
        assert isinstance(again, Refused)
        assert (again.kind, again.code) == (RefusalKind.CONFLICT, -2022)


def test_reduce_only_on_the_growing_side_is_refused(desk: Desk) -> None:
    outcome = desk.send("BTCUSDT", Side.BUY, "0.001")
    assert isinstance(outcome, Refused)
    assert outcome.code == -2022


def test_one_client_id_is_accepted_once(desk: Desk) -> None:
    client_id = desk.new_id()
    assert isinstance(desk.send("BTCUSDT", Side.SELL, "0.001", client_id=client_id), Answered)
    second = desk.send("BTCUSDT", Side.SELL, "0.001", client_id=client_id)
    assert isinstance(second, Refused)
    assert (second.kind, second.code) == (RefusalKind.DUPLICATE, -4116)
    verdicts = [row["verdict"] for row in desk.exchange.log() if row["client_id"] == client_id]
    assert verdicts == ["accepted", "refused"]


def test_a_market_order_that_asks_for_no_result_answers_new_although_it_filled(desk: Desk) -> None:
    client_id = desk.new_id()
    order = {"symbol": "BTCUSDT", "side": "SELL", "type": "MARKET", "quantity": "0.002"}
    _, answer, _ = desk.signed("POST", "/fapi/v1/order", **order, newClientOrderId=client_id)
    assert (answer["status"], answer["executedQty"]) == ("NEW", "0")
    known = desk.reader.order(symbol="BTCUSDT", client_order_id=client_id)
    assert known is not None
    assert (known.status, known.executed_quantity) == (OrderStatus.FILLED, Decimal("0.002"))


def test_a_limit_order_rests_fills_when_the_price_comes_and_can_be_cancelled(desk: Desk) -> None:
    order = {"symbol": "BTCUSDT", "side": "SELL", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.5"}
    first, second = desk.new_id(), desk.new_id()
    for client_id, price in ((first, "65000"), (second, "66000")):
        desk.signed(
            "POST", "/fapi/v1/order", **order, price=price, newClientOrderId=client_id, reduceOnly="true"
        )
    assert [one.client_order_id for one in desk.reader.open_orders()] == [first, second]
    desk.exchange.set_price(symbol="BTCUSDT", price="65500")
    assert [one.client_order_id for one in desk.reader.open_orders()] == [second]
    assert desk.amount("BTCUSDT") == Decimal("0.5")
    outcome = desk.sender.cancel(symbol="BTCUSDT", client_order_id=second)
    assert isinstance(outcome, Answered)
    assert outcome.order.status is OrderStatus.CANCELED
    gone = desk.sender.cancel(symbol="BTCUSDT", client_order_id=second)
    assert isinstance(gone, Refused)
    assert gone.code == -2011


@given(
    fills=st.lists(
        st.tuples(st.integers(-5000, 5000).filter(bool), st.integers(1, 10**7)), min_size=1, max_size=30
    )
)
def test_whatever_is_traded_the_money_adds_up(fills: list[tuple[int, int]]) -> None:
    """Realised plus unrealised is the cash that moved plus what the position is worth."""
    holding, realized, cash, amount, price = Holding(), *[Decimal(0)] * 4
    for steps, cents in fills:
        quantity, price = Decimal(steps) / 1000, Decimal(cents) / 100
        booked = book(holding=holding, signed_quantity=quantity, price=price)
        holding, realized = booked.holding, realized + booked.realized
        cash, amount = cash - quantity * price, amount + quantity
        assert booked.commission >= 0
        assert holding.amount == amount
        assert (holding.amount == 0) == (holding.entry_price == 0)
    worth = cash + amount * price
    assert abs(realized + holding.unrealized(price=price) - worth) <= Decimal("1e-8") * 5000 * len(fills)


# --- what it refuses


GOOD = {"symbol": "BTCUSDT", "side": "SELL", "type": "MARKET", "quantity": "0.010", "reduceOnly": "true"}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"symbol": None}, -1102), ({"symbol": "NOPEUSDT"}, -1121), ({"side": None}, -1102),
        ({"side": "CLOSE"}, -1117), ({"type": None}, -1102), ({"type": "ICEBERG"}, -1116),
        ({"type": "STOP_MARKET"}, -4120), ({"quantity": None}, -1102), ({"quantity": "0"}, -4003),
        ({"quantity": "-1"}, -4003), ({"quantity": "0.0001"}, -1111), ({"quantity": "1e-05"}, -1100),
        ({"quantity": "121"}, -4005), ({"reduceOnly": "True"}, -1100),
        ({"newClientOrderId": "x" * 37}, -4015),
        ({"positionSide": "LONG"}, -4061), ({"quantity": "0.001", "reduceOnly": "false"}, -4164),
    ],
)  # fmt: skip
def test_an_order_against_the_rules_is_refused_with_the_exchanges_code(
    desk: Desk, change: dict[str, Any], code: int
) -> None:
    status, answer, _ = desk.signed("POST", "/fapi/v1/order", **{**GOOD, **change})
    assert (status, answer["code"]) == (400, code)
    assert desk.amount("BTCUSDT") == 1
    assert desk.exchange.log()[-1]["code"] == code


def test_the_minimum_notional_is_waived_for_reduce_only(desk: Desk) -> None:
    assert desk.signed("POST", "/fapi/v1/order", **{**GOOD, "quantity": "0.001"})[0] == 200


def test_hedge_mode_is_shown_and_takes_no_order(desk: Desk) -> None:
    assert not desk.reader.hedge_mode()
    desk.exchange.set_hedge_mode(on=True)
    assert desk.reader.hedge_mode()
    outcome = desk.send("BTCUSDT", Side.SELL, "0.001")
    assert isinstance(outcome, Refused)
    assert (outcome.kind, outcome.code) == (RefusalKind.REQUEST, -1106)


def test_the_read_key_reads_and_cannot_trade(desk: Desk) -> None:
    keys = desk.exchange.keys
    read = {"key": keys.read_key, "secret": keys.read_secret}
    assert desk.signed("GET", "/fapi/v3/positionRisk", **read)[0] == 200
    for method in ("POST", "DELETE"):
        status, answer, _ = desk.signed(method, "/fapi/v1/order", **read, **GOOD)
        assert (status, answer["code"]) == (401, -2015)
    assert desk.amount("BTCUSDT") == 1


def test_a_stranger_a_forger_and_a_late_comer_are_turned_away(desk: Desk) -> None:
    now_ms = time.time_ns() // 1_000_000
    cases: list[tuple[dict[str, Any], int]] = [
        ({"key": ""}, -2014), ({"key": "f" * 64}, -2015), ({"secret": "wrong"}, -1022),
        ({"secret": desk.exchange.keys.read_secret}, -1022),
        ({"timestamp": now_ms - 5100}, -1021), ({"timestamp": now_ms + 1500}, -1021),
        ({"timestamp": now_ms - 3200, "recvWindow": 3000}, -1021), ({"timestamp": None}, -1102),
        ({"timestamp": "soon"}, -1102), ({"recvWindow": 60001}, -1102),
    ]  # fmt: skip
    for change, code in cases:
        _, answer, _ = desk.signed("POST", "/fapi/v1/order", **{**GOOD, **change})
        assert answer["code"] == code, change
    assert desk.amount("BTCUSDT") == 1
    _, answer, _ = desk.raw("GET", "/fapi/v3/positionRisk", "timestamp=1", key=desk.exchange.keys.read_key)
    assert answer["code"] == -1102


def test_a_parameter_changed_on_the_way_breaks_the_signature(desk: Desk) -> None:
    text = "&".join(f"{k}={v}" for k, v in {**GOOD, "timestamp": time.time_ns() // 1_000_000}.items())
    secret = desk.exchange.keys.trade_secret.encode()
    signature = hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()
    changed = text.replace("0.010", "1.000") + "&signature=" + signature
    assert desk.raw("POST", "/fapi/v1/order", changed, key=desk.exchange.keys.trade_key)[1]["code"] == -1022


def test_an_order_pinned_to_an_intent_four_seconds_old_is_refused_by_the_exchange(desk: Desk) -> None:
    outcome = desk.send("BTCUSDT", Side.SELL, "0.001", age_ms=4000)
    assert isinstance(outcome, Refused)
    assert (outcome.kind, outcome.code) == (RefusalKind.CLOCK, -1021)
    assert isinstance(desk.send("BTCUSDT", Side.SELL, "0.001", age_ms=2000), Answered)


def test_a_reader_whose_clock_is_off_measures_it_and_reads_again(desk: Desk) -> None:
    desk.exchange.set_clock(skew_ms=30_000)
    with pytest.raises(ReadFailed) as failure:
        desk.reader.positions()
    assert failure.value.code == -1021
    try:
        assert abs(desk.reader.sync_clock() - 30_000) < 500
        assert desk.amount("BTCUSDT") == 1
    finally:
        desk.exchange.set_clock(skew_ms=0)
        desk.reader.sync_clock()


# --- scripted faults, through the real adapter


def settled(desk: Desk, client_id: str) -> OrderStatus | None:
    order = desk.reader.order(symbol="BTCUSDT", client_order_id=client_id)
    return order.status if order else None


def test_scenario_accept_then_cut_is_unknown_and_was_executed_once(desk: Desk) -> None:
    client_id = desk.new_id()
    desk.exchange.push_scenario({"next": "order", "do": "accept_then_cut"})
    assert isinstance(desk.send("BTCUSDT", Side.SELL, "0.1", client_id=client_id), FateUnknown)
    assert settled(desk, client_id) is OrderStatus.FILLED
    assert accepted(desk, client_id) == 1
    assert desk.amount("BTCUSDT") == Decimal("0.9")


def test_scenario_cut_before_accept_is_unknown_and_was_never_executed(desk: Desk) -> None:
    client_id = desk.new_id()
    desk.exchange.push_scenario({"next": "order", "do": "cut_before_accept"})
    assert isinstance(desk.send("BTCUSDT", Side.SELL, "0.1", client_id=client_id), FateUnknown)
    assert settled(desk, client_id) is None
    assert accepted(desk, client_id) == 0
    assert len([row for row in desk.exchange.log() if row["client_id"] == client_id]) == 1
    assert desk.amount("BTCUSDT") == 1


@pytest.mark.parametrize("taken", [True, False])
def test_scenario_reply_gives_any_status_and_body_taken_or_not(desk: Desk, taken: bool) -> None:
    client_id = desk.new_id()
    body = {"code": -1000, "msg": "Unknown error, please check your request or try again later."}
    desk.exchange.push_scenario(
        {"next": "order", "do": "reply", "status": 503, "body": body, "accepted": taken}
    )
    assert isinstance(desk.send("BTCUSDT", Side.SELL, "0.1", client_id=client_id), FateUnknown)
    assert settled(desk, client_id) is (OrderStatus.FILLED if taken else None)


def test_scenario_html_200_is_unknown(desk: Desk) -> None:
    client_id = desk.new_id()
    desk.exchange.push_scenario({"next": "order", "do": "html_200", "accepted": True})
    assert isinstance(desk.send("BTCUSDT", Side.SELL, "0.1", client_id=client_id), FateUnknown)
    assert settled(desk, client_id) is OrderStatus.FILLED


def test_scenario_late_accept_proves_that_an_early_2013_proves_nothing(desk: Desk) -> None:
    client_id = desk.new_id()
    desk.exchange.push_scenario({"next": "order", "do": "late_accept", "after_ms": 400})
    outcome = desk.send("BTCUSDT", Side.SELL, "0.1", client_id=client_id)
    assert isinstance(outcome, FateUnknown)
    assert outcome.code == -1007
    assert settled(desk, client_id) is None
    deadline = time.monotonic() + 5
    while settled(desk, client_id) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert settled(desk, client_id) is OrderStatus.FILLED
    assert accepted(desk, client_id) == 1


@pytest.mark.parametrize(("percent", "executed"), [(50, "0.050"), (0, "0"), (33, "0.033")])
def test_scenario_partial_fills_in_part_and_expires(desk: Desk, percent: int, executed: str) -> None:
    desk.exchange.push_scenario({"next": "order", "do": "partial", "percent": percent})
    outcome = desk.send("BTCUSDT", Side.SELL, "0.1")
    assert isinstance(outcome, Answered)
    assert outcome.order.status is OrderStatus.EXPIRED
    assert outcome.order.executed_quantity == Decimal(executed)
    trades = desk.reader.trades_of_order(symbol="BTCUSDT", order_id=outcome.order.order_id)
    assert sum(trade.quantity for trade in trades) == Decimal(executed)
    assert desk.amount("BTCUSDT") == 1 - Decimal(executed)


def test_scenario_latency_beyond_the_limit_is_unknown_and_was_executed(desk: Desk) -> None:
    client_id = desk.new_id()
    desk.exchange.push_scenario({"next": "order", "do": "latency", "ms": 3000})
    assert isinstance(desk.send("BTCUSDT", Side.SELL, "0.1", client_id=client_id), FateUnknown)
    assert settled(desk, client_id) is OrderStatus.FILLED


def test_latency_for_all_is_a_round_trip_and_does_not_block_others(desk: Desk) -> None:
    desk.exchange.set_latency(ms=200)
    started = time.monotonic()
    assert isinstance(desk.send("BTCUSDT", Side.SELL, "0.1"), Answered)
    assert 0.2 <= time.monotonic() - started < 1


def test_scenario_rate_limited_silences_the_client(desk: Desk) -> None:
    other = Desk(desk.exchange)  # a silence of its own
    desk.exchange.push_scenario({"next": "order", "do": "rate_limited", "retry_after_s": 30})
    first, second = (other.send("BTCUSDT", Side.SELL, "0.1") for _ in range(2))
    assert isinstance(first, Refused)
    assert isinstance(second, Refused)
    assert first.kind is second.kind is RefusalKind.BACK_OFF
    assert first.retry_at_ms is not None
    assert second.retry_at_ms is not None
    assert abs(first.retry_at_ms - second.retry_at_ms) <= 1  # kept by a clock that nobody sets, told by ours
    assert desk.amount("BTCUSDT") == 1


def test_a_scenario_can_fail_reading_too_and_is_used_up(desk: Desk) -> None:
    desk.exchange.push_scenario({"next": "positionRisk", "do": "cut_before_accept", "times": 2})
    for _ in range(2):
        with pytest.raises(ReadFailed):
            desk.reader.positions()
    assert desk.amount("BTCUSDT") == 1


@pytest.mark.parametrize(
    "item",
    [{}, {"next": "order"}, {"next": "order", "do": "explode"},
     {"next": "order", "do": "latency", "percent": 5},
     {"next": "order", "do": "partial", "percent": 101}, "text"],
)  # fmt: skip
def test_a_scenario_with_a_mistake_is_refused_whole(desk: Desk, item: Any) -> None:
    with pytest.raises(PaperExchangeFailed):
        desk.exchange.push_scenario({"next": "order", "do": "accept_then_cut"}, item)
    assert isinstance(desk.send("BTCUSDT", Side.SELL, "0.001"), Answered)


# --- reading


def test_trades_since_walks_pages_and_weeks_to_the_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    since_ms = time.time_ns() // 1_000_000
    desk.hold("SOLUSDT", "10")
    for _ in range(9):
        assert isinstance(desk.send("SOLUSDT", Side.SELL, "0.01"), Answered)
    monkeypatch.setattr(binance_reader, "TRADES_PAGE", 3)
    mine = desk.reader.trades_since(symbol="SOLUSDT", since_ms=since_ms)
    assert len(mine) == 10
    assert [trade.trade_id for trade in mine] == sorted({trade.trade_id for trade in mine})
    three_weeks_ms = 21 * 24 * 3600 * 1000
    everything = desk.reader.trades_since(symbol="SOLUSDT", since_ms=since_ms - three_weeks_ms)
    assert everything[-10:] == mine


def test_symbol_rules_of_all_symbols_come_in_one_call(desk: Desk) -> None:
    rules = desk.reader.symbol_rules()
    assert set(rules) == {"BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT"}
    assert (rules["BTCUSDT"].lot_step, rules["BTCUSDT"].market_max) == (Decimal("0.001"), Decimal(120))
    assert rules["BTCUSDT"].lot_max == 1000


def test_positions_v3_leave_flat_symbols_out_and_v2_does_not(desk: Desk) -> None:
    desk.hold("XRPUSDT", "0")
    v3 = {row["symbol"] for row in desk.signed("GET", "/fapi/v3/positionRisk")[1]}
    v2 = {row["symbol"]: row["positionAmt"] for row in desk.signed("GET", "/fapi/v2/positionRisk")[1]}
    assert "XRPUSDT" not in v3
    assert Decimal(v2["XRPUSDT"]) == 0


def test_weights_and_order_counts_come_in_the_headers(desk: Desk) -> None:
    before = int(desk.raw("GET", "/fapi/v1/time")[2]["X-MBX-USED-WEIGHT-1M"])
    headers = desk.signed("GET", "/fapi/v3/positionRisk")[2]
    after = int(headers["X-MBX-USED-WEIGHT-1M"])
    assert after == before + 5 or after == 5  # a new minute began in between
    assert "X-MBX-ORDER-COUNT-10S" not in headers
    assert "X-MBX-ORDER-COUNT-10S" in desk.signed("POST", "/fapi/v1/order", **GOOD)[2]
    desk.reader.positions()
    assert desk.reader.back_off.used_weight_1m is not None


def test_a_listen_key_is_made_kept_and_closed(desk: Desk) -> None:
    key = desk.exchange.keys.read_key
    made = desk.raw("POST", "/fapi/v1/listenKey", key=key)[1]["listenKey"]
    assert desk.raw("PUT", "/fapi/v1/listenKey", key=key)[1] == {"listenKey": made}
    assert desk.raw("DELETE", "/fapi/v1/listenKey", key=key)[1] == {}
    assert desk.raw("PUT", "/fapi/v1/listenKey", key=key)[1]["code"] == -1125


def test_the_rest_of_the_endpoints_answer(desk: Desk) -> None:
    mark = desk.raw("GET", "/fapi/v1/premiumIndex", "symbol=BTCUSDT")[1]
    assert Decimal(mark["markPrice"]) == 64000
    assert len(desk.raw("GET", "/fapi/v1/premiumIndex")[1]) == 5
    assert desk.raw("GET", "/fapi/v1/ping")[1] == {}
    (usdt,) = desk.signed("GET", "/fapi/v3/balance")[1]
    account = desk.signed("GET", "/fapi/v3/account")[1]
    assert usdt["balance"] == account["totalWalletBalance"]
    leverage = desk.signed("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=5)[1]
    assert leverage["leverage"] == 5
    assert desk.signed("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=126)[1]["code"] == -4028
    assert desk.raw("GET", "/fapi/v1/nothing")[0] == 404


# --- the control plane and the log


def test_the_control_plane_needs_the_trade_key(desk: Desk) -> None:
    for key in ("", "wrong", desk.exchange.keys.read_key):
        assert desk.raw("GET", "/paper/log", key=key)[0] == 401


def test_the_log_tells_when_each_order_came_in_and_never_a_signature(desk: Desk) -> None:
    client_id, before_us = desk.new_id(), time.time_ns() // 1000
    desk.send("BTCUSDT", Side.SELL, "0.001", client_id=client_id)
    after_us = time.time_ns() // 1000
    (row,) = [row for row in desk.exchange.log() if row["client_id"] == client_id]
    assert before_us <= row["received_us"] <= after_us
    assert "reduceOnly=true" in row["params"]
    assert "signature" not in json.dumps(desk.exchange.log())
    assert desk.exchange.log(after=row["seq"]) == []


def test_a_position_made_by_hand_is_a_trade_with_the_callers_id(desk: Desk) -> None:
    desk.exchange.set_position(symbol="BNBUSDT", amount="-3", client_order_id="entry-mine-1")
    order = desk.reader.order(symbol="BNBUSDT", client_order_id="entry-mine-1")
    assert order is not None
    assert desk.amount("BNBUSDT") == -3
    (trade,) = desk.reader.trades_of_order(symbol="BNBUSDT", order_id=order.order_id)
    assert trade.side is Side.SELL


# --- the process


def test_it_remembers_everything_after_kill_9_at_work(tmp_path: Path) -> None:
    with own_exchange(tmp_path / "paper.sqlite3") as desk:
        desk.hold("BTCUSDT", "1")
        exits = [desk.send("BTCUSDT", Side.SELL, "0.01") for _ in range(20)]
        assert all(isinstance(one, Answered) for one in exits)
        port, log = desk.exchange.port, desk.exchange.log()
        desk.exchange.kill()
        desk.exchange.start()
        assert desk.exchange.port == port
        assert desk.exchange.log() == log
        assert desk.amount("BTCUSDT") == Decimal("0.80")
        an_hour_ago_ms = time.time_ns() // 1_000_000 - 3_600_000
        assert len(desk.reader.trades_since(symbol="BTCUSDT", since_ms=an_hour_ago_ms)) == 21
        first, last = exits[0], desk.send("BTCUSDT", Side.SELL, "0.01")
        assert isinstance(first, Answered)
        assert isinstance(last, Answered)
        assert desk.reader.order_by_id(symbol="BTCUSDT", order_id=first.order.order_id) == first.order
        assert last.order.order_id == first.order.order_id + 20


def test_seed_positions_are_real_trades_and_made_once(tmp_path: Path) -> None:
    with own_exchange(tmp_path / "paper.sqlite3", seed_positions=True) as desk:
        held = desk.reader.positions().positions
        assert len(held) == 5
        assert {position.amount > 0 for position in held.values()} == {True, False}
        assert len(desk.exchange.accepted(prefix="entry-")) == 5
        desk.hold("BTCUSDT", "0")
        desk.exchange.stop()
        desk.exchange.start()
        assert desk.amount("BTCUSDT") == 0


def test_a_second_exchange_on_the_same_file_or_port_fails_with_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "paper.sqlite3"
    with own_exchange(path) as desk:
        with pytest.raises(PaperExchangeFailed, match=r"\Apaper exchange: cannot use .*locked\Z"):
            PaperExchangeProcess(data_path=path).start()
        with pytest.raises(PaperExchangeFailed, match=r"\Apaper exchange: cannot listen .*in use.*\Z"):
            PaperExchangeProcess(data_path=tmp_path / "other", port=desk.exchange.port).start()


def test_it_listens_on_loopback_only_and_needs_its_keys(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "quantum.exchange.paper",
        "--data",
        str(tmp_path / "x"),
        "--host",
        "192.0.2.1",
    ]
    names = ("BINANCE_READ_KEY", "BINANCE_READ_SECRET", "BINANCE_TRADE_KEY", "BINANCE_TRADE_SECRET")
    without = {name: value for name, value in os.environ.items() if name not in names}
    for environment, told in ((without, "not set: BINANCE_READ_KEY"),
                              (without | dict.fromkeys(names, "k"), "loopback only")):  # fmt: skip
        ended = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=20, check=False
        )
        assert ended.returncode == 1
        assert told in ended.stderr
        assert len(ended.stderr.splitlines()) == 1


PARENT = """
import sys, time
from pathlib import Path
from quantum.exchange.paper.process import PaperExchangeProcess
exchange = PaperExchangeProcess(data_path=Path(sys.argv[1]))
exchange.start()
print(exchange.pid, flush=True)
time.sleep(60)
"""


def test_it_dies_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path / "paper.sqlite3")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while alive := Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)  # a red test must not leave it behind
            break
        time.sleep(0.02)
    assert not alive


def test_sigterm_ends_it_cleanly_within_a_second(tmp_path: Path) -> None:
    path = tmp_path / "paper.sqlite3"
    with own_exchange(path) as desk:
        desk.reader.positions()  # a kept-alive line does not hold it up
        started = time.monotonic()
        desk.exchange.stop()
        assert time.monotonic() - started < 1
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_an_idle_exchange_uses_no_processor(desk: Desk) -> None:
    def ticks() -> int:
        fields = Path(f"/proc/{desk.exchange.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(1)
    assert ticks() - before <= 1


def test_keys_do_not_show() -> None:
    keys = PaperKeys.generate()
    assert keys.read_secret not in repr(keys)
    assert keys.trade_key not in repr(keys)


@pytest.mark.parametrize(
    ("query", "body", "signed"),
    [("a=1&signature=ff", "", "a=1"), ("", "a=1&signature=ff", "a=1"), ("signature=ff", "", ""),
     ("a=1", "b=2&signature=ff", "a=1b=2"), ("a=signature%3D1&signature=ff", "", "a=signature%3D1")],
)  # fmt: skip
def test_the_signed_text_is_query_and_body_as_sent_without_the_signature(
    query: str, body: str, signed: str
) -> None:
    assert RawRequest("k", query, body).unsigned_text() == signed
