"""The venue: places, fills and cancels orders, and keeps positions, all in one commit each.

MARKET orders fill at once at the mark price. LIMIT orders rest until the mark price
reaches them, which is looked at whenever the price is. One thread calls all of this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from quantum.exchange.paper.algo import AlgoOrder, AlgoOrders
from quantum.exchange.paper.book import ZERO, Holding, book
from quantum.exchange.paper.changes import Account, Fill, LeverageStep, OrderStep, Step, WalletStep
from quantum.exchange.paper.errors import ApiError
from quantum.exchange.paper.listen_key import ListenKey
from quantum.exchange.paper.market import Market
from quantum.exchange.paper.orders import Ticket
from quantum.exchange.paper.store import Received, Store, StoredOrder, StoredTrade

START_BALANCE = Decimal(100_000)
LEVERAGE_DEFAULT = 20
LEVERAGE_MAX = 125
SEIZURES: Mapping[str, tuple[str, str]] = {
    "liquidation": ("autoclose-", "CALCULATED"),
    "adl": ("adl_autoclose-", "TRADE"),
    "settlement": ("settlement_autoclose-", "TRADE"),
}
"""Why the exchange closes a position itself: the client id it gives, and what the stream calls it."""


class FillWay(Struct, frozen=True):
    """How an order that could fill at once does: in part, in pieces, or not yet."""

    percent: int = 100
    pieces: int = 1
    rests: bool = False

    def pieces_of(self, quantity: Decimal, *, step: Decimal) -> list[Decimal]:
        executed = (quantity * self.percent / 100) // step * step
        each = executed / self.pieces // step * step
        parts = [each] * (self.pieces - 1)
        return [part for part in (*parts, executed - sum(parts)) if part]


AT_ONCE = FillWay()


class Venue:
    def __init__(self, *, store: Store, market: Market):
        self.store = store
        self.market = market
        stored = store.holdings()
        self.holdings = {symbol: stored[symbol][0] for symbol in stored}
        self.changed_ms = {symbol: stored[symbol][2] for symbol in stored}
        for symbol, (_, mark_price, _) in stored.items():
            if symbol in market.listings:
                market.begin_at(symbol=symbol, price=mark_price)
        self._resting = {order.order_id: order for order in store.open_orders()}
        facts = store.facts()
        self.balance = Decimal(facts.get("balance", START_BALANCE))
        self.hedge_mode = facts.get("hedge_mode") == "true"
        self.leverage = {s: int(facts.get(f"leverage:{s}", LEVERAGE_DEFAULT)) for s in market.listings}
        self._realized = {
            name.removeprefix("realized:"): Decimal(value)
            for name, value in facts.items()
            if name.startswith("realized:")
        }
        self.listen_key = ListenKey(store=store)
        self.tell: Callable[[Step], None] = _nobody
        self.algo_orders = AlgoOrders(store=store, tell=lambda step: self.tell(step))

    def holding(self, symbol: str) -> Holding:
        return self.holdings.get(symbol, Holding())

    def mark(self, *, symbol: str, now_ms: int) -> Decimal:
        """The mark price now. Looking moves it, and a moved price may reach resting orders."""
        price = self.market.price(symbol=symbol, now_ms=now_ms)
        for order in [one for one in self._resting.values() if one.symbol == symbol]:
            if _reached(order, price):
                self._fill_resting(order, order.quantity, order.price, now_ms)
        for due in self.algo_orders.take_due(symbol=symbol, price=price, now_ms=now_ms):
            self._trigger(due, now_ms)
        return price

    def _trigger(self, due: AlgoOrder, now_ms: int) -> None:
        """A conditional order becomes a plain one. What the book refuses it is rejected for, never tried again."""
        held = abs(self.holding(due.symbol).amount)
        ticket = Ticket(
            symbol=due.symbol,
            side=due.side,
            type=due.becomes,
            quantity=held if due.close_position else Decimal(due.quantity),
            price=Decimal(due.price),
            reduce_only=due.reduce_only or due.close_position,
            client_id=due.client_id,
        )
        text = f"algoId={due.algo_id}&side={due.side}&quantity={ticket.quantity:f}"
        received = Received(now_ms * 1000, "algo", due.client_id, due.symbol, text)
        try:
            self.place(ticket=ticket, received=received, now_ms=now_ms, trigger=due)
        except ApiError as error:
            reason = "Reduce Only reject" if error.code == -2022 else error.msg
            self.algo_orders.rejected(due, reason=reason, now_ms=now_ms)

    def place(
        self, *, ticket: Ticket, received: Received, now_ms: int, way: FillWay = AT_ONCE,
        by_hand: bool = False, trigger: AlgoOrder | None = None,
    ) -> StoredOrder:  # fmt: skip
        """by_hand: an entry set up through the control plane, without the minimum notional.

        trigger: the conditional order that becomes this one, which is told before its first step.
        """
        if ticket.client_id and self.store.client_id_used(ticket.client_id):
            raise ApiError(-4116)
        price = self.mark(symbol=ticket.symbol, now_ms=now_ms)
        quantity = self._placeable(ticket, price, by_hand=by_hand)
        order = self._new_order(ticket, quantity, now_ms)
        if trigger is not None:
            self.algo_orders.became(trigger, order, now_ms=now_ms)
        at_once = not way.rests and (ticket.type == "MARKET" or _reached(order, price))
        pieces = way.pieces_of(quantity, step=self.market.listings[order.symbol].step) if at_once else []
        # A MARKET order never rests by itself: what found no counterparty expires.
        return self._carry_out(
            order, pieces, price, now_ms, received=received, ends=at_once and ticket.type == "MARKET"
        )

    def fill(self, *, order: StoredOrder, quantity: Decimal, now_ms: int) -> StoredOrder:
        """A resting order meets a counterparty at the mark price, for so much of what is left."""
        price = self.mark(symbol=order.symbol, now_ms=now_ms)
        if order.order_id not in self._resting:
            raise ApiError(-2011)
        return self._fill_resting(self._resting[order.order_id], quantity, price, now_ms)

    def cancel(self, *, order: StoredOrder, now_ms: int) -> StoredOrder:
        if not order.open:
            raise ApiError(-2011)
        return self._end(order, "CANCELED", now_ms)

    def seize(self, *, symbol: str, kind: str, quantity: Decimal, now_us: int) -> StoredOrder:
        """The exchange closes (part of) a position itself: liquidation, auto-deleveraging, settlement."""
        prefix, execution = SEIZURES[kind]
        now_ms, amount = now_us // 1000, self.holding(symbol).amount
        price = self.mark(symbol=symbol, now_ms=now_ms)
        if not 0 < quantity <= abs(amount):
            raise ApiError(-2022)
        side, client_id = "SELL" if amount > 0 else "BUY", f"{prefix}{now_us}"
        ticket = Ticket(symbol, side, "LIMIT", quantity, price, False, client_id)
        order = replace(self._new_order(ticket, quantity, now_ms), time_in_force="IOC")
        received = Received(now_us, "exchange", client_id, symbol, f"side={side}&quantity={quantity:f}")
        return self._carry_out(
            order, [quantity], price, now_ms, received=received, ends=True, execution=execution
        )

    def move_money(self, *, kind: str, amount: Decimal, symbol: str, now_ms: int) -> None:
        """FUNDING_FEE or TRANSFER. Signed: negative leaves the account."""
        balance = self.balance + amount
        with self.store.commit():
            self.store.put_fact(name="balance", value=format(balance, "f"))
            self.store.put_booking(kind=kind, symbol=symbol, amount=amount, time_ms=now_ms)
        self.balance = balance
        reason = "FUNDING_FEE" if kind == "FUNDING_FEE" else "DEPOSIT" if amount > 0 else "WITHDRAW"
        self.tell(WalletStep(reason, amount, balance, now_ms))

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

    def set_leverage(self, *, symbol: str, leverage: int, now_ms: int) -> None:
        if not 1 <= leverage <= LEVERAGE_MAX:
            raise ApiError(-4028, str(leverage))
        self.leverage[symbol] = leverage
        self.store.put_fact(name=f"leverage:{symbol}", value=str(leverage))
        self.tell(LeverageStep(symbol, leverage, now_ms))

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

    def _carry_out(
        self, order: StoredOrder, pieces: Sequence[Decimal], price: Decimal, now_ms: int, *,
        received: Received | None, ends: bool, execution: str = "TRADE",
    ) -> StoredOrder:  # fmt: skip
        """One commit: a new order (received), its fills and its end; then it is remembered and told."""
        steps = [] if received is None else [OrderStep(order, "NEW", now_ms)]
        account = before = self._account(order.symbol)
        with self.store.commit():
            for quantity in pieces:
                order, done = self._filled(order, quantity, price, now_ms, account)
                account = done.account
                steps.append(OrderStep(order, execution, now_ms, done))
            if ends and order.open:
                order = replace(order, status="EXPIRED", update_ms=now_ms)
                steps.append(OrderStep(order, "EXPIRED", now_ms))
            self.store.put_order(order)
            self.algo_orders.keep(order, now_ms=now_ms)
            if received is not None:
                row = replace(received, order_id=order.order_id, client_id=order.client_id)
                self.store.put_received(row)
            if account is not before:
                self._put_account(order.symbol, account, price, now_ms)
        self._remember(order, account if account is not before else None, now_ms)
        for step in steps:
            self.tell(step)
        self.algo_orders.settle(order, now_ms=now_ms)
        return order

    def _filled(
        self, order: StoredOrder, quantity: Decimal, price: Decimal, now_ms: int, account: Account
    ) -> tuple[StoredOrder, Fill]:
        """Inside a commit: one fill with its trade."""
        signed = quantity if order.side == "BUY" else -quantity
        booked = book(holding=account.holding, signed_quantity=signed, price=price)
        trade = StoredTrade(
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
        self.store.put_trade(trade)
        executed = order.executed + quantity
        filled = replace(
            order,
            executed=executed,
            quote=order.quote + quantity * price,
            status="FILLED" if executed == order.quantity else "PARTIALLY_FILLED",
            update_ms=now_ms,
        )
        balance = account.balance + booked.realized - booked.commission
        return filled, Fill(trade, Account(booked.holding, balance, account.realized + booked.realized))

    def _account(self, symbol: str) -> Account:
        return Account(self.holding(symbol), self.balance, self._realized.get(symbol, ZERO))

    def _put_account(self, symbol: str, account: Account, price: Decimal, now_ms: int) -> None:
        put_fact = self.store.put_fact
        self.store.put_holding(symbol=symbol, holding=account.holding, mark_price=price, update_ms=now_ms)
        put_fact(name="balance", value=format(account.balance, "f"))
        if account.realized != self._realized.get(symbol, ZERO):
            put_fact(name=f"realized:{symbol}", value=format(account.realized, "f"))

    def _remember(self, order: StoredOrder, account: Account | None, now_ms: int) -> None:
        """After the commit only: a commit that failed must leave memory and file alike."""
        if account is not None:
            self.holdings[order.symbol], self.changed_ms[order.symbol] = account.holding, now_ms
            self.balance, self._realized[order.symbol] = account.balance, account.realized
        if order.open:
            self._resting[order.order_id] = order
        else:
            self._resting.pop(order.order_id, None)

    def _fill_resting(
        self, order: StoredOrder, quantity: Decimal, price: Decimal, now_ms: int
    ) -> StoredOrder:
        """Reduce-only with nothing (more) to reduce expires, as the exchange does it."""
        left = order.quantity - order.executed
        fill, reducible = min(quantity, left), left
        if order.reduce_only:
            try:
                reducible = self._reducible(order.symbol, left if order.side == "BUY" else -left)
            except ApiError:
                reducible = ZERO
        pieces = [min(fill, reducible)] if reducible else []
        return self._carry_out(order, pieces, price, now_ms, received=None, ends=reducible < left)

    def _end(self, order: StoredOrder, status: str, now_ms: int) -> StoredOrder:
        ended = replace(order, status=status, update_ms=now_ms)
        with self.store.commit():
            self.store.put_order(ended)
            self.algo_orders.keep(ended, now_ms=now_ms)
        self._remember(ended, None, now_ms)
        self.tell(OrderStep(ended, status, now_ms))
        self.algo_orders.settle(ended, now_ms=now_ms)
        return ended


def _reached(order: StoredOrder, price: Decimal) -> bool:
    if order.type == "MARKET":
        return False  # rests by a scripted delay only
    return price <= order.price if order.side == "BUY" else price >= order.price


def _nobody(_step: Step) -> None:
    pass
