"""What an order request must look like: parameters in, a Ticket or the exchange's error out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

from msgspec import Struct

from quantum.exchange.paper.errors import ApiError
from quantum.exchange.paper.market import Listing

CLIENT_ID = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")
PLAIN_DECIMAL = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?")
ALGO_TYPES = ("STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET")
FLAGS = {"true": True, "false": False}


class Ticket(Struct, frozen=True):
    symbol: str
    side: str
    type: str
    quantity: Decimal
    price: Decimal
    """Zero for MARKET."""
    reduce_only: bool
    client_id: str
    """Empty: the exchange makes one."""

    @property
    def signed_quantity(self) -> Decimal:
        return self.quantity if self.side == "BUY" else -self.quantity


def ticket(*, params: Mapping[str, str], listings: Mapping[str, Listing], hedge_mode: bool) -> Ticket:
    listing = listings.get(required(params, "symbol"))
    if listing is None:
        raise ApiError(-1121)
    kind = _kind(params)
    _check_position_side(params, hedge_mode=hedge_mode)
    quantity = _number(params, "quantity")
    _check_quantity(quantity, params["quantity"], listing, market=kind == "MARKET")
    return Ticket(
        symbol=listing.symbol,
        side=_side(params),
        type=kind,
        quantity=quantity,
        price=_price(params, listing) if kind == "LIMIT" else Decimal(0),
        reduce_only=_flag(params, "reduceOnly"),
        client_id=_client_id(params),
    )


def required(params: Mapping[str, str], name: str) -> str:
    value = params.get(name, "")
    if not value:
        raise ApiError(-1102, name)
    return value


def _kind(params: Mapping[str, str]) -> str:
    kind = required(params, "type")
    if kind in ALGO_TYPES:
        raise ApiError(-4120)
    if kind not in ("MARKET", "LIMIT"):
        raise ApiError(-1116)
    if kind == "LIMIT" and required(params, "timeInForce") != "GTC":
        raise ApiError(-1115)  # the paper exchange rests GTC orders only
    return kind


def _side(params: Mapping[str, str]) -> str:
    side = required(params, "side")
    if side not in ("BUY", "SELL"):
        raise ApiError(-1117)
    return side


def _check_position_side(params: Mapping[str, str], *, hedge_mode: bool) -> None:
    """One-way accounts only: in hedge mode every order is turned down as the exchange would word it."""
    if hedge_mode and "reduceOnly" in params:
        raise ApiError(-1106, "reduceonly")
    if hedge_mode or params.get("positionSide", "BOTH") != "BOTH":
        raise ApiError(-4061)


def _check_quantity(quantity: Decimal, text: str, listing: Listing, *, market: bool) -> None:
    if quantity <= 0:
        raise ApiError(-4003)
    _, _, places = text.partition(".")
    if len(places.rstrip("0")) > listing.quantity_precision:
        raise ApiError(-1111)
    if quantity % listing.step:
        raise ApiError(-4023)
    if quantity < listing.quantity_min:
        raise ApiError(-4004)
    if quantity > (listing.market_quantity_max if market else listing.quantity_max):
        raise ApiError(-4005)


def _price(params: Mapping[str, str], listing: Listing) -> Decimal:
    price = _number(params, "price")
    if price <= 0 or price % listing.tick:
        raise ApiError(-4014)
    return price


def _number(params: Mapping[str, str], name: str) -> Decimal:
    text = required(params, name)
    if not PLAIN_DECIMAL.fullmatch(text):
        raise ApiError(-1100, name)  # 1e-05 is what python-binance makes of a float
    return Decimal(text)


def _flag(params: Mapping[str, str], name: str) -> bool:
    text = params.get(name, "false")
    if text not in FLAGS:
        raise ApiError(-1100, name)  # True and False are what python-binance makes of a bool
    return FLAGS[text]


def _client_id(params: Mapping[str, str]) -> str:
    client_id = params.get("newClientOrderId", "")
    if client_id and not CLIENT_ID.fullmatch(client_id):
        raise ApiError(-4015)
    return client_id
