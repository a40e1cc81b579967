"""The user stream through the whole house: what it makes quicker, and that nothing rests on it."""

from __future__ import annotations

import time
from decimal import Decimal

from django.conf import settings

from positions.feed.feed import READ_GAP_S
from positions.models import Balance, Incident
from quantum import clock
from quantum.exchange import connect
from quantum.exchange.binance_client import FuturesClient
from quantum.plan import Action
from tests.house import House, wait_for


def has(amount: str, symbol: str = "BTCUSDT") -> bool:
    return bool(Balance.objects.filter(symbol=symbol, amount=Decimal(amount)).exists())


def deny_reads(house: House) -> None:
    body = {"code": -1000, "msg": "x"}
    broken = {"do": "reply", "status": 500, "body": body, "times": 1000}
    house.paper.push_scenario(
        *({"next": what} | broken for what in ("positionRisk", "userTrades", "getOrder"))
    )


def test_an_entry_is_known_while_nothing_can_be_read_and_its_exit_passes(house: House) -> None:
    house.start()
    wait_for(lambda: house.exit("SOLUSDT").state == "filled", what="the stream to live")
    deny_reads(house)
    house.paper.set_position(symbol="ETHUSDT", amount="-9.000", client_order_id=House.entry_id())
    wait_for(lambda: has("-9", "ETHUSDT"), what="the entry to be booked", within_s=2)
    key = settings.KEYS.snapshot("ETHUSDT")
    wait_for(lambda: house.redis.hget(key, "position_amt") == b"-9", what="the copy in Redis", within_s=2)
    assert house.redis.hget(key, "source") == b"stream"
    plan = house.publish(house.make("ETHUSDT", Action.PARTIAL_25))
    wait_for(lambda: house.orders(plan), what="the order")
    house.paper.clear_scenario()
    assert house.ended(plan, within_s=20).state == "filled"


def test_a_stream_that_freezes_is_found_out_and_made_anew(house: House) -> None:
    """Its line stands and answers pings. What it lost is read; what comes after is told again."""
    house.start("p33")
    # What the first read after its start shows the stream need not have told: that read is to be over.
    time.sleep(READ_GAP_S + 1.0)
    house.paper.pull_stream("freeze")
    house.paper.set_position(symbol="BTCUSDT", amount="2.000", client_order_id=House.entry_id())
    wait_for(lambda: has("2"), what="the entry to be found by REST")
    wait_for(lambda: house.paper.stream()["lines"] == 0, what="the line to be given up", within_s=15)
    house.paper.pull_stream("clear")
    wait_for(lambda: house.paper.stream()["lines"] == 1, what="a new line", within_s=15)
    house.paper.set_position(symbol="BTCUSDT", amount="3.000", client_order_id=House.entry_id())
    wait_for(lambda: has("3"), what="the next entry")
    assert not Incident.objects.exists()


def test_without_the_stream_exits_pass_by_what_is_read(house: House) -> None:
    house.paper.pull_stream("refuse")
    house.start()
    house.paper.set_position(symbol="BTCUSDT", amount="2.000", client_order_id=House.entry_id())
    wait_for(lambda: has("2"), what="the entry to be found by REST")
    assert house.exit().state == "filled"
    assert house.exit("SOLUSDT").state == "filled"
    house.paper.pull_stream("clear")
    assert not Incident.objects.exists()


def test_a_resting_order_of_somebody_else_keeps_its_part(house: House) -> None:
    """A take-profit for 0.7 of 1 BTC, placed while we listen: an exit of all may close 0.3."""
    house.start()
    wait_for(lambda: house.paper.stream()["lines"], what="the stream to live")
    key, secret = connect.credentials("TRADE")
    client = FuturesClient(api_key=key, api_secret=secret, base_url=connect.base_url(), timeout_s=4)
    order = {"symbol": "BTCUSDT", "newClientOrderId": f"tp-{House.next_number()}"}
    answer = client.futures_create_order(
        **order,
        side="SELL",
        type="LIMIT",
        timeInForce="GTC",
        quantity="0.7",
        price="900000",
        reduceOnly="true",
    )
    assert answer.json()["status"] == "NEW"
    try:
        clock.sleep_s(0.2)
        row = house.exit("BTCUSDT", Action.FULL_CLOSE)
        assert row.state == "filled", (row.error, row.gate_reason)
        assert has("0.7")
    finally:
        client.futures_cancel_order(symbol="BTCUSDT", origClientOrderId=order["newClientOrderId"])
