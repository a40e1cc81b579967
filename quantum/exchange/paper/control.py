"""The control plane, /paper/...: what no exchange offers. Needs the trade key.

POST /paper/scenario   a list of items (scenario.py), added; [] clears
GET  /paper/log        order requests received, refused ones too; ?after=SEQ
POST /paper/position   {"symbol", "amount", "client_order_id"}: trade to that signed position
GET  /paper/calls      how often each endpoint was asked since the start, and the weight of all of it
GET  /paper/position   ?symbol=: the signed amount
POST /paper/price      {"symbol", "price", "standing": true}
POST /paper/latency    {"ms"}: added to every answer
POST /paper/clock      {"skew_ms"}: how far the exchange's clock is ahead of ours
POST /paper/hedge_mode {"on"}
POST /paper/seize      {"symbol", "kind", "quantity"}: liquidation, adl or settlement
POST /paper/fill       {"symbol", "client_order_id", "quantity"}: what rests meets a counterparty
POST /paper/funding    {"amount", "symbol"}: signed, into the wallet
POST /paper/transfer   {"amount"}: signed, between this wallet and another of the user's
POST /paper/filters    {"symbol", "step", "notional_min", ...}: the exchange changes its rules
POST /paper/limits     {"weight_1m", "orders_10s", "orders_1m"}: and counting begins anew
POST /paper/stream     a lever of the user stream (stream_faults.py)
GET  /paper/stream     how many lines are open, how many events went out
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from aiohttp import web
from msgspec.structs import asdict

from quantum.exchange.paper.auth import RawRequest
from quantum.exchange.paper.errors import ApiError
from quantum.exchange.paper.hand import trade_to
from quantum.exchange.paper.market import Listing
from quantum.exchange.paper.rows import eight, order_json, plain
from quantum.exchange.paper.scenario import item_from
from quantum.exchange.paper.stream_faults import Lever
from quantum.exchange.paper.venue import SEIZURES

if TYPE_CHECKING:
    from quantum.exchange.paper.server import PaperServer

LATENCY_MS_MAX = 60_000
AFTER_MS_MAX = 600_000
Action = Callable[["PaperServer", Any], object]


def answer(server: PaperServer, *, method: str, path: str, raw: RawRequest) -> web.Response:
    if raw.key != server.keys.trade_key:
        return web.json_response({"error": "the control plane needs the trade key"}, status=401)
    action = ACTIONS.get((method, path))
    if action is None:
        return web.json_response(
            {"error": "no such path", "known": sorted(p for _, p in ACTIONS)}, status=404
        )
    try:
        asked = json.loads(raw.body) if raw.body else dict(parse_qsl(raw.query))
        return web.json_response(action(server, asked))
    except ApiError as error:
        return web.json_response({"code": error.code, "error": error.msg}, status=400)
    except (ValueError, KeyError, TypeError, InvalidOperation) as error:
        return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=400)


def check_scenario(rows: Sequence[object]) -> None:
    """ValueError says what is wrong: all of it is right, or none of it is taken."""
    if not isinstance(rows, list | tuple):
        raise ValueError("a scenario is a list")
    for row in rows:
        if isinstance(row, dict) and "now" in row:
            _act_of(row)
        else:
            item_from(row)


def push_scenario(server: PaperServer, rows: Sequence[object]) -> None:
    """Of rows that were checked."""
    server.scenario.push([item_from(row) for row in rows if not _is_act(row)])
    for row in rows:
        if isinstance(row, dict) and _is_act(row):
            after_ms, act, asked = _act_of(row)
            if after_ms:
                asyncio.get_running_loop().call_later(after_ms / 1000, _act_late, server, act, asked)
            else:
                act(server, asked)


def _is_act(row: object) -> bool:
    return isinstance(row, dict) and "now" in row


def _act_of(row: Mapping[str, Any]) -> tuple[int, Action, dict[str, Any]]:
    asked = dict(row)
    name, after_ms = asked.pop("now"), asked.pop("after_ms", 0)
    act = ACTIONS.get(("POST", f"/paper/{name}"))
    if act is None or name == "scenario":
        known = sorted(path.rpartition("/")[2] for method, path in ACTIONS if method == "POST")
        raise ValueError(f'"now" is one of {known}')
    if type(after_ms) is not int or not 0 <= after_ms <= AFTER_MS_MAX:
        raise ValueError("after_ms is out of range")
    if name == "stream":
        Lever.from_json(asked)
    return after_ms, act, asked


def _act_late(server: PaperServer, act: Action, asked: dict[str, Any]) -> None:
    """Nobody waits for the answer any more; a mistake shows on the process's stderr."""
    act(server, asked)


def _scenario(server: PaperServer, asked: list[object]) -> object:
    check_scenario(asked)
    if not asked:
        server.scenario.clear()
    push_scenario(server, asked)
    return {"waiting": server.scenario.waiting()}


def _log(server: PaperServer, asked: Mapping[str, str]) -> object:
    return {"orders": server.venue.store.received(after=int(asked.get("after", "0")))}


def _calls(server: PaperServer, _asked: object) -> object:
    return {"calls": dict(server.calls), "weight": server.weight_used}


def _position(server: PaperServer, asked: Mapping[str, str]) -> object:
    order = trade_to(
        venue=server.venue,
        symbol=asked["symbol"],
        amount=Decimal(asked["amount"]),
        client_id=asked["client_order_id"],
        now_us=server.now_us(),
    )
    return {"order": order}


def _held(server: PaperServer, asked: Mapping[str, str]) -> object:
    _require_listed(server, asked["symbol"])
    return {"amount": plain(server.venue.holding(asked["symbol"]).amount)}


def _price(server: PaperServer, asked: Mapping[str, object]) -> object:
    symbol, market = str(asked["symbol"]), server.venue.market
    if symbol not in market.listings:
        raise ApiError(-1121)
    now_ms = server.now_us() // 1000
    market.price(symbol=symbol, now_ms=now_ms)  # time gone by does not move the new price
    price = Decimal(str(asked["price"]))
    set_to = market.set_price(symbol=symbol, price=price, standing=bool(asked.get("standing", True)))
    server.venue.mark(symbol=symbol, now_ms=now_ms)
    return {"symbol": symbol, "price": format(set_to, "f")}


def _latency(server: PaperServer, asked: Mapping[str, int]) -> object:
    if not 0 <= asked["ms"] <= LATENCY_MS_MAX:
        raise ValueError("ms is out of range")
    server.latency_ms = asked["ms"]
    return {"ms": server.latency_ms}


def _clock(server: PaperServer, asked: Mapping[str, int]) -> object:
    server.skew_ms = int(asked["skew_ms"])
    server.user_lines.look_at_listen_key()
    return {"skew_ms": server.skew_ms}


def _hedge_mode(server: PaperServer, asked: Mapping[str, object]) -> object:
    server.venue.force_hedge_mode(on=bool(asked["on"]))
    return {"on": server.venue.hedge_mode}


def _seize(server: PaperServer, asked: Mapping[str, str]) -> object:
    symbol, venue = asked["symbol"], server.venue
    _require_listed(server, symbol)
    if asked["kind"] not in SEIZURES:
        raise ValueError(f"kind is one of {sorted(SEIZURES)}")
    quantity = Decimal(asked.get("quantity", abs(venue.holding(symbol).amount)))
    order = venue.seize(symbol=symbol, kind=asked["kind"], quantity=quantity, now_us=server.now_us())
    return {"order": order_json(order)}


def _fill(server: PaperServer, asked: Mapping[str, str]) -> object:
    quantity = Decimal(asked["quantity"]) if "quantity" in asked else None
    server.fill(asked["symbol"], asked["client_order_id"], quantity)
    order = server.venue.store.order(symbol=asked["symbol"], client_id=asked["client_order_id"])
    return {"order": order and order_json(order)}


def _funding(server: PaperServer, asked: Mapping[str, str]) -> object:
    """The symbol may be left out: funding of an account without a word which position it was for."""
    if "symbol" in asked:
        _require_listed(server, asked["symbol"])
    return _moved_money(server, "FUNDING_FEE", asked, symbol=asked.get("symbol", ""))


def _transfer(server: PaperServer, asked: Mapping[str, str]) -> object:
    return _moved_money(server, "TRANSFER", asked, symbol="")


def _moved_money(server: PaperServer, kind: str, asked: Mapping[str, str], *, symbol: str) -> object:
    amount, now_ms = Decimal(asked["amount"]), server.now_us() // 1000
    server.venue.move_money(kind=kind, amount=amount, symbol=symbol, now_ms=now_ms)
    return {"balance": eight(server.venue.balance)}


def _filters(server: PaperServer, asked: Mapping[str, str]) -> object:
    """Any of market.Listing's numbers of one symbol; the rest stays as it is."""
    symbol, listings = asked["symbol"], server.venue.market.listings
    _require_listed(server, symbol)
    listings[symbol] = Listing.from_json({**asdict(listings[symbol]), **asked})
    return {"symbol": symbol}


def _limits(server: PaperServer, asked: Mapping[str, int]) -> object:
    server.weights.set_limits(asked)
    return {"limits": server.weights.limits}


def _require_listed(server: PaperServer, symbol: str) -> None:
    if symbol not in server.venue.market.listings:
        raise ApiError(-1121)


def _pull(server: PaperServer, asked: Mapping[str, object]) -> object:
    server.user_lines.pull(Lever.from_json(asked))
    return _stream(server, asked)


def _stream(server: PaperServer, _asked: object) -> object:
    return {"lines": len(server.user_lines), "sent": server.user_lines.sent}


ACTIONS: Mapping[tuple[str, str], Action] = {
    ("POST", "/paper/scenario"): _scenario,
    ("GET", "/paper/log"): _log,
    ("GET", "/paper/calls"): _calls,
    ("POST", "/paper/position"): _position,
    ("GET", "/paper/position"): _held,
    ("POST", "/paper/price"): _price,
    ("POST", "/paper/latency"): _latency,
    ("POST", "/paper/clock"): _clock,
    ("POST", "/paper/hedge_mode"): _hedge_mode,
    ("POST", "/paper/seize"): _seize,
    ("POST", "/paper/fill"): _fill,
    ("POST", "/paper/funding"): _funding,
    ("POST", "/paper/transfer"): _transfer,
    ("POST", "/paper/filters"): _filters,
    ("POST", "/paper/limits"): _limits,
    ("POST", "/paper/stream"): _pull,
    ("GET", "/paper/stream"): _stream,
}
