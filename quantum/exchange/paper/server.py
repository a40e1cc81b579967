"""The paper exchange as an HTTP server: routing, authentication, weights, faults, signals.

Everything of the exchange runs on one thread, one request at a time: what an order does
is done within one call and one commit. Only the waiting (latency) is concurrent.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from urllib.parse import unquote

from aiohttp import web

from quantum.exchange.paper import control
from quantum.exchange.paper.api import ENDPOINTS, Endpoint, Needs
from quantum.exchange.paper.auth import PaperKeys, RawRequest, require_signed
from quantum.exchange.paper.call import Call
from quantum.exchange.paper.entry_bot import EntryBot
from quantum.exchange.paper.errors import ApiError
from quantum.exchange.paper.hand import trade_to
from quantum.exchange.paper.market import LISTINGS, Listing, Market
from quantum.exchange.paper.scenario import Item, Scenario
from quantum.exchange.paper.store import Received, Store
from quantum.exchange.paper.user_lines import UserLines, asked_listen_key
from quantum.exchange.paper.venue import Venue
from quantum.exchange.paper.weights import LIMITS, OverLimit, Weights

LOOPBACK = ("127.0.0.1", "::1", "localhost")
SEED_POSITIONS: Mapping[str, Decimal] = {
    "BTCUSDT": Decimal("0.500"),
    "ETHUSDT": Decimal("-8.000"),
    "SOLUSDT": Decimal("120.00"),
    "BNBUSDT": Decimal("-25.00"),
    "XRPUSDT": Decimal("20000.0"),
}
PLAIN_ITEM = Item(do="latency")


class PaperServer:
    def __init__(self, *, venue: Venue, keys: PaperKeys, entry_bot: EntryBot | None = None):
        self.venue = venue
        self._entry_bot = entry_bot
        self.keys = keys
        self.scenario = Scenario()
        self.latency_ms = 0
        self.skew_ms = 0
        self.weights = Weights()
        self.calls, self.weight_used = Counter[str](), 0
        self.user_lines = UserLines(listen_key=venue.listen_key, now_ms=lambda: self.now_us() // 1000)
        venue.tell = self.user_lines.tell

    def now_us(self) -> int:
        return time.time_ns() // 1000 + self.skew_ms * 1000

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        if (listen_key := asked_listen_key(path=path, query=query)) is not None:
            wrapped = path.endswith("/stream")
            return await self.user_lines.serve(request, listen_key=listen_key, wrapped=wrapped)
        body = (await request.read()).decode("utf-8", "replace")
        raw = RawRequest(request.headers.get("X-MBX-APIKEY", ""), query, body)
        if path.startswith("/paper/"):
            return control.answer(self, method=request.method, path=path, raw=raw)
        endpoint = ENDPOINTS.get((request.method, path))
        if endpoint is None:
            return _error(ApiError(-5000, unquote(path)[:100]), {})
        item = self.scenario.take(endpoint.name) or PLAIN_ITEM
        # Half of the delay before and half after: the receive time is honest either way.
        delay_s = (self.latency_ms + item.ms) / 2000
        if delay_s:
            await asyncio.sleep(delay_s)
        response = self._answer(endpoint, item, raw)
        if delay_s:
            await asyncio.sleep(delay_s)
        if response is None:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        return response

    def _answer(self, endpoint: Endpoint, item: Item, raw: RawRequest) -> web.Response | None:
        """None: the line is cut."""
        received_us = self.now_us()
        now_ms = received_us // 1000
        is_order = endpoint.name == "order"
        params = raw.params()
        weight = endpoint.weight_for(params)
        self.calls[endpoint.name] += 1
        self.weight_used += weight
        headers = self.weights.count(weight=weight, is_order=is_order, now_ms=now_ms)
        received = _received(raw, params, received_us)
        try:
            self.weights.require_room(is_order=is_order, now_ms=now_ms)
            self._authenticate(endpoint, raw, params, now_ms)
            if item.do == "cut_before_accept" or (item.answers_itself and not item.accepted):
                if is_order:
                    self._log(received, verdict="not taken: " + item.do)
                if item.do == "late_accept":
                    self._accept_later(endpoint, params, received, item.after_ms)
                return None if item.do == "cut_before_accept" else _scripted(item, headers, now_ms)
            if item.do == "move_first":
                self._move_first(params.get("symbol", ""), Decimal(item.amount))
            answer = endpoint.answer(
                Call(self.venue, params, now_ms, received, item.way, self.weights.limits)
            )
        except ApiError as error:
            if is_order:
                with self.venue.store.commit():
                    self.venue.store.put_received(received.as_refused(code=error.code))
            return _error(error, headers)
        if is_order:
            self._after_order(received.symbol, item, answer)
        if item.do == "accept_then_cut":
            return None
        if item.do == "edit":
            answer = item.edited(answer)
        return _scripted(item, headers, now_ms) if item.answers_itself else _json(answer, headers)

    def _after_order(self, symbol: str, item: Item, answer: object) -> None:
        if self._entry_bot is not None:
            self._entry_bot.after_order(symbol)
        if item.do == "rest" and item.after_ms and isinstance(answer, dict):
            client_id = answer["clientOrderId"]
            asyncio.get_running_loop().call_later(item.after_ms / 1000, self.fill, symbol, client_id)

    def fill(self, symbol: str, client_id: str, quantity: Decimal | None = None) -> None:
        """What rests meets its counterparty; nothing happens where it has gone meanwhile."""
        order = self.venue.store.order(symbol=symbol, client_id=client_id)
        if order is not None and order.open:
            now_ms = self.now_us() // 1000
            self.venue.fill(order=order, quantity=quantity or order.quantity, now_ms=now_ms)

    def _move_first(self, symbol: str, amount: Decimal) -> None:
        now_us = self.now_us()
        trade_to(venue=self.venue, symbol=symbol, amount=amount, client_id=f"web_{now_us}", now_us=now_us)

    def _authenticate(self, endpoint: Endpoint, raw: RawRequest, params: dict[str, str], now_ms: int) -> None:
        if endpoint.needs is Needs.NOTHING:
            return
        if endpoint.needs is Needs.KEY:
            self.keys.secret_of(raw.key)
            return
        require_signed(raw=raw, params=params, keys=self.keys, now_ms=now_ms)
        if endpoint.needs is Needs.TRADE and raw.key != self.keys.trade_key:
            raise ApiError(-2015)

    def _accept_later(
        self, endpoint: Endpoint, params: dict[str, str], received: Received, after_ms: int
    ) -> None:
        def accept() -> None:
            late_us = self.now_us()
            late = Received(late_us, "late", received.client_id, received.symbol, received.params)
            try:
                endpoint.answer(Call(self.venue, params, late_us // 1000, late))
            except ApiError as error:
                with self.venue.store.commit():
                    self.venue.store.put_received(late.as_refused(code=error.code))

        asyncio.get_running_loop().call_later(after_ms / 1000, accept)

    def _log(self, received: Received, *, verdict: str) -> None:
        row = Received(
            received.received_us, "api", received.client_id, received.symbol, received.params, verdict
        )
        with self.venue.store.commit():
            self.venue.store.put_received(row)


def make_positions(*, venue: Venue, amounts: Mapping[str, Decimal], now_us: int) -> None:
    """The first start's positions, each by one real trade with an entry bot's client id."""
    for symbol, amount in amounts.items():
        trade_to(venue=venue, symbol=symbol, amount=amount, client_id=f"entry-seed-{symbol}", now_us=now_us)


async def serve(
    *,
    server: PaperServer,
    host: str,
    port: int,
    ready: Callable[[int], None],
    scenario: Sequence[object] = (),
) -> None:
    """Answers until SIGTERM or SIGINT. ready is told the port that was taken."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runner = web.ServerRunner(web.Server(server.handle, access_log=None), shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        control.push_scenario(server, scenario)
        ready(runner.addresses[0][1])
        await stop.wait()
    finally:
        server.user_lines.cut()
        await runner.cleanup()


def run_paper_exchange(
    *,
    host: str,
    port: int,
    data_path: Path,
    keys: PaperKeys,
    seed_positions: bool,
    seed: int,
    listings: Sequence[Listing] = LISTINGS,
    entry_bot: bool = False,
    scenario: Sequence[object] = (),
    limits: Mapping[str, int] = LIMITS,
    ready: Callable[[int], None] = lambda _port: None,
) -> None:
    """ValueError: a mistake in the scenario.

    Blocks until SIGTERM or SIGINT; main thread only. OSError: the port is taken or the disk broken.
    """
    if host not in LOOPBACK:
        raise ValueError("the paper exchange listens on loopback only")
    store = Store(path=data_path)
    try:
        now_us = time.time_ns() // 1000
        market = Market(listings=listings, seed=seed, now_ms=now_us // 1000)
        venue = Venue(store=store, market=market)
        if seed_positions and not store.facts().get("seeded"):
            amounts = {s: SEED_POSITIONS[s] for s in market.listings if s in SEED_POSITIONS}
            make_positions(venue=venue, amounts=amounts, now_us=now_us)
            store.put_fact(name="seeded", value="true")
        bot = EntryBot(venue=venue, amounts=SEED_POSITIONS) if entry_bot else None
        server = PaperServer(venue=venue, keys=keys, entry_bot=bot)
        control.check_scenario(scenario)
        if limits != LIMITS:
            server.weights.set_limits(limits)
        asyncio.run(serve(server=server, scenario=scenario, host=host, port=port, ready=ready))
    finally:
        store.close()


def _received(raw: RawRequest, params: dict[str, str], received_us: int) -> Received:
    client_id, symbol = params.get("newClientOrderId", ""), params.get("symbol", "")
    return Received(received_us, "api", client_id[:100], symbol[:100], raw.unsigned_text()[:2000])


def _json(answer: object, headers: Mapping[str, str], status: int = 200) -> web.Response:
    body = json.dumps(answer, separators=(",", ":")).encode()
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


def _error(error: ApiError, headers: Mapping[str, str]) -> web.Response:
    if isinstance(error, OverLimit):
        headers = {**headers, "Retry-After": str(error.retry_after_s)}
    return _json({"code": error.code, "msg": error.msg}, headers, error.status)


def _scripted(item: Item, headers: Mapping[str, str], now_ms: int) -> web.Response:
    if item.do == "banned":
        return _error(OverLimit.banned(now_ms=now_ms, until_ms=now_ms + item.for_s * 1000), headers)
    headers = {**headers, **item.headers}
    if isinstance(item.body, str):
        return web.Response(text=item.body, status=item.status, headers=headers, content_type="text/html")
    return _json(item.body, headers, item.status)
