"""Conditional orders (stop, take profit, trailing): taken, kept, listed and cancelled, never triggered.

They live beside the plain orders, with ids of their own: algoId and clientAlgoId.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from decimal import Decimal

from quantum.exchange.paper.errors import ApiError
from quantum.exchange.paper.market import Listing
from quantum.exchange.paper.orders import ALGO_TYPES, CLIENT_ID, FLAGS, PLAIN_DECIMAL, required
from quantum.exchange.paper.store import Store

FIRST_ALGO_ID = 3_000_000_001
OPEN = "NEW"


@dataclass(frozen=True, slots=True)
class AlgoOrder:
    algo_id: int
    client_id: str
    symbol: str
    side: str
    type: str
    time_in_force: str
    quantity: str
    trigger_price: str
    price: str
    reduce_only: bool
    close_position: bool
    working_type: str
    status: str
    create_ms: int
    update_ms: int


@dataclass(frozen=True, slots=True)
class AlgoStep:
    order: AlgoOrder
    at_ms: int


class AlgoOrders:
    def __init__(self, *, store: Store, tell: Callable[[AlgoStep], None]):
        self._store = store
        self._tell = tell
        kept = [AlgoOrder(**json.loads(text)) for text in store.algo_orders()]
        self._orders = {order.algo_id: order for order in kept}
        self._by_client_id = {order.client_id: order.algo_id for order in kept}

    def place(self, *, params: Mapping[str, str], listings: Mapping[str, Listing], now_ms: int) -> AlgoOrder:
        algo_id = max(self._orders, default=FIRST_ALGO_ID - 1) + 1
        order = _order(params, listings, algo_id, now_ms)
        if order.client_id in self._by_client_id:
            raise ApiError(-4116)
        return self._put(order, now_ms)

    def get(self, *, params: Mapping[str, str], unknown: int) -> AlgoOrder:
        if "algoId" in params:
            text = params["algoId"]
            algo_id = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
        else:
            algo_id = self._by_client_id.get(required(params, "clientAlgoId"), 0)
        if algo_id not in self._orders:
            raise ApiError(unknown)
        return self._orders[algo_id]

    def open(self, *, symbol: str | None) -> list[AlgoOrder]:
        return [o for o in self._orders.values() if o.status == OPEN and symbol in (None, o.symbol)]

    def cancel(self, *, order: AlgoOrder, now_ms: int) -> AlgoOrder:
        if order.status != OPEN:
            raise ApiError(-2011)
        return self._put(replace(order, status="CANCELED", update_ms=now_ms), now_ms)

    def _put(self, order: AlgoOrder, now_ms: int) -> AlgoOrder:
        self._store.put_algo_order(algo_id=order.algo_id, text=json.dumps(asdict(order)))
        self._orders[order.algo_id] = order
        self._by_client_id[order.client_id] = order.algo_id
        self._tell(AlgoStep(order, now_ms))
        return order


def _order(
    params: Mapping[str, str], listings: Mapping[str, Listing], algo_id: int, now_ms: int
) -> AlgoOrder:
    if required(params, "algoType") != "CONDITIONAL":
        raise ApiError(-1102, "algoType")
    symbol, kind, side = (required(params, name) for name in ("symbol", "type", "side"))
    if symbol not in listings:
        raise ApiError(-1121)
    if kind not in ALGO_TYPES:
        raise ApiError(-1116)
    if side not in ("BUY", "SELL"):
        raise ApiError(-1117)
    if params.get("positionSide", "BOTH") != "BOTH":
        raise ApiError(-4061)
    closes = _flag(params, "closePosition")
    client_id = params.get("clientAlgoId") or f"paper-algo-{algo_id}"
    if not CLIENT_ID.fullmatch(client_id):
        raise ApiError(-4015)
    return AlgoOrder(
        algo_id=algo_id,
        client_id=client_id,
        symbol=symbol,
        side=side,
        type=kind,
        time_in_force=params.get("timeInForce", "GTC"),
        quantity="0" if closes else _quantity(params, listings[symbol]),
        trigger_price="0" if kind == "TRAILING_STOP_MARKET" else _number(params, "triggerPrice"),
        price=_number(params, "price") if kind in ("STOP", "TAKE_PROFIT") else "0",
        reduce_only=_flag(params, "reduceOnly"),
        close_position=closes,
        working_type=params.get("workingType", "CONTRACT_PRICE"),
        status=OPEN,
        create_ms=now_ms,
        update_ms=now_ms,
    )


def _quantity(params: Mapping[str, str], listing: Listing) -> str:
    text = _number(params, "quantity")
    if Decimal(text) % listing.step:
        raise ApiError(-1111)
    return text


def _number(params: Mapping[str, str], name: str) -> str:
    text = required(params, name)
    if not PLAIN_DECIMAL.fullmatch(text):
        raise ApiError(-1100, name)
    if Decimal(text) <= 0:
        raise ApiError(-4003)
    return text


def _flag(params: Mapping[str, str], name: str) -> bool:
    text = params.get(name, "false")
    if text not in FLAGS:
        raise ApiError(-1100, name)
    return FLAGS[text]


def algo_json(order: AlgoOrder) -> dict[str, object]:
    return {
        "algoId": order.algo_id,
        "clientAlgoId": order.client_id,
        "algoType": "CONDITIONAL",
        "orderType": order.type,
        "symbol": order.symbol,
        "side": order.side,
        "positionSide": "BOTH",
        "timeInForce": order.time_in_force,
        "quantity": order.quantity,
        "algoStatus": order.status,
        "actualOrderId": "",
        "actualPrice": "0.00000",
        "triggerPrice": order.trigger_price,
        "price": order.price,
        "icebergQuantity": None,
        "tpTriggerPrice": "0.000",
        "tpPrice": "0.000",
        "slTriggerPrice": "0.000",
        "slPrice": "0.000",
        "tpOrderType": "",
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "workingType": order.working_type,
        "priceMatch": "NONE",
        "closePosition": order.close_position,
        "priceProtect": False,
        "reduceOnly": order.reduce_only,
        "activatePrice": "",
        "callbackRate": "",
        "createTime": order.create_ms,
        "updateTime": order.update_ms,
        "triggerTime": 0,
        "goodTillDate": 0,
    }


def algo_event(step: AlgoStep) -> dict[str, object]:
    order = step.order
    row = {
        "caid": order.client_id, "aid": order.algo_id, "at": "CONDITIONAL", "o": order.type,
        "s": order.symbol, "S": order.side, "ps": "BOTH", "f": order.time_in_force, "q": order.quantity,
        "X": order.status, "ai": "", "ap": "0.00000", "aq": "0.00000", "act": "0",
        "tp": order.trigger_price, "p": order.price, "V": "EXPIRE_MAKER", "wt": order.working_type,
        "pm": "NONE", "cp": order.close_position, "pP": False, "R": order.reduce_only, "tt": 0, "gtd": 0,
        "rm": "",
    }  # fmt: skip
    return {"e": "ALGO_UPDATE", "T": step.at_ms, "E": step.at_ms, "o": row}
