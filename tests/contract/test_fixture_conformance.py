"""Recorded messages of the real exchange: what we read of them, and what the paper exchange answers.

Needs the folder of samples named by QUANTUM_FIXTURES (one JSON file per sample).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from quantum.exchange import answers
from quantum.exchange.outcomes import Reply, classify
from quantum.exchange.paper import rows
from quantum.exchange.paper.auth import RawRequest
from quantum.exchange.paper.errors import ERRORS
from quantum.exchange.paper.market import LISTINGS, Market
from quantum.exchange.paper.orders import Ticket
from quantum.exchange.paper.store import Received, Store
from quantum.exchange.paper.venue import Venue
from quantum.exchange.paper.weights import OverLimit
from quantum.exchange.types import FateUnknown, Refused
from tests.environment import TOLD
from tests.paper.shapes import differences

FOLDER = TOLD["QUANTUM_FIXTURES"]
pytestmark = pytest.mark.skipif(
    not FOLDER, reason="QUANTUM_FIXTURES is not set: no folder of recorded exchange messages to compare with"
)
ERRORS_SAMPLED = sorted(path.stem for path in Path(FOLDER).glob("err_*.json")) if FOLDER else []
TRAILING_ONLY = {"activatePrice", "priceRate"}
# The clock sentence names its own milliseconds; the notional and weight ones their own number.
TEXT_VARIES = {-1021, -4164, -1106, -1003}
BAN = 418


def sample(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(FOLDER) / f"{name}.json").read_text())
    return found


@pytest.fixture
def venue(tmp_path: Path) -> Any:
    store = Store(path=tmp_path / "paper.sqlite3")
    yield Venue(store=store, market=Market(listings=LISTINGS, seed=1, now_ms=0))
    store.close()


def entry(venue: Venue) -> Any:
    ticket = Ticket("BTCUSDT", "BUY", "MARKET", Decimal(1), Decimal(0), False, "entry-1")
    received = Received(received_us=1, source="test", client_id="entry-1", symbol="BTCUSDT", params="")
    return venue.place(ticket=ticket, received=received, now_ms=5)


@pytest.mark.parametrize("name", ERRORS_SAMPLED)
def test_a_recorded_error_means_what_was_recorded_with_it(name: str) -> None:
    recorded = sample(name)
    retry_after = recorded.get("headers", {}).get("Retry-After")
    reply = Reply(recorded["http_status"], json.dumps(recorded["payload"]).encode(), retry_after)
    outcome = classify(reply=reply, now_ms=1_615_183_000_000)
    unknown = recorded["outcome"] in ("unknown", "query_result")
    assert isinstance(outcome, FateUnknown if unknown else Refused)


@pytest.mark.parametrize("name", ERRORS_SAMPLED)
def test_the_paper_exchange_words_an_error_as_it_was_recorded(name: str) -> None:
    recorded = sample(name)
    code = recorded["payload"]["code"]
    if code not in ERRORS:
        pytest.skip(f"the paper exchange never answers {code} by itself")
    status, text = ERRORS[code]
    if recorded["http_status"] == BAN:
        banned = OverLimit.banned(now_ms=0, until_ms=1_615_183_669_840)
        status, ours = banned.status, re.sub(r"IP\(.*?\)", "IP(***.***.***.***)", banned.msg)
        assert ours == recorded["payload"]["msg"]
    assert status == recorded["http_status"]
    if code not in TEXT_VARIES:
        assert text == recorded["payload"]["msg"]


def test_recorded_orders_trades_positions_and_symbols_are_read() -> None:
    for name in ("rest_get_order", "rest_cancel_order"):
        payload = sample(name)["payload"]
        if "avgPrice" in payload:
            assert answers.order_state(payload).order_id == payload["orderId"]
    for row in sample("rest_open_orders")["payload"] + sample("rest_ntpy_account_orders")["payload"]:
        assert answers.order_state(row).client_order_id == "abc"
    assert answers.order_state(sample("rest_nt_order_response")["payload"]).symbol == "BTCUSDT"
    (trade,) = sample("rest_user_trades_docs")["payload"]
    assert str(answers.trade(trade).realized_pnl) == "-0.91539999"
    for name in ("rest_position_risk_v3_one_way_docs", "rest_position_risk_v2_flat"):
        (position,) = sample(name)["payload"]
        assert str(answers.position(position).amount) == position["positionAmt"]
    for symbol in sample("rest_exchange_info_recorded_subset")["payload"]["symbols"]:
        assert answers.symbol_rules(symbol).lot_step > 0


def test_the_paper_exchange_answers_with_every_field_of_the_recorded_ones(venue: Venue) -> None:
    order = entry(venue)
    (trade,) = venue.store.trades(where="1", values=(), newest=None, limit=1)
    market_order = sample("rest_market_ack_recorded")["payload"]
    assert set(market_order) <= set(rows.order_json(order))
    recorded = sample("rest_get_order")["payload"]
    assert set(recorded) - TRAILING_ONLY <= {*rows.order_json(order), "time"}
    pairs = (
        ("rest_user_trades_docs", rows.trade_json(trade)),
        ("rest_position_risk_v3_one_way_docs", rows.position_v3(venue, "BTCUSDT", 5)),
        ("rest_position_risk_v2_flat", rows.position_v2(venue, "BTCUSDT", 5)),
    )
    for name, ours in pairs:
        (theirs,) = sample(name)["payload"]
        assert set(theirs) <= set(ours), name
        assert {type(theirs[key]) for key in theirs} <= {type(ours[key]) for key in theirs} | {bool}, name
    assert set(sample("rest_premium_index")["payload"]) <= set(rows.premium(venue, "BTCUSDT", 5))


def test_an_acknowledged_market_order_looks_as_recorded(venue: Venue) -> None:
    recorded = sample("rest_market_ack_recorded")["payload"]
    ours = rows.order_json(entry(venue), as_ack=True)
    for field in ("status", "executedQty", "cumQty", "cumQuote", "price", "timeInForce", "positionSide"):
        assert ours[field] == recorded[field], field


def test_recorded_signatures_verify_over_the_raw_text() -> None:
    secret = b"2b5eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9"  # the documents' own example
    for vector in sample("req_signing_vectors")["payload"]:
        text, signature = vector["total_params"], vector["doc_signature"]
        raw = RawRequest("k", "", f"{text}&signature={signature}")
        assert hmac.new(secret, raw.unsigned_text().encode(), hashlib.sha256).hexdigest() == signature


SAMPLES_OF_OURS = json.loads((Path(__file__).parents[1] / "paper" / "samples.json").read_text())
RECORDED_EVENTS = {
    "ev_nt_order_update_trade": "event_order_trade",
    "ev_nt_order_update_trade_partial": "event_order_trade",
    "ev_nt_order_update_new": "event_order_new",
    "ev_ntpy_order_update_new_reduce_only_qty": "event_order_new",
    "ev_nt_order_update_calculated": "event_order_calculated",
    "ev_ntpy_order_update_liquidation": "event_order_calculated",
    "ev_order_trade_update_new_trailing": "event_order_new",
    "ev_nt_account_update": "event_account_update",
    "ev_account_update_order_hedge": "event_account_update",
    "ev_ntpy_trade_lite": "event_trade_lite",
    "ev_trade_lite": "event_trade_lite",
    "ev_account_config_update_leverage": "event_leverage",
    "ev_listen_key_expired_recorded": "event_listen_key_expired",
    "ev_algo_update": "event_algo_new",
    "rest_new_algo_order": "rest_algo_order",
    "rest_open_algo_orders": "rest_algo_order",
    "rest_listen_key_create": "rest_listen_key",
    "rest_account_v3": "rest_account",
    "rest_balance": "rest_balance",
    "rest_user_trades_docs": "rest_trade",
    "rest_position_risk_v3_one_way_docs": "rest_position_v3",
    "rest_position_risk_v2_flat": "rest_position_v2",
    "rest_premium_index": "rest_premium_index",
}
OF_OTHER_ORDERS = {"AP", "cr", "W"}
"""Of trailing orders, and of orders that rest: `cr` of an order, not of a position."""


@pytest.mark.parametrize(("recorded", "ours"), RECORDED_EVENTS.items())
def test_the_projects_own_samples_have_every_recorded_field(recorded: str, ours: str) -> None:
    """And tests/paper/test_samples.py holds the paper exchange to those."""
    payload = sample(recorded)["payload"]
    theirs = payload[0] if isinstance(payload, list) else payload.get("data", payload)
    besides = OF_OTHER_ORDERS if theirs.get("e") == "ORDER_TRADE_UPDATE" else set()
    assert differences(theirs=theirs, ours=SAMPLES_OF_OURS[ours], besides=besides) == []


def test_the_recorded_order_of_the_testnet_has_no_field_that_ours_lacks() -> None:
    theirs = sample("ev_order_new_recorded")["payload"]
    assert differences(theirs=theirs, ours=SAMPLES_OF_OURS["event_order_new"]["o"], besides={"c"}) == []
