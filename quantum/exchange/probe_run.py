"""Puts the assumptions of probe.py to one account: questions first, then a few smallest orders, then tidying up."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import ROUND_UP, Decimal
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from quantum.exchange import answers
from quantum.exchange.events import AccountUpdate, OrderUpdate
from quantum.exchange.inbox import Received
from quantum.exchange.outcomes import Reply
from quantum.exchange.probe import Finding, Findings, NotTested
from quantum.exchange.reading import ReadFailed
from quantum.exchange.types import OrderState, SymbolRules, Trade

if TYPE_CHECKING:
    from quantum.exchange.binance_reader import BinanceReader
    from quantum.exchange.user_stream import UserStream

STALE_MS = 4000
OFFSET_MS_MAX = 1000
STREAM_S_MAX = 8.0
SETTLE_TRIES, SETTLE_S = 10, 0.3
ROOM = Decimal("1.1")
"""Above the minimum notional, which the price may come to in the meantime."""


class Said(Struct, frozen=True):
    """One raw answer: the error's code (0: none) and the order it holds, where it holds one."""

    code: int
    order: OrderState | None
    text: str


@dataclass(slots=True)
class Probe:
    """reader has the trade key. may(text) is asked before each order; no stream: it is not tested."""

    reader: BinanceReader
    symbol: str
    may: Callable[[str], bool]
    stream: UserStream | None = None
    findings: Findings = field(default_factory=Findings)
    left_behind: list[str] = field(default_factory=list)
    _prefix: str = field(default_factory=lambda: f"qprobe-{secrets.token_hex(4)}")
    _ids: int = 0
    _sent: bool = False
    _doubtful: bool = False
    _heard: list[OrderUpdate | AccountUpdate] = field(default_factory=list)

    def run(self, *, read_only: bool) -> list[Finding]:
        """ReadFailed: the exchange could not be asked at all."""
        rules = self._questions()
        if read_only:
            return self.findings.all(unasked="read-only: no order was placed")
        unasked = "an order it needs did not come about"
        if self.reader.hedge_mode():
            return self.findings.all(unasked="the account is in hedge mode")
        if self.reader.positions().amount(self.symbol):
            return self.findings.all(unasked=f"{self.symbol} is not flat: its position is left alone")
        try:
            self._orders(rules)
        except NotTested as why:
            unasked = str(why)
        except ReadFailed as why:
            unasked = f"a read failed: {why}"
        finally:
            self._tidy_up()
        return self.findings.all(unasked=unasked)

    # ---- questions, which place nothing

    def _questions(self) -> SymbolRules:
        offset_ms = self.reader.sync_clock()
        rules = self.reader.symbol_rules().get(self.symbol)
        if rules is None:
            raise ReadFailed(f"{self.symbol} is not listed there")
        judge, held = self.findings.judge, self.reader.positions()
        judge("time_offset", lambda: (abs(offset_ms) <= OFFSET_MS_MAX, f"{offset_ms} ms"))
        judge("weight_header", self._weight)
        judge("recv_window", self._stale)
        judge("unknown_order", self._unknown)
        hedged = self.reader.hedge_mode()
        judge("one_way_mode", lambda: (not hedged, "hedge mode" if hedged else "one-way mode"))
        judge("flat_absent", lambda: (all(p.amount for p in held.positions.values()),
                                      f"{len(held.positions)} positions told"))  # fmt: skip
        return rules

    def _weight(self) -> tuple[bool, str]:
        used = self.reader.back_off.used_weight_1m
        return (
            used is not None,
            f"{used} used" if used is not None else "no weight told (the testnet says -1)",
        )

    def _stale(self) -> tuple[bool, str]:
        pinned_ms = self.reader.now_ms() - STALE_MS
        said = self._ask(lambda client: client.futures_position_information(), pinned_ms=pinned_ms)
        return said.code == -1021, said.text

    def _unknown(self) -> tuple[bool, str]:
        name = f"{self._prefix}-nobody"
        said = self._ask(lambda c: c.futures_get_order(symbol=self.symbol, origClientOrderId=name))
        return said.code == -2013, said.text

    # ---- orders

    def _orders(self, rules: SymbolRules) -> None:
        judge, price = self.findings.judge, self._mark()
        least = max(rules.market_min, rules.lot_min, rules.min_notional * ROOM / price)
        step = max(rules.market_step, rules.lot_step)
        size = _up(least, step)
        judge("reduce_only_flat", lambda: self._refused(-2022, side="SELL", size=size, reduce_only=True))
        entry = self._send(side="BUY", size=size)
        if entry.order is None:
            raise NotTested(f"the entry was refused: {entry.text}")
        order = entry.order
        told = order.executed_quantity
        judge("result_executed", lambda: (told == size, f"{told:f} of {size:f}, {order.status}"))
        judge("trades_repeat_fill", lambda: self._trades(order, size))
        judge("stream_order", lambda: self._told_fill(order))
        judge("stream_account", self._told_position)
        judge("duplicate_open", lambda: self._duplicate_open(rules, size, price))
        judge("duplicate_filled", lambda: self._duplicate_filled(max(rules.market_min, step), order))
        judge("reduce_only_shrinks", lambda: self._shrinks(size))

    def _refused(self, code: int, **order: Any) -> tuple[bool, str]:
        said = self._send(**order)
        return said.code == code, said.text

    def _trades(self, order: OrderState, size: Decimal) -> tuple[bool, str]:
        trades: list[Trade] = []
        for _ in range(SETTLE_TRIES):
            trades = self.reader.trades_of_order(symbol=self.symbol, order_id=order.order_id)
            if sum((trade.quantity for trade in trades), Decimal(0)) == size:
                return all(
                    t.commission for t in trades
                ), f"{len(trades)} trades, the first {trades[0].commission:f}"
            _pause()
        return False, f"{len(trades)} trades do not make up {size:f}"

    def _told_fill(self, order: OrderState) -> tuple[bool, str]:
        def is_it(one: OrderUpdate | AccountUpdate) -> bool:
            return isinstance(one, OrderUpdate) and one.order_id == order.order_id and one.is_execution

        found = self._listen(is_it)
        if not isinstance(found, OrderUpdate):
            return False, f"no fill within {STREAM_S_MAX:.0f} s"
        whole = found.transaction_ms > 0 and found.realized_pnl is not None
        return whole, f"transaction time {found.transaction_ms}, realised {found.realized_pnl}"

    def _told_position(self) -> tuple[bool, str]:
        def is_it(one: OrderUpdate | AccountUpdate) -> bool:
            return isinstance(one, AccountUpdate) and any(p.symbol == self.symbol for p in one.positions)

        found = self._listen(is_it)
        return found is not None, "told" if found else f"nothing within {STREAM_S_MAX:.0f} s"

    def _listen(
        self, is_it: Callable[[OrderUpdate | AccountUpdate], bool]
    ) -> OrderUpdate | AccountUpdate | None:
        if self.stream is None:
            raise NotTested("no user stream could be opened")
        until_ms = self.reader.now_ms() + STREAM_S_MAX * 1000
        while (found := next(filter(is_it, self._heard), None)) is None:
            if self.reader.now_ms() > until_ms:
                return None
            item = self.stream.take(timeout_s=0.2)
            if isinstance(item, Received) and isinstance(item.event, OrderUpdate | AccountUpdate):
                self._heard.append(item.event)
        return found

    def _duplicate_open(self, rules: SymbolRules, size: Decimal, price: Decimal) -> tuple[bool, str]:
        """A closing LIMIT order 3 % above the price rests; a second of its name must be refused."""
        far = _up(price * Decimal("1.03"), rules.price_tick)
        more: dict[str, Any] = {"side": "SELL", "size": size, "reduce_only": True, "price": far}
        resting = self._send(**more)
        if resting.order is None:
            raise NotTested(f"the resting order was refused: {resting.text}")
        name = resting.order.client_order_id
        second = self._send(**more, name=name)
        self._cancel(name)
        return second.code == -4116, second.text

    def _duplicate_filled(self, size: Decimal, filled: OrderState) -> tuple[bool | None, str]:
        """-4116 is documented for open orders only. Taken, it has closed a little of the probe's own position."""
        said = self._send(side="SELL", size=size, reduce_only=True, name=filled.client_order_id)
        if said.order is not None:
            return None, f"{said.text}; not decided by the documentation"
        return said.code == -4116, said.text

    def _shrinks(self, size: Decimal) -> tuple[bool, str]:
        held = self.reader.positions().amount(self.symbol)
        said = self._send(side="SELL", size=size * 2, reduce_only=True)
        executed = said.order.executed_quantity if said.order else None
        return (
            executed == held,
            said.text if executed is None else f"{executed:f} of {size * 2:f}, held {held:f}",
        )

    # ---- and nothing stays

    def _tidy_up(self) -> None:
        """Whatever the answers were, the account itself is asked what is still there."""
        if not self._sent:
            return
        try:
            for order in self.reader.open_orders():
                if order.client_order_id.startswith(self._prefix):
                    self._cancel(order.client_order_id)
            self._close()
            left = [o for o in self.reader.open_orders() if o.client_order_id.startswith(self._prefix)]
            held = self.reader.positions().amount(self.symbol)
        except ReadFailed as why:
            self.left_behind.append(f"{self.symbol} could not be looked at after the last order: {why}")
            return
        self.left_behind += [f"order {order.client_order_id} still rests" for order in left]
        if held:
            self.left_behind.append(f"{self.symbol} still holds {held:f}")
        if self._doubtful:
            self.left_behind.append("an order got no answer: it may come late. Look once more in a minute")

    def _close(self) -> None:
        held = self.reader.positions().amount(self.symbol)
        if held:
            side = "SELL" if held > 0 else "BUY"
            self._send(side=side, size=abs(held), reduce_only=True, asked=True)

    # ---- one request

    def _send(
        self, *, side: str, size: Decimal, reduce_only: bool = False, name: str = "",
        price: Decimal | None = None, asked: bool = False,
    ) -> Said:  # fmt: skip
        kind = "MARKET" if price is None else f"LIMIT {price:f}"
        text = f"{side} {size:f} {self.symbol} {kind}{' reduce-only' if reduce_only else ''}"
        if not asked and not self.may(text):
            raise NotTested("you said no to an order")
        self._ids += 1
        params = {
            "symbol": self.symbol, "side": side, "type": "MARKET", "quantity": format(size, "f"),
            "newClientOrderId": name or f"{self._prefix}-{self._ids}", "newOrderRespType": "RESULT",
        }  # fmt: skip
        if reduce_only:
            params["reduceOnly"] = "true"
        if price is not None:
            params |= {"type": "LIMIT", "timeInForce": "GTC", "price": format(price, "f")}
        self._sent = True
        said = self._ask(lambda client: client.futures_create_order(**params))
        self._doubtful |= said.order is None and not said.code
        return said

    def _cancel(self, name: str) -> None:
        self._ask(lambda client: client.futures_cancel_order(symbol=self.symbol, origClientOrderId=name))

    def _mark(self) -> Decimal:
        reply = self.reader.ask(lambda client: client.futures_mark_price(symbol=self.symbol))
        try:
            if isinstance(reply, Reply):
                return answers.mark_price(answers.as_object(answers.parsed(reply.body))).price
        except answers.Malformed as why:
            raise NotTested(f"the mark price makes no sense: {why}") from None
        raise NotTested("the mark price could not be read")

    def _ask(self, call: Callable[[Any], Any], *, pinned_ms: int | None = None) -> Said:
        reply = self.reader.ask(call, pinned_ms=pinned_ms)
        if not isinstance(reply, Reply):
            return Said(0, None, "no answer")
        try:
            value = answers.parsed(reply.body)
            error = answers.error_of(value)
            if error is not None:
                return Said(error[0], None, f"{error[0]} {error[1]}"[:200])
            order = answers.order_state(value) if isinstance(value, dict) else None
        except answers.Malformed as why:
            return Said(0, None, f"HTTP {reply.status}, senseless: {why}")
        return Said(0, order, f"taken: {order.status}" if order else f"HTTP {reply.status}, answered")


def _up(value: Decimal, step: Decimal) -> Decimal:
    return (value / step).to_integral_value(ROUND_UP) * step


def _pause() -> None:
    threading.Event().wait(SETTLE_S)
