"""The resolver: asks the exchange about orders in flight until there is proof. It never sends (I5)."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections

from apply.acting import settle
from apply.models import Order, Plan
from apply.plans import results
from quantum import clock
from quantum.exchange.reading import Reader, ReadFailed
from quantum.log import log
from quantum.redis import Client

ACTOR = "resolver"
RECV_WINDOW_MS = 3000
LEAVE_TO_APPLY_S = 3.0
ASK_EVERY_S = 1.0


@dataclass(slots=True)
class _Absence:
    """When the exchange said -2013 after the margin. Kept in memory: a restart only asks longer."""

    first_boot_s: float


class Resolver:
    def __init__(self, *, reader: Reader, client: Client) -> None:
        self._reader = reader
        self._client = client
        self._absent: dict[str, _Absence] = {}
        self._next_boot_s = 0.0

    def tick(self) -> None:
        if clock.boot_s() < self._next_boot_s:
            return
        self._next_boot_s = clock.boot_s() + ASK_EVERY_S
        in_flight = Plan.objects.filter(result_id="", state__in=settle.IN_FLIGHT).values_list(
            "plan_id", flat=True
        )
        for order in Order.objects.filter(plan_id__in=list(in_flight)):
            if (clock.now() - order.intended_at).total_seconds() >= LEAVE_TO_APPLY_S:
                self._ask_safely(order)

    def _ask_safely(self, order: Order) -> None:
        """One order that cannot be settled must not keep the others from their proof."""
        try:
            self._ask(order)
        except (DatabaseError, ValueError) as error:
            log.failure("an order in flight cannot be settled", error, plan=order.plan_id)
            close_old_connections()

    def _ask(self, order: Order) -> None:
        try:
            found = self._reader.order(symbol=order.symbol, client_order_id=order.client_order_id)
            if found is None:
                self._not_found(order)
                return
            proof = settle.gather(self._reader, found)
        except ReadFailed as failed:
            log.warning("an order in flight cannot be looked up", plan=order.plan_id, error=str(failed))
            return
        self._absent.pop(order.plan_id, None)
        if proof is not None and settle.settle(order, proof, actor=ACTOR):
            log.info(
                f"{order.symbol}: outcome proved by the exchange", plan=order.plan_id, status=found.status
            )
            results.finish(self._client, order.plan_id, token=order.token)

    def _not_found(self, order: Order) -> None:
        """-2013 proves nothing until the exchange would refuse the request itself as too old."""
        settle.unknown(order, text="not found yet (-2013)", actor=ACTOR)
        margin_ms = int(settings.RESOLVER_MARGIN_SEC * 1000)
        if self._reader.now_ms() < order.timestamp_ms + RECV_WINDOW_MS + margin_ms:
            return
        absent = self._absent.setdefault(order.plan_id, _Absence(clock.boot_s()))
        if clock.boot_s() - absent.first_boot_s < float(settings.RESOLVER_GAP_SEC):
            return
        if self._has_traded(order):
            return
        if settle.not_at_exchange(
            order, actor=ACTOR, evidence="-2013 twice after the margin, no trade of it"
        ):
            log.warning(f"{order.symbol}: the order never reached the exchange", plan=order.plan_id)
            self._absent.pop(order.plan_id, None)
            results.finish(self._client, order.plan_id, token=order.token)

    def _has_traded(self, order: Order) -> bool:
        """A trade since the intent whose order carries our client id."""
        trades = self._reader.trades_since(symbol=order.symbol, since_ms=order.timestamp_ms - RECV_WINDOW_MS)
        for order_id in {trade.order_id for trade in trades}:
            found = self._reader.order_by_id(symbol=order.symbol, order_id=order_id)
            if found is not None and found.client_order_id == order.client_order_id:
                return True
        return False
