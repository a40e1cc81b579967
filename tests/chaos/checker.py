"""All checks, one after the other. It decides nothing of the product's and imports nothing of it."""

from __future__ import annotations

from collections.abc import Callable

from tests.chaos import books, ends, orders
from tests.chaos.evidence import Evidence, Finding, Findings

CHECKS: tuple[Callable[[Evidence], Findings], ...] = (
    orders.once,
    orders.sent_once,
    orders.locked_while_unknown,
    orders.record_first,
    orders.reconciliation_never_trades,
    orders.two_keys,
    orders.bounds,
    orders.not_late,
    orders.not_while_stopped,
    orders.mode_is_stamped,
    books.fills_are_trades,
    books.ledger_is_fills,
    books.exits_are_booked,
    books.ledger_is_the_position,
    books.executed_is_traded,
    books.seen_not_guessed,
    ends.reasons,
    ends.told_once,
    ends.comes_back,
    ends.no_secret,
    ends.poison_is_parked,
    ends.exits_do_fill,
    ends.orders_are_known,
)


def check(evidence: Evidence) -> list[Finding]:
    return [finding for each in CHECKS for finding in each(evidence)]
