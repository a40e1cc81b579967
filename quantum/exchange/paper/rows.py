"""The JSON shapes of the exchange: orders, trades, positions, prices and symbols."""

from __future__ import annotations

from decimal import Decimal

from quantum.exchange.paper.book import EIGHT_PLACES, ZERO
from quantum.exchange.paper.market import Listing
from quantum.exchange.paper.store import Booking, StoredOrder, StoredTrade
from quantum.exchange.paper.venue import Venue


def order_json(order: StoredOrder, *, as_ack: bool = False) -> dict[str, object]:
    hidden = as_ack and order.type == "MARKET"
    executed = ZERO if hidden else order.executed
    average = order.quote / order.executed if executed else ZERO
    return {
        "orderId": order.order_id,
        "symbol": order.symbol,
        "status": "NEW" if hidden else order.status,
        "clientOrderId": order.client_id,
        "price": plain(order.price),
        "avgPrice": format(average.quantize(EIGHT_PLACES), "f"),
        "origQty": plain(order.quantity),
        "executedQty": plain(executed),
        "cumQty": plain(executed),
        "cumQuote": plain(order.quote) if executed else "0",
        "timeInForce": order.time_in_force,
        "type": order.type,
        "reduceOnly": order.reduce_only,
        "closePosition": False,
        "side": order.side,
        "positionSide": "BOTH",
        "stopPrice": "0",
        "workingType": "CONTRACT_PRICE",
        "priceProtect": False,
        "origType": order.type,
        "priceMatch": "NONE",
        "selfTradePreventionMode": "NONE",
        "goodTillDate": 0,
        "updateTime": order.update_ms,
    }


def trade_json(trade: StoredTrade) -> dict[str, object]:
    return {
        "buyer": trade.side == "BUY",
        "commission": eight(trade.commission),
        "commissionAsset": "USDT",
        "id": trade.trade_id,
        "maker": False,
        "orderId": trade.order_id,
        "price": plain(trade.price),
        "qty": plain(trade.quantity),
        "quoteQty": plain(trade.quantity * trade.price),
        "realizedPnl": eight(trade.realized),
        "side": trade.side,
        "positionSide": "BOTH",
        "symbol": trade.symbol,
        "time": trade.time_ms,
    }


def income_json(booking: Booking) -> dict[str, object]:
    return {
        "symbol": booking.symbol,
        "incomeType": booking.kind,
        "income": eight(booking.amount),
        "asset": "USDT",
        "info": booking.kind,
        "time": booking.time_ms,
        "tranId": str(booking.tran_id),
        "tradeId": booking.trade_id or "",
    }


def position_v3(venue: Venue, symbol: str, now_ms: int) -> dict[str, object]:
    mark = venue.mark(symbol=symbol, now_ms=now_ms)
    holding = venue.holding(symbol)
    margin = eight(abs(holding.amount) * mark / venue.leverage[symbol])
    return {
        "symbol": symbol,
        "positionSide": "BOTH",
        "positionAmt": plain(holding.amount),
        "entryPrice": plain(holding.entry_price),
        "breakEvenPrice": plain(holding.entry_price),
        "markPrice": eight(mark),
        "unRealizedProfit": eight(holding.unrealized(price=mark)),
        "liquidationPrice": "0",
        "isolatedMargin": "0",
        "notional": eight(holding.amount * mark),
        "marginAsset": "USDT",
        "isolatedWallet": "0",
        "initialMargin": margin,
        "maintMargin": "0",
        "positionInitialMargin": margin,
        "openOrderInitialMargin": "0",
        "adl": 1,
        "bidNotional": "0",
        "askNotional": "0",
        "updateTime": venue.changed_ms.get(symbol, 0),
    }


def position_v2(venue: Venue, symbol: str, now_ms: int) -> dict[str, object]:
    kept = ("symbol", "positionSide", "positionAmt", "entryPrice", "breakEvenPrice", "markPrice",
            "unRealizedProfit", "liquidationPrice", "isolatedMargin", "notional", "isolatedWallet",
            "updateTime")  # fmt: skip
    row = position_v3(venue, symbol, now_ms)
    own = {"marginType": "cross", "isAutoAddMargin": "false", "maxNotionalValue": "1000000"}
    return {name: row[name] for name in kept} | own | {"leverage": str(venue.leverage[symbol])}


def premium(venue: Venue, symbol: str, now_ms: int) -> dict[str, object]:
    mark = eight(venue.mark(symbol=symbol, now_ms=now_ms))
    prices = {"markPrice": mark, "indexPrice": mark, "estimatedSettlePrice": mark}
    rates = {"lastFundingRate": "0.00010000", "interestRate": "0.00010000", "nextFundingTime": 0}
    return {"symbol": symbol, **prices, **rates, "time": now_ms}


def symbol_info(listing: Listing) -> dict[str, object]:
    base, lot = listing.symbol.removesuffix("USDT"), {"stepSize": plain(listing.step)}
    lot["minQty"] = plain(listing.quantity_min)
    market_lot = {**lot, "filterType": "MARKET_LOT_SIZE", "maxQty": plain(listing.market_quantity_max)}
    tick = plain(listing.tick)
    filters = [
        {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000", "tickSize": tick},
        {**lot, "filterType": "LOT_SIZE", "maxQty": plain(listing.quantity_max)},
        market_lot,
        {"filterType": "MAX_NUM_ORDERS", "limit": 200},
        {"filterType": "MIN_NOTIONAL", "notional": plain(listing.notional_min)},
    ]
    return {
        "symbol": listing.symbol,
        "pair": listing.symbol,
        "contractType": "PERPETUAL",
        "status": "TRADING",
        "baseAsset": base,
        "quoteAsset": "USDT",
        "marginAsset": "USDT",
        "pricePrecision": listing.price_precision,
        "quantityPrecision": listing.quantity_precision,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "filters": filters,
        "orderTypes": ["LIMIT", "MARKET"],
        "timeInForce": ["GTC"],
    }


def plain(value: Decimal) -> str:
    return format(value, "f")


def eight(value: Decimal) -> str:
    return format(value.quantize(EIGHT_PLACES), "f")
