"""One running house for all tests of a module: what one test did to it must not matter to the next.

A house of its own costs each test a second of starting and stopping; here that is paid once. The
database is the usual test database, used without a transaction around each test and emptied at the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

from django.db import connections

from apply.models import PENDING_STATES, Plan
from permits.desk.desk import Desk, Finding, Issued, NotIssued
from quantum.exchange.paper.process import PaperExchangeProcess
from quantum.plan import ExitPlan
from quantum.redis import Client, RedisError
from tests.house import House

BACK_S = 10.0
"""I8: when a fault has ended, a fresh plan passes within this, and nobody has done anything."""
ONE_PLAN_S = 2.5


@contextmanager
def housed(*, redis: Client, paper: PaperExchangeProcess, roles: tuple[str, ...] = ()) -> Iterator[House]:
    paper.clear_scenario()
    for symbol, amount in House.POSITIONS.items():
        paper.set_position(symbol=symbol, amount=amount, client_order_id=House.entry_id())
    house = House(redis=redis, paper=paper)
    try:
        yield house.start(*roles)
    finally:
        house.stop()
        for connection in connections.all():
            connection.close_if_unusable_or_obsolete()


def passes_again(house: House, prepare: Callable[[ExitPlan], None] = lambda _plan: None) -> Plan:
    """Fresh plans, one after the other, until one is filled."""
    end, told = time.monotonic() + BACK_S, ""
    symbols = list(House.POSITIONS)
    while time.monotonic() < end:
        plan = house.make(symbols[house.next_number() % len(symbols)])
        try:
            house.publish(plan)
            prepare(plan)
        except RedisError as error:  # the server is not back yet
            told = str(error)
            time.sleep(0.1)
            continue
        row = final(plan, within_s=ONE_PLAN_S)
        if row is not None and row.state == Plan.State.FILLED:
            return row
        told = f"{row.state} {row.error} {row.gate_reason}" if row else "no end"
    raise AssertionError(f"no plan passes within {BACK_S} s of the fault's end: {told}")


def final(plan: ExitPlan, *, within_s: float) -> Plan | None:
    """The row once it has ended, told or not: its result may have to wait for the server."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        row = Plan.objects.filter(plan_id=plan.plan_id).exclude(state__in=PENDING_STATES).first()
        if row is not None:
            return row
        time.sleep(0.01)
    return None


@contextmanager
def muted_gates(*gates: str) -> Iterator[None]:
    """These gates read and decide, and their permits do not come: the test lays its own."""
    issue = Desk.issue

    def silent(desk: Desk, plan: ExitPlan, finding: Finding) -> Issued | NotIssued:
        return NotIssued(reason="muted") if desk.gate in gates else issue(desk, plan, finding)

    with patch.object(Desk, "issue", silent):
        yield
