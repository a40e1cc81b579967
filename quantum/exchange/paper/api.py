"""One function per endpoint: parameters in, the JSON of the exchange out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import Enum

from msgspec import Struct

from quantum.exchange.paper import rows
from quantum.exchange.paper.algo import algo_json
from quantum.exchange.paper.book import ZERO
from quantum.exchange.paper.call import Call, Params, symbols_of, whole
from quantum.exchange.paper.errors import ApiError
from quantum.exchange.paper.history import all_orders, income, klines, klines_weight, user_trades
from quantum.exchange.paper.orders import required, ticket
from quantum.exchange.paper.store import StoredOrder
from quantum.exchange.paper.weights import ORDERS_1M, ORDERS_10S, WEIGHT_1M

NOUGHT = "0.00000000"


class Needs(Enum):
    NOTHING = "nothing"
    KEY = "key"
    SIGNATURE = "signature"
    TRADE = "signature of the trade key"


class Endpoint(Struct, frozen=True):
    name: str
    weight: int
    needs: Needs
    answer: Callable[[Call], object]
    weight_of_all: int = 0
    """Where a request without a symbol weighs more."""
    weight_by: Callable[[Params], int] | None = None
    """Where the weight hangs on how many rows are asked for."""

    def weight_for(self, params: Params) -> int:
        if self.weight_by is not None:
            return self.weight_by(params)
        return self.weight_of_all if self.weight_of_all and "symbol" not in params else self.weight


def ping(_call: Call) -> object:
    return {}


def server_time(call: Call) -> object:
    return {"serverTime": call.now_ms}


def exchange_info(call: Call) -> object:
    limits = [
        ("REQUEST_WEIGHT", "MINUTE", 1, call.limits[WEIGHT_1M]),
        ("ORDERS", "MINUTE", 1, call.limits[ORDERS_1M]),
        ("ORDERS", "SECOND", 10, call.limits[ORDERS_10S]),
    ]
    names = ("rateLimitType", "interval", "intervalNum", "limit")
    return {
        "timezone": "UTC",
        "serverTime": call.now_ms,
        "futuresType": "U_MARGINED",
        "rateLimits": [dict(zip(names, limit, strict=True)) for limit in limits],
        "exchangeFilters": [],
        "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}],
        "symbols": [rows.symbol_info(listing) for listing in call.venue.market.listings.values()],
    }


def premium_index(call: Call) -> object:
    wanted = call.params.get("symbol")
    found = [rows.premium(call.venue, symbol, call.now_ms) for symbol in symbols_of(call, wanted)]
    return found[0] if wanted else found


def position_risk_v2(call: Call) -> object:
    return [
        rows.position_v2(call.venue, symbol, call.now_ms)
        for symbol in symbols_of(call, call.params.get("symbol"))
    ]


def position_risk_v3(call: Call) -> object:
    """Version 3 leaves flat symbols out, and tells neither leverage nor margin type."""
    venue, now_ms = call.venue, call.now_ms
    symbols = symbols_of(call, call.params.get("symbol"))
    for symbol in symbols:  # first: a price that moved may fill a resting order
        venue.mark(symbol=symbol, now_ms=now_ms)
    return [rows.position_v3(venue, symbol, now_ms) for symbol in symbols if venue.holding(symbol).amount]


def get_position_mode(call: Call) -> object:
    return {"dualSidePosition": call.venue.hedge_mode}


def set_position_mode(call: Call) -> object:
    text = required(call.params, "dualSidePosition")
    if text not in ("true", "false"):
        raise ApiError(-1102, "dualSidePosition")
    call.venue.set_hedge_mode(on=text == "true")
    return {"code": 200, "msg": "success"}


def set_leverage(call: Call) -> object:
    (symbol,) = symbols_of(call, required(call.params, "symbol"))
    leverage = whole(call, "leverage")
    call.venue.set_leverage(symbol=symbol, leverage=leverage, now_ms=call.now_ms)
    return {"symbol": symbol, "leverage": leverage, "maxNotionalValue": "1000000"}


def new_order(call: Call) -> object:
    """Answers NEW with zeros although it filled, unless RESULT is asked: as the exchange does."""
    venue = call.venue
    asked = ticket(params=call.params, listings=venue.market.listings, hedge_mode=venue.hedge_mode)
    order = venue.place(ticket=asked, received=call.received, now_ms=call.now_ms, way=call.way)
    return rows.order_json(order, as_ack=call.params.get("newOrderRespType", "ACK") != "RESULT")


def get_order(call: Call) -> object:
    order = _named_order(call, unknown=-2013)
    return {**rows.order_json(order), "time": order.time_ms}


def cancel_order(call: Call) -> object:
    order = _named_order(call, unknown=-2011)
    return rows.order_json(call.venue.cancel(order=order, now_ms=call.now_ms))


def open_orders(call: Call) -> object:
    wanted = call.params.get("symbol")
    for symbol in symbols_of(call, wanted):
        call.venue.mark(symbol=symbol, now_ms=call.now_ms)
    found = call.venue.store.open_orders(symbol=wanted)
    return [{**rows.order_json(order), "time": order.time_ms} for order in found]


def new_algo_order(call: Call) -> object:
    listings = call.venue.market.listings
    (symbol,) = symbols_of(call, required(call.params, "symbol"))
    price = call.venue.mark(symbol=symbol, now_ms=call.now_ms)
    order = call.venue.algo_orders.place(
        params=call.params, listings=listings, price=price, now_ms=call.now_ms
    )
    return algo_json(order)


def get_algo_order(call: Call) -> object:
    return algo_json(call.venue.algo_orders.get(params=call.params, unknown=-2013))


def cancel_algo_order(call: Call) -> object:
    order = call.venue.algo_orders.get(params=call.params, unknown=-2011)
    call.venue.algo_orders.cancel(order=order, now_ms=call.now_ms)
    ids = {"algoId": order.algo_id, "clientAlgoId": order.client_id}
    return {**ids, "code": "200", "msg": "success"}


def open_algo_orders(call: Call) -> object:
    wanted = call.params.get("symbol")
    for symbol in symbols_of(call, wanted):
        call.venue.mark(symbol=symbol, now_ms=call.now_ms)
    return [algo_json(order) for order in call.venue.algo_orders.open(symbol=wanted)]


def new_listen_key(call: Call) -> object:
    return {"listenKey": call.venue.listen_key.open(now_ms=call.now_ms)}


def keep_listen_key(call: Call) -> object:
    kept = call.venue.listen_key.keep(asked=call.params.get("listenKey", ""), now_ms=call.now_ms)
    return {"listenKey": kept}


def close_listen_key(call: Call) -> object:
    call.venue.listen_key.close()
    return {}


def balance(call: Call) -> object:
    wallet = rows.eight(call.venue.balance)
    row = {"accountAlias": "paper", "asset": "USDT", "balance": wallet, "crossWalletBalance": wallet}
    row |= {
        "crossUnPnl": rows.eight(_unrealized(call)),
        "availableBalance": wallet,
        "maxWithdrawAmount": wallet,
    }
    return [{**row, "marginAvailable": True, "updateTime": call.now_ms}]


def account(call: Call) -> object:
    """Margin is not modelled beyond what the positions tie up: the sums are those of the positions."""
    wallet, unrealized = rows.eight(call.venue.balance), rows.eight(_unrealized(call))
    margin = rows.eight(call.venue.balance + _unrealized(call))
    positions = [
        rows.position_v3(call.venue, symbol, call.now_ms)
        for symbol in call.venue.market.listings
        if call.venue.holding(symbol).amount
    ]
    tied = rows.eight(sum((Decimal(str(row["initialMargin"])) for row in positions), ZERO))
    margins = {"InitialMargin": tied, "MaintMargin": NOUGHT, "PositionInitialMargin": tied,
               "OpenOrderInitialMargin": NOUGHT}  # fmt: skip
    sums = {"WalletBalance": wallet, "UnrealizedProfit": unrealized, "MarginBalance": margin, **margins,
            "CrossWalletBalance": wallet, "CrossUnPnl": unrealized}  # fmt: skip
    free = {"availableBalance": wallet, "maxWithdrawAmount": wallet}
    usdt = {name[0].lower() + name[1:]: value for name, value in sums.items()}
    return {
        **{f"total{name}": value for name, value in sums.items()},
        **free,
        "assets": [{"asset": "USDT", **usdt, **free, "updateTime": call.now_ms}],
        "positions": [{**row, "unrealizedProfit": row["unRealizedProfit"]} for row in positions],
    }


def _named_order(call: Call, *, unknown: int) -> StoredOrder:
    (symbol,) = symbols_of(call, required(call.params, "symbol"))
    call.venue.mark(symbol=symbol, now_ms=call.now_ms)
    if "orderId" in call.params:
        order = call.venue.store.order(symbol=symbol, order_id=whole(call, "orderId"))
    else:
        client_id = required(call.params, "origClientOrderId")
        order = call.venue.store.order(symbol=symbol, client_id=client_id)
    if order is None:
        raise ApiError(unknown)
    return order


def _unrealized(call: Call) -> Decimal:
    venue = call.venue
    prices = {s: venue.mark(symbol=s, now_ms=call.now_ms) for s in venue.market.listings}
    return sum((venue.holding(s).unrealized(price=prices[s]) for s in prices), ZERO)


ENDPOINTS: Mapping[tuple[str, str], Endpoint] = {
    ("GET", "/fapi/v1/ping"): Endpoint("ping", 1, Needs.NOTHING, ping),
    ("GET", "/fapi/v1/time"): Endpoint("time", 1, Needs.NOTHING, server_time),
    ("GET", "/fapi/v1/exchangeInfo"): Endpoint("exchangeInfo", 1, Needs.NOTHING, exchange_info),
    ("GET", "/fapi/v1/premiumIndex"): Endpoint("premiumIndex", 1, Needs.NOTHING, premium_index, 10),
    ("GET", "/fapi/v2/positionRisk"): Endpoint("positionRisk", 5, Needs.SIGNATURE, position_risk_v2),
    ("GET", "/fapi/v3/positionRisk"): Endpoint("positionRisk", 5, Needs.SIGNATURE, position_risk_v3),
    ("GET", "/fapi/v1/positionSide/dual"): Endpoint("positionMode", 30, Needs.SIGNATURE, get_position_mode),
    ("POST", "/fapi/v1/positionSide/dual"): Endpoint("setPositionMode", 1, Needs.TRADE, set_position_mode),
    ("POST", "/fapi/v1/leverage"): Endpoint("leverage", 1, Needs.TRADE, set_leverage),
    ("POST", "/fapi/v1/order"): Endpoint("order", 0, Needs.TRADE, new_order),
    ("GET", "/fapi/v1/order"): Endpoint("getOrder", 1, Needs.SIGNATURE, get_order),
    ("DELETE", "/fapi/v1/order"): Endpoint("cancelOrder", 1, Needs.TRADE, cancel_order),
    ("GET", "/fapi/v1/openOrders"): Endpoint("openOrders", 1, Needs.SIGNATURE, open_orders, 40),
    ("POST", "/fapi/v1/algoOrder"): Endpoint("algoOrder", 0, Needs.TRADE, new_algo_order),
    ("GET", "/fapi/v1/algoOrder"): Endpoint("getAlgoOrder", 1, Needs.SIGNATURE, get_algo_order),
    ("DELETE", "/fapi/v1/algoOrder"): Endpoint("cancelAlgoOrder", 1, Needs.TRADE, cancel_algo_order),
    ("GET", "/fapi/v1/openAlgoOrders"): Endpoint("openAlgoOrders", 1, Needs.SIGNATURE, open_algo_orders, 40),
    ("GET", "/fapi/v1/allOrders"): Endpoint("allOrders", 5, Needs.SIGNATURE, all_orders),
    ("GET", "/fapi/v1/userTrades"): Endpoint("userTrades", 5, Needs.SIGNATURE, user_trades),
    ("GET", "/fapi/v1/income"): Endpoint("income", 30, Needs.SIGNATURE, income),
    ("GET", "/fapi/v1/klines"): Endpoint("klines", 0, Needs.NOTHING, klines, weight_by=klines_weight),
    ("POST", "/fapi/v1/listenKey"): Endpoint("listenKey", 1, Needs.KEY, new_listen_key),
    ("PUT", "/fapi/v1/listenKey"): Endpoint("keepListenKey", 1, Needs.KEY, keep_listen_key),
    ("DELETE", "/fapi/v1/listenKey"): Endpoint("closeListenKey", 1, Needs.KEY, close_listen_key),
    ("GET", "/fapi/v2/balance"): Endpoint("balance", 5, Needs.SIGNATURE, balance),
    ("GET", "/fapi/v3/balance"): Endpoint("balance", 5, Needs.SIGNATURE, balance),
    ("GET", "/fapi/v2/account"): Endpoint("account", 5, Needs.SIGNATURE, account),
    ("GET", "/fapi/v3/account"): Endpoint("account", 5, Needs.SIGNATURE, account),
}
