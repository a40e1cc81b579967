"""Every recorded message of the real exchange becomes a typed value, or stands on a list with its reason.

Needs the folder of samples named by QUANTUM_FIXTURES (one JSON file per sample). What the paper exchange
answers is compared with the same folder in tests/contract/test_fixture_conformance.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from quantum.exchange import answers, events
from quantum.exchange.outcomes import Reply, classify
from quantum.exchange.pacing import BackOff
from quantum.exchange.types import FateUnknown, Refused
from tests.environment import TOLD

FOLDER = TOLD["QUANTUM_FIXTURES"]
pytestmark = pytest.mark.skipif(
    not FOLDER, reason="QUANTUM_FIXTURES is not set: no folder of recorded exchange messages to read"
)
NAMES = sorted(path.stem for path in Path(FOLDER).glob("*.json")) if FOLDER else []
EVENTS = [name for name in NAMES if name.startswith("ev_")]
ERRORS = [name for name in NAMES if name.startswith("err_")]
UNKNOWN_OUTCOMES = ("unknown", "query_result")

NOT_ASKED = "this program never asks for it"
NO_MESSAGE = "not something the exchange says: it is what a client sends"
REFUSED_FOR_A_REASON = {
    "ev_ws_path_observed": NO_MESSAGE,
    "req_order_recorded": NO_MESSAGE,
    "req_pb_float_qty_observed": NO_MESSAGE,
    "req_pb_market_reduce_only_observed": NO_MESSAGE,
    "req_pb_position_risk_observed": NO_MESSAGE,
    "req_pb_stop_market_observed": NO_MESSAGE,
    "req_signing_vectors": "checked in the conformance test of the paper exchange, which verifies signatures",
    "rest_account_v2": NOT_ASKED + ": positions and balances have calls of their own",
    "rest_account_v3": NOT_ASKED + ": positions and balances have calls of their own",
    "rest_nt_account_info_v2": NOT_ASKED + ": positions and balances have calls of their own",
    "rest_adl_quantile": NOT_ASKED,
    "rest_api_trading_status": NOT_ASKED,
    "rest_cancel_all": NOT_ASKED + ": it never cancels everything",
    "rest_countdown_cancel_all": NOT_ASKED + ": it never cancels everything",
    "rest_commission_rate": NOT_ASKED + ": commissions come with each trade",
    "rest_ntpy_wallet_commission_rate_btcusdt": NOT_ASKED + ": commissions come with each trade",
    "rest_symbol_config": NOT_ASKED + ": leverage decides nothing about an exit",
    "rest_ntpy_account_symbol_config": NOT_ASKED + ": leverage decides nothing about an exit",
    "rest_position_mode_set": NOT_ASKED + ": it refuses hedge mode and never changes it",
    "rest_order_rate_limit": NOT_ASKED + ": limits are read from exchangeInfo",
    "rest_cancel_order": "lacks avgPrice, so it is no order state: after a cancel the order itself is asked for",
}


def _rows(read: Callable[[dict[str, object]], object]) -> Callable[[object], list[object]]:
    return lambda payload: [read(row) for row in answers.as_rows(payload)]


def _one(read: Callable[[dict[str, object]], object]) -> Callable[[object], list[object]]:
    return lambda payload: [read(answers.as_object(payload))]


def _orders_or_errors(payload: object) -> list[object]:
    return [answers.error_of(row) or answers.order_state(row) for row in answers.as_rows(payload)]


def _symbols_and_limit(payload: object) -> list[object]:
    info = answers.as_object(payload)
    limit = answers.weight_limit_1m(info)
    return [limit, *(answers.symbol_rules(row) for row in answers.as_rows(info.get("symbols")))]


def _nothing(payload: object) -> list[object]:
    assert answers.as_object(payload) == {}
    return [True]


READ_BY = {
    "rest_balance": _rows(answers.asset_balance),
    "rest_nt_balance": _rows(answers.asset_balance),
    "rest_batch_orders_mixed_error": _orders_or_errors,
    "rest_exchange_info_recorded_subset": _symbols_and_limit,
    "rest_force_orders": _rows(answers.order_state),
    "rest_get_order": _one(answers.order_state),
    "rest_income": _rows(answers.income),
    "rest_listen_key_create": _one(answers.listen_key),
    "rest_listen_key_keepalive": _nothing,
    "rest_market_ack_recorded": _one(answers.order_state),
    "rest_new_algo_order": _one(answers.algo_order),
    "rest_new_order_ack_docs": _one(answers.order_state),
    "rest_nt_open_algo_orders": _rows(answers.algo_order),
    "rest_nt_order_response": _one(answers.order_state),
    "rest_nt_position_risk": _rows(answers.position),
    "rest_ntpy_account_orders": _rows(answers.order_state),
    "rest_ntpy_account_position_side_dual": _one(lambda row: answers.flag(row, "dualSidePosition")),
    "rest_ntpy_account_positions_one_way": _rows(answers.position),
    "rest_open_algo_orders": _rows(answers.algo_order),
    "rest_open_orders": _rows(answers.order_state),
    "rest_position_risk_v2_flat": _rows(answers.position),
    "rest_position_risk_v3_one_way_docs": _rows(answers.position),
    "rest_premium_index": _one(answers.mark_price),
    "rest_server_time": _one(lambda row: answers.whole(row, "serverTime")),
    "rest_user_trades_docs": _rows(answers.trade),
}


def recorded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(FOLDER) / f"{name}.json").read_text())
    return found


def as_message(name: str) -> bytes:
    payload = recorded(name)["payload"]
    if name == "ev_order_new_recorded":  # the thread shows the inner object only
        payload = {"e": "ORDER_TRADE_UPDATE", "E": payload["T"], "T": payload["T"], "o": payload}
    return json.dumps(payload).encode()


def test_every_recorded_sample_is_read_here_or_has_a_reason_why_not() -> None:
    headers = {"headers_order_testnet_recorded"}
    read = {*EVENTS, *ERRORS, *READ_BY, *headers} - set(REFUSED_FOR_A_REASON)
    assert set(NAMES) == read | set(REFUSED_FOR_A_REASON)
    assert not read & set(REFUSED_FOR_A_REASON)


@pytest.mark.parametrize("name", [name for name in EVENTS if name not in REFUSED_FOR_A_REASON])
def test_a_recorded_event_becomes_a_typed_value(name: str) -> None:
    found = events.read_event(as_message(name))
    assert isinstance(found, Struct)
    assert not isinstance(found, events.UnknownEvent)


@pytest.mark.parametrize("name", READ_BY)
def test_a_recorded_answer_becomes_typed_values(name: str) -> None:
    found = READ_BY[name](answers.parsed(json.dumps(recorded(name)["payload"]).encode()))
    assert found
    assert None not in found


@pytest.mark.parametrize("name", ERRORS)
def test_a_recorded_error_is_in_the_class_that_was_recorded_with_it(name: str) -> None:
    sample = recorded(name)
    body = json.dumps(sample["payload"]).encode()
    reply = Reply(sample["http_status"], body, sample.get("headers", {}).get("Retry-After"))
    outcome = classify(reply=reply, now_ms=1_615_183_000_000)
    assert isinstance(outcome, FateUnknown if sample["outcome"] in UNKNOWN_OUTCOMES else Refused)
    assert answers.error_of(sample["payload"]) is not None


@pytest.mark.parametrize("name", [name for name in REFUSED_FOR_A_REASON if name.startswith("rest_cancel_o")])
def test_a_refusal_on_the_list_is_a_refusal(name: str) -> None:
    with pytest.raises(answers.Malformed, match="avgPrice"):
        answers.order_state(recorded(name)["payload"])


def test_the_recorded_headers_of_the_testnet_tell_no_weight() -> None:
    headers = {
        key.lower(): value for key, value in recorded("headers_order_testnet_recorded")["payload"].items()
    }
    back_off = BackOff(used_weight_1m=11)
    back_off.note_weight(header=headers["x-mbx-used-weight-1m"], now_ms=1)
    assert back_off.used_weight_1m == 11


def test_the_numbers_arrive_as_they_were_recorded() -> None:
    liquidation = events.read_event(as_message("ev_ntpy_order_update_liquidation"))
    assert isinstance(liquidation, events.OrderUpdate)
    assert liquidation.realized_pnl == Decimal("-100.00")
    assert events.closed_by_exchange(liquidation.client_order_id) is events.ExchangeClose.LIQUIDATION
    delivery = events.read_event(as_message("ev_nt_order_update_delivery"))
    assert isinstance(delivery, events.OrderUpdate)
    assert (delivery.commission, delivery.is_execution, delivery.trade) == (None, True, None)
    hedged = events.read_event(as_message("ev_nt_account_update"))
    assert isinstance(hedged, events.AccountUpdate)
    assert [str(row.amount) for row in hedged.positions] == ["0", "20", "-10"]
    transfer, commission = READ_BY["rest_income"](recorded("rest_income")["payload"])
    assert (getattr(transfer, "symbol", None), getattr(commission, "symbol", None)) == ("", "BTCUSDT")
