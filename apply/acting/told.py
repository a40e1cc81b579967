"""The trades of an order of ours as p33's ear has stored them: proof of a fill without a call to the exchange.

Redis only says which rows may be worth a look. What moves the ledger is read from the database, and only where it
adds up to what the exchange itself answered it executed.
"""

from __future__ import annotations

from decimal import Decimal

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections

from positions.books import ledger
from quantum import clock
from quantum.exchange.types import OrderState, Trade
from quantum.log import log
from quantum.plan import plan_of_order
from quantum.redis import Client, RedisError

WITHIN_S = 0.5
ID_MAX = 2**63 - 1


class Told:
    def __init__(self, *, wakes: Client) -> None:
        self._wakes = wakes

    def trades_of(self, state: OrderState) -> list[Trade] | None:
        """None: they did not all come in time, or not at all. Ask the exchange."""
        plan_id = plan_of_order(state.client_order_id)
        if plan_id is None:
            return None
        ids: set[int] = set()
        end_ms = clock.monotonic_ms() + WITHIN_S * 1000
        try:
            while (left_s := (end_ms - clock.monotonic_ms()) / 1000) > 0.001:
                ids |= self._next(plan_id, left_s)
                trades = [
                    each for each in ledger.stored(state.symbol, ids) if each.order_id == state.order_id
                ]
                if sum((each.quantity for each in trades), Decimal(0)) == state.executed_quantity:
                    return trades
        except (RedisError, ValueError):
            return None
        except DatabaseError as error:
            # The order has been answered: what was only the shorter way must not keep its outcome from being recorded.
            log.warning("trades that were told cannot be read", plan=plan_id, error=type(error).__name__)
            close_old_connections()
            return None
        return None

    def _next(self, plan_id: str, left_s: float) -> set[int]:
        """One id; the next one, if there is one, comes without waiting."""
        key = settings.KEYS.fills_wake(plan_id)
        woken = self._wakes.blpop([key], timeout=left_s)
        if not woken:
            return set()
        trade_id = int(woken[1])
        if not 0 <= trade_id <= ID_MAX:  # a stranger's: no database could even be asked for it
            raise ValueError("no id of a trade")
        return {trade_id}
