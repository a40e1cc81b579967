"""The control plane, /paper/...: what no exchange offers. Needs the trade key.

POST /paper/scenario   a list of items (scenario.py), added; [] clears
GET  /paper/log        order requests received, refused ones too; ?after=SEQ
POST /paper/position   {"symbol", "amount", "client_order_id"}: trade to that signed position
POST /paper/price      {"symbol", "price", "standing": true}
POST /paper/latency    {"ms"}: added to every answer
POST /paper/clock      {"skew_ms"}: how far the exchange's clock is ahead of ours
POST /paper/hedge_mode {"on"}
POST /paper/stream     a lever of the user stream (stream_faults.py)
GET  /paper/stream     how many lines are open, how many events went out
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from aiohttp import web

from quantum.exchange.paper.auth import RawRequest
from quantum.exchange.paper.errors import ApiError
from quantum.exchange.paper.hand import trade_to
from quantum.exchange.paper.stream_faults import Lever

if TYPE_CHECKING:
    from quantum.exchange.paper.server import PaperServer

LATENCY_MS_MAX = 60_000


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


def _scenario(server: PaperServer, asked: list[object]) -> object:
    if type(asked) is not list:
        raise ValueError("a scenario is a list")
    if not asked:
        server.scenario.clear()
    server.scenario.push(asked)
    return {"waiting": server.scenario.waiting()}


def _log(server: PaperServer, asked: Mapping[str, str]) -> object:
    return {"orders": server.venue.store.received(after=int(asked.get("after", "0")))}


def _position(server: PaperServer, asked: Mapping[str, str]) -> object:
    order = trade_to(
        venue=server.venue,
        symbol=asked["symbol"],
        amount=Decimal(asked["amount"]),
        client_id=asked["client_order_id"],
        now_us=server.now_us(),
    )
    return {"order": order}


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


def _pull(server: PaperServer, asked: Mapping[str, object]) -> object:
    server.user_lines.pull(Lever.from_json(asked))
    return _stream(server, asked)


def _stream(server: PaperServer, _asked: object) -> object:
    return {"lines": len(server.user_lines), "sent": server.user_lines.sent}


ACTIONS: Mapping[tuple[str, str], Callable[[PaperServer, Any], object]] = {
    ("POST", "/paper/scenario"): _scenario,
    ("GET", "/paper/log"): _log,
    ("POST", "/paper/position"): _position,
    ("POST", "/paper/price"): _price,
    ("POST", "/paper/latency"): _latency,
    ("POST", "/paper/clock"): _clock,
    ("POST", "/paper/hedge_mode"): _hedge_mode,
    ("POST", "/paper/stream"): _pull,
    ("GET", "/paper/stream"): _stream,
}
