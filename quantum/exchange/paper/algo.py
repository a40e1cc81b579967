"""Conditional orders (stop, take profit, trailing): taken, kept, listed, cancelled, and told when their price came.

They live beside the plain orders, with ids of their own: algoId and clientAlgoId. What a triggered
one becomes is a plain order, placed by the venue. A trailing one rests and is never triggered here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict, replace

from quantum.exchange.paper.errors import ApiError
from quantum.exchange.paper.market import Listing
from quantum.exchange.paper.orders import ALGO_TYPES, CLIENT_ID, FLAGS, PLAIN_DECIMAL, required
from quantum.exchange.paper.store import Store, StoredOrder

FIRST_ALGO_ID = 3_000_000_001
OPEN = "NEW"


class AlgoOrder(Struct, frozen=True):
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
    order_id: str = ""
    """Of the order it became."""
    average_price: str = "0.00000"
    executed: str = "0.00000"
    trigger_ms: int = 0
    reject: str = ""

    @property
    def becomes(self) -> str:
        return "LIMIT" if self.type in ("STOP", "TAKE_PROFIT") else "MARKET"

    def reached(self, price: Decimal) -> bool:
        trigger = Decimal(self.trigger_price)
        if not trigger:
            return False  # trailing
        upwards = (self.side == "BUY") == (self.type in ("STOP", "STOP_MARKET"))
        return price >= trigger if upwards else price <= trigger


class AlgoStep(Struct, frozen=True):
    order: AlgoOrder
    at_ms: int


class AlgoOrders:
    def __init__(self, *, store: Store, tell: Callable[[AlgoStep], None]):
        self._store = store
        self._tell = tell
        kept = [AlgoOrder(**json.loads(text)) for text in store.algo_orders()]
        self._orders = {order.algo_id: order for order in kept}
        self._by_client_id = {order.client_id: order.algo_id for order in kept}
        self._waiting = {order.algo_id: order for order in kept if order.status == OPEN}
        self._working = {int(order.order_id): order for order in kept if order.status == "TRIGGERED"}

    def place(
        self, *, params: Mapping[str, str], listings: Mapping[str, Listing], price: Decimal, now_ms: int
    ) -> AlgoOrder:
        """price: the mark price now, which must not have come to the trigger yet."""
        algo_id = max(self._orders, default=FIRST_ALGO_ID - 1) + 1
        order = _order(params, listings, algo_id, now_ms)
        if order.client_id in self._by_client_id:
            raise ApiError(-4116)
        if order.reached(price):
            raise ApiError(-2021)
        return self._put(order, now_ms)

    def take_due(self, *, symbol: str, price: Decimal, now_ms: int) -> list[AlgoOrder]:
        """Those whose price has come, each only once: they are TRIGGERING from here on.

        That is told but not yet kept: killed before the order it becomes, it is due again at the next start.
        """
        due = [o for o in self._waiting.values() if o.symbol == symbol and o.reached(price)]
        for order in due:
            del self._waiting[order.algo_id]
        return [self._tell_as(o, "TRIGGERING", now_ms, trigger_ms=now_ms) for o in due]

    def became(self, order: AlgoOrder, made: StoredOrder, *, now_ms: int) -> AlgoOrder:
        order = self._tell_as(order, "TRIGGERED", now_ms, order_id=str(made.order_id))
        self._working[made.order_id] = order
        return order

    def keep(self, made: StoredOrder, *, now_ms: int) -> None:
        """Inside each commit of a plain order: what it came from is kept with it. Killed between the two, it would be
        due again, and be refused for the client id that its own order has used."""
        order = self._working.get(made.order_id)
        if order is not None:
            self._keep(order if made.open else _finished(order, made, now_ms))

    def settle(self, made: StoredOrder, *, now_ms: int) -> None:
        """After that commit: the last word of a conditional order is its order's end."""
        if made.open or made.order_id not in self._working:
            return
        done = _finished(self._working.pop(made.order_id), made, now_ms)
        self._orders[done.algo_id] = done
        self._tell(AlgoStep(done, now_ms))

    def rejected(self, order: AlgoOrder, *, reason: str, now_ms: int) -> None:
        self._put(replace(order, status="REJECTED", update_ms=now_ms, reject=reason), now_ms)

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
        return [o for o in self._waiting.values() if symbol in (None, o.symbol)]

    def cancel(self, *, order: AlgoOrder, now_ms: int) -> AlgoOrder:
        if order.status != OPEN:
            raise ApiError(-2011)
        return self._put(replace(order, status="CANCELED", update_ms=now_ms), now_ms)

    def _tell_as(self, order: AlgoOrder, status: str, now_ms: int, **more: Any) -> AlgoOrder:
        order = self._orders[order.algo_id] = replace(order, status=status, update_ms=now_ms, **more)
        self._tell(AlgoStep(order, now_ms))
        return order

    def _keep(self, order: AlgoOrder) -> None:
        self._store.put_algo_order(algo_id=order.algo_id, text=json.dumps(asdict(order)))

    def _put(self, order: AlgoOrder, now_ms: int) -> AlgoOrder:
        self._keep(order)
        self._orders[order.algo_id] = order
        self._by_client_id[order.client_id] = order.algo_id
        if order.status == OPEN:
            self._waiting[order.algo_id] = order
        else:
            self._waiting.pop(order.algo_id, None)
        self._tell(AlgoStep(order, now_ms))
        return order


def _finished(order: AlgoOrder, made: StoredOrder, now_ms: int) -> AlgoOrder:
    average = format(made.quote / made.executed, ".5f") if made.executed else "0.00000"
    executed = format(made.executed, "f")
    return replace(order, status="FINISHED", average_price=average, executed=executed, update_ms=now_ms)


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
        "actualOrderId": order.order_id,
        "actualPrice": order.average_price,
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
        "triggerTime": order.trigger_ms,
        "goodTillDate": 0,
    }


def algo_event(step: AlgoStep) -> dict[str, object]:
    order = step.order
    row = {
        "caid": order.client_id, "aid": order.algo_id, "at": "CONDITIONAL", "o": order.type,
        "s": order.symbol, "S": order.side, "ps": "BOTH", "f": order.time_in_force, "q": order.quantity,
        "X": order.status, "ai": order.order_id, "ap": order.average_price, "aq": order.executed,
        "act": order.becomes if order.order_id else "0",
        "tp": order.trigger_price, "p": order.price, "V": "EXPIRE_MAKER", "wt": order.working_type,
        "pm": "NONE", "cp": order.close_position, "pP": False, "R": order.reduce_only,
        "tt": order.trigger_ms, "gtd": 0, "rm": order.reject,
    }  # fmt: skip
    return {"e": "ALGO_UPDATE", "T": step.at_ms, "E": step.at_ms, "o": row}
