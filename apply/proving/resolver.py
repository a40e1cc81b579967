"""The resolver: asks the exchange about orders in flight until there is proof. It never sends (I5).

What it learns is kept in an Inquiry: a person who must decide sees it, and apply finds there what is to be cancelled.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections

from apply.acting import settle
from apply.models import Inquiry, Order, Plan
from apply.plans import results
from apply.proving import inquiries
from positions.books import ledger
from positions.books.ledger import SeenTrade
from quantum import amounts, clock
from quantum.exchange.reading import Reader, ReadFailed
from quantum.exchange.types import OrderState, Trade
from quantum.log import log
from quantum.redis import Client

ACTOR = "resolver"
RECV_WINDOW_MS = 3000
LEAVE_TO_APPLY_S = 3.0
ASK_EVERY_S = 1.0
ALERT_EVERY_S = 60.0

Finding = Inquiry.Finding


@dataclass(slots=True)
class _Absence:
    """When the exchange said -2013 after the margin. Kept in memory: a restart only asks longer."""

    first_boot_s: float


class Resolver:
    def __init__(self, *, reader: Reader, client: Client) -> None:
        self._reader = reader
        self._client = client
        self._absent: dict[str, _Absence] = {}
        self._alerted: dict[str, float] = {}
        self._first_seen_boot_s: dict[str, float] = {}
        self._next_boot_s = 0.0

    def tick(self) -> None:
        if clock.boot_s() < self._next_boot_s:
            return
        self._next_boot_s = clock.boot_s() + ASK_EVERY_S
        in_flight = Plan.objects.filter(result_id="", state__in=settle.IN_FLIGHT).values_list(
            "plan_id", flat=True
        )
        orders = list(Order.objects.filter(plan_id__in=list(in_flight)))
        seen, now_boot_s = self._first_seen_boot_s, clock.boot_s()
        self._first_seen_boot_s = {each.plan_id: seen.get(each.plan_id, now_boot_s) for each in orders}
        for order in orders:
            if self._is_left_by_apply(order):
                self._ask_safely(order)

    def _is_left_by_apply(self, order: Order) -> bool:
        """By apply's clock, or by our own since we first saw it: apply's may be ahead of ours by hours (another host,
        or set back since), and for all that time nobody would ask."""
        if (clock.now() - order.intended_at).total_seconds() >= LEAVE_TO_APPLY_S:
            return True
        return clock.boot_s() - self._first_seen_boot_s[order.plan_id] >= LEAVE_TO_APPLY_S

    def _ask_safely(self, order: Order) -> None:
        """One order that cannot be settled must not keep the others from their proof."""
        try:
            self._ask(order)
        except (DatabaseError, ValueError) as error:
            log.failure("an order in flight cannot be settled", error, plan=order.plan_id)
            close_old_connections()

    def _ask(self, order: Order) -> None:
        try:
            learnt = self._look(order)
        except ReadFailed as failed:
            log.warning("an order in flight cannot be looked up", plan=order.plan_id, error=str(failed))
            learnt = inquiries.note(order, Finding.FAILING, text=str(failed))
        if learnt is None:
            self._alerted.pop(order.plan_id, None)
            return
        if learnt.finding == Finding.OPEN and inquiries.want_cancel(order, learnt, actor=ACTOR):
            log.warning(f"{order.symbol}: order left open, to be cancelled", plan=order.plan_id)
        if inquiries.is_overdue(order, learnt):
            self._alert(order, learnt)

    def _look(self, order: Order) -> Inquiry | None:
        """None: it is settled."""
        found = self._reader.order(symbol=order.symbol, client_order_id=order.client_order_id)
        if found is None:
            return self._not_found(order)
        self._absent.pop(order.plan_id, None)
        if not found.status.terminal:
            text = f"{found.status}, executed {found.executed_quantity}"
            return inquiries.note(order, Finding.OPEN, text=text, found=found)
        proof = settle.gather(self._reader, found)
        if proof is None:
            return self._does_not_add_up(order, found)
        if settle.settle(order, proof, actor=ACTOR):
            log.info(
                f"{order.symbol}: outcome proved by the exchange", plan=order.plan_id, status=found.status
            )
            results.finish(self._client, order.plan_id, token=order.token)
        return None

    def _does_not_add_up(self, order: Order, found: OrderState) -> Inquiry:
        """The trades that are shown are kept all the same; they are booked once the order is settled. Where they cannot
        be read, that the order was shown is kept: a person must not be asked as if nothing had been seen."""
        text = f"{found.status}, executed {found.executed_quantity}, its trades"
        try:
            shown = self._keep_trades(order, order_id=found.order_id)
        except ReadFailed as failed:
            log.warning("an order's trades cannot be read", plan=order.plan_id, error=str(failed))
            return inquiries.note(
                order, Finding.FAILING, text=f"{text} cannot be read: {failed}", found=found
            )
        return inquiries.note(
            order, Finding.CONTRADICTORY, text=f"{text} add up to {amounts.plain(shown)}", found=found
        )

    def _keep_trades(self, order: Order, *, order_id: int) -> Decimal:
        """What the trades add up to that the exchange shows of it."""
        trades = self._reader.trades_of_order(symbol=order.symbol, order_id=order_id)
        ledger.store([SeenTrade(trade, order.client_order_id) for trade in trades])
        return sum((trade.quantity for trade in trades), Decimal(0))

    def _not_found(self, order: Order) -> Inquiry | None:
        """-2013 proves nothing until the exchange would refuse the request itself as too old."""
        settle.unknown(order, text="not found yet (-2013)", actor=ACTOR)
        margin_ms = int(settings.RESOLVER_MARGIN_SEC * 1000)
        if self._reader.now_ms() < order.timestamp_ms + RECV_WINDOW_MS + margin_ms:
            return inquiries.note(order, Finding.ABSENT, text="not found; too early to prove anything")
        absent = self._absent.setdefault(order.plan_id, _Absence(clock.boot_s()))
        if clock.boot_s() - absent.first_boot_s < float(settings.RESOLVER_GAP_SEC):
            return inquiries.note(order, Finding.ABSENT, text="not found after the margin, once")
        order_id = _known_as(order)
        if order_id is not None:
            return self._denied(order, order_id=order_id)
        traded = self._traded(order)
        if traded:
            return inquiries.note(
                order, Finding.CONTRADICTORY, text="not found, and yet there are trades of it"
            )
        if settle.not_at_exchange(
            order, actor=ACTOR, evidence="-2013 twice after the margin, no trade of it"
        ):
            log.warning(f"{order.symbol}: the order never reached the exchange", plan=order.plan_id)
            self._absent.pop(order.plan_id, None)
            results.finish(self._client, order.plan_id, token=order.token)
        return None

    def _denied(self, order: Order, *, order_id: int) -> Inquiry:
        """The exchange had it and now does not know it: however often it says so, that is no proof that the order
        never arrived. It stays locked, and a person is told."""
        shown = amounts.plain(self._keep_trades(order, order_id=order_id))
        text = f"not found, and yet it was order {order_id}; its trades add up to {shown}"
        return inquiries.note(order, Finding.CONTRADICTORY, text=text)

    def _traded(self, order: Order) -> list[Trade]:
        """Trades since the intent whose order carries our client id. Kept at once: the next question may fail."""
        trades = self._reader.trades_since(symbol=order.symbol, since_ms=order.timestamp_ms - RECV_WINDOW_MS)
        ours = list[Trade]()
        for order_id in sorted({trade.order_id for trade in trades}):
            found = self._reader.order_by_id(symbol=order.symbol, order_id=order_id)
            if found is not None and found.client_order_id == order.client_order_id:
                mine = [trade for trade in trades if trade.order_id == order_id]
                ledger.store([SeenTrade(trade, order.client_order_id) for trade in mine])
                ours += mine
        return ours

    def _alert(self, order: Order, learnt: Inquiry) -> None:
        """Once a minute and order; the gauge says it all the time."""
        if clock.boot_s() - self._alerted.get(order.plan_id, -ALERT_EVERY_S) < ALERT_EVERY_S:
            return
        self._alerted[order.plan_id] = clock.boot_s()
        log.error(
            f"[ORDER_UNKNOWN] {order.symbol}: nobody knows what became of an order, its symbol is locked",
            plan=order.plan_id,
            since=order.intended_at.isoformat(timespec="seconds"),
            finding=learnt.finding,
            said=learnt.text,
            remedy=f"manage.py order_resolve {order.plan_id}",
        )


def _known_as(order: Order) -> int | None:
    """Its id at the exchange: from the answer to the order itself, from a trade of it that was told, or from the answer
    to one of our questions. None: it was never shown."""
    if order.order_id is not None:
        return order.order_id
    seen = settle.seen_trades(order)
    if seen:
        return seen[0].trade.order_id
    asked = Inquiry.objects.filter(plan_id=order.plan_id).first()
    order_id: int | None = asked.found.get("order_id") if asked else None
    return order_id
