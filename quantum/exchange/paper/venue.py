"""The venue: places, fills and cancels orders, and keeps positions, all in one commit each.

MARKET orders fill at once at the mark price. LIMIT orders rest until the mark price
reaches them, which is looked at whenever the price is. One thread calls all of this.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from quantum.exchange.paper.book import ZERO, Booked, Holding, book
from quantum.exchange.paper.errors import ApiError
from quantum.exchange.paper.market import Market
from quantum.exchange.paper.orders import Ticket
from quantum.exchange.paper.store import Received, Store, StoredOrder, StoredTrade

START_BALANCE = Decimal(100_000)
LEVERAGE_DEFAULT = 20
LEVERAGE_MAX = 125


class Venue:
    def __init__(self, *, store: Store, market: Market):
        self.store = store
        self.market = market
        stored = store.holdings()
        self.holdings = {symbol: stored[symbol][0] for symbol in stored}
        self.changed_ms = {symbol: stored[symbol][2] for symbol in stored}
        for symbol, (_, mark_price, _) in stored.items():
            if symbol in market.listings:
                market.set_price(symbol=symbol, price=mark_price, standing=False)
        self._resting = {order.order_id: order for order in store.open_orders()}
        facts = store.facts()
        self.balance = Decimal(facts.get("balance", START_BALANCE))
        self.hedge_mode = facts.get("hedge_mode") == "true"
        self.leverage = {s: int(facts.get(f"leverage:{s}", LEVERAGE_DEFAULT)) for s in market.listings}
        self.listen_key = facts.get("listen_key", "")

    def holding(self, symbol: str) -> Holding:
        return self.holdings.get(symbol, Holding())

    def mark(self, *, symbol: str, now_ms: int) -> Decimal:
        """The mark price now. Looking moves it, and a moved price may reach resting orders."""
        price = self.market.price(symbol=symbol, now_ms=now_ms)
        for order in [one for one in self._resting.values() if one.symbol == symbol]:
            if _reached(order, price):
                self._fill_resting(order, now_ms)
        return price

    def place(
        self, *, ticket: Ticket, received: Received, now_ms: int, fill_percent: int = 100,
        by_hand: bool = False,
    ) -> StoredOrder:  # fmt: skip
        """by_hand: an entry set up through the control plane, without the minimum notional."""
        if ticket.client_id and self.store.client_id_used(ticket.client_id):
            raise ApiError(-4116)
        price = self.mark(symbol=ticket.symbol, now_ms=now_ms)
        quantity = self._placeable(ticket, price, by_hand=by_hand)
        order = self._new_order(ticket, quantity, now_ms)
        booked = None
        with self.store.commit():
            if ticket.type == "MARKET" or _reached(order, price):
                step = self.market.listings[ticket.symbol].step
                executed = (quantity * fill_percent / 100) // step * step
                order, booked = self._executed(order, executed, price, now_ms)
                if order.open:  # a MARKET order never rests: what found no counterparty expires
                    order = replace(order, status="EXPIRED")
            self.store.put_order(order)
            self.store.put_received(replace(received, order_id=order.order_id, client_id=order.client_id))
        self._remember(order.symbol, booked, now_ms)
        if order.open:
            self._resting[order.order_id] = order
        return order

    def cancel(self, *, order: StoredOrder, now_ms: int) -> StoredOrder:
        if not order.open:
            raise ApiError(-2011)
        canceled = replace(order, status="CANCELED", update_ms=now_ms)
        with self.store.commit():
            self.store.put_order(canceled)
        self._resting.pop(order.order_id, None)
        return canceled

    def set_hedge_mode(self, *, on: bool) -> None:
        if on == self.hedge_mode:
            raise ApiError(-4059)
        if any(holding.amount for holding in self.holdings.values()):
            raise ApiError(-4068)
        self.force_hedge_mode(on=on)

    def force_hedge_mode(self, *, on: bool) -> None:
        """The control plane's way: as if it had been switched before the positions were made."""
        self.hedge_mode = on
        self.store.put_fact(name="hedge_mode", value="true" if on else "false")

    def set_leverage(self, *, symbol: str, leverage: int) -> None:
        if not 1 <= leverage <= LEVERAGE_MAX:
            raise ApiError(-4028, str(leverage))
        self.leverage[symbol] = leverage
        self.store.put_fact(name=f"leverage:{symbol}", value=str(leverage))

    def set_listen_key(self, key: str) -> None:
        self.listen_key = key
        self.store.put_fact(name="listen_key", value=key)

    def _placeable(self, ticket: Ticket, price: Decimal, *, by_hand: bool) -> Decimal:
        if ticket.reduce_only:
            return self._reducible(ticket.symbol, ticket.signed_quantity)
        notional_min = self.market.listings[ticket.symbol].notional_min
        if not by_hand and ticket.quantity * (ticket.price or price) < notional_min:
            raise ApiError(-4164, format(notional_min, "f"))
        return ticket.quantity

    def _reducible(self, symbol: str, signed_quantity: Decimal) -> Decimal:
        """Reduce-only shrinks to the position, and never opens or grows one."""
        amount = self.holding(symbol).amount
        if amount * signed_quantity >= 0:
            raise ApiError(-2022)
        return min(abs(amount), abs(signed_quantity))

    def _new_order(self, ticket: Ticket, quantity: Decimal, now_ms: int) -> StoredOrder:
        order_id = self.store.next_order_id
        return StoredOrder(
            order_id=order_id,
            client_id=ticket.client_id or f"paper-{order_id}",
            symbol=ticket.symbol,
            side=ticket.side,
            type=ticket.type,
            time_in_force="GTC",
            status="NEW",
            price=ticket.price,
            quantity=quantity,
            executed=ZERO,
            quote=ZERO,
            reduce_only=ticket.reduce_only,
            time_ms=now_ms,
            update_ms=now_ms,
        )

    def _executed(
        self, order: StoredOrder, quantity: Decimal, price: Decimal, now_ms: int
    ) -> tuple[StoredOrder, Booked | None]:
        """Inside a commit: one fill with its trade, position and balance. Zero fills nothing."""
        if quantity == 0:
            return order, None
        signed = quantity if order.side == "BUY" else -quantity
        booked = book(holding=self.holding(order.symbol), signed_quantity=signed, price=price)
        self.store.put_trade(
            StoredTrade(
                trade_id=self.store.next_trade_id,
                order_id=order.order_id,
                symbol=order.symbol,
                side=order.side,
                quantity=quantity,
                price=price,
                realized=booked.realized,
                commission=booked.commission,
                time_ms=now_ms,
            )
        )
        self.store.put_holding(
            symbol=order.symbol, holding=booked.holding, mark_price=price, update_ms=now_ms
        )
        balance = self.balance + booked.realized - booked.commission
        self.store.put_fact(name="balance", value=format(balance, "f"))
        executed = order.executed + quantity
        filled = replace(
            order,
            executed=executed,
            quote=order.quote + quantity * price,
            status="FILLED" if executed == order.quantity else "PARTIALLY_FILLED",
            update_ms=now_ms,
        )
        return filled, booked

    def _remember(self, symbol: str, booked: Booked | None, now_ms: int) -> None:
        """After the commit only: a commit that failed must leave memory and file alike."""
        if booked is not None:
            self.holdings[symbol], self.changed_ms[symbol] = booked.holding, now_ms
            self.balance += booked.realized - booked.commission

    def _fill_resting(self, order: StoredOrder, now_ms: int) -> None:
        self._resting.pop(order.order_id, None)
        quantity = order.quantity - order.executed
        signed = quantity if order.side == "BUY" else -quantity
        try:
            fill = self._reducible(order.symbol, signed) if order.reduce_only else quantity
        except ApiError:
            fill = ZERO
        with self.store.commit():
            done, booked = self._executed(order, fill, order.price, now_ms)
            self.store.put_order(replace(done, status="EXPIRED") if done.open else done)
        self._remember(order.symbol, booked, now_ms)


def _reached(order: StoredOrder, price: Decimal) -> bool:
    return price <= order.price if order.side == "BUY" else price >= order.price
