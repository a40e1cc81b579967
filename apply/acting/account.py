"""A key or an account that the exchange refuses once is refused for every plan: each would burn its permits."""

from __future__ import annotations

from django.db import Error as DatabaseError
from django.db import close_old_connections

from apply.models import Order
from permits.state import trading
from quantum.exchange.types import Refused
from quantum.log import log
from quantum.redis import Client, RedisError

CAUSE = "account_refused"


def halt(client: Client, order: Order, refused: Refused, *, actor: str) -> None:
    """Automatic plans only: an operator's may try whether the account was mended. Call it before the order is
    settled, so that no waiter of its symbol comes first."""
    reason = f"the exchange refuses our key or account ({refused.code}), plan {order.plan_id}"
    try:
        trading.halt(cause=CAUSE, by=actor, reason=reason)
        trading.arm(client, actor=actor)
    except trading.StateChanged:
        log.error("not halted: the state changes too quickly", plan=order.plan_id)
    except RedisError as error:  # halted in the database: no intent passes, and the mirror projects it
        log.warning("the halt is not in Redis yet", error=type(error).__name__)
    except DatabaseError as error:
        # The refusal is certain all the same, and is settled where the database is back; the next one halts.
        log.error("not halted: the database fails", plan=order.plan_id, error=type(error).__name__)
        close_old_connections()
