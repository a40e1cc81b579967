"""C6 with a real server: the line to PostgreSQL is cut in COMMIT, once before the server heard of it and once after.

Nobody is told whether the rows are there. What decides is what the next look finds by the plan's id.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from apply.acting import intent, settle
from apply.models import Order
from quantum.keys import APPLY_GROUP
from quantum.models import AuditEvent
from tests.faults.ends import ledger_agrees, told_once
from tests.house import House
from tests.one_house import passes_again
from tests.own_postgres import needs_server
from tests.proxy import Loss, Proxy
from tests.stand_ins.running import free_port

pytestmark = [needs_server, pytest.mark.usefixtures("quick")]
Cut = Callable[..., list[Loss]]


@pytest.fixture
def line(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Between every connection that is made from now on and the server. Asked for before the house."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW unix_socket_directories")
        [folder] = cursor.fetchone()
        cursor.execute("SHOW port")
        [number] = cursor.fetchone()
    door = ("127.0.0.1", free_port())
    proxy = Proxy(listen=door, server=Path(folder) / f".s.PGSQL.{number}")
    monkeypatch.setitem(connection.settings_dict, "HOST", door[0])
    monkeypatch.setitem(connection.settings_dict, "PORT", str(door[1]))
    yield proxy
    proxy.close()


@pytest.fixture
def cut_in_commit(line: Proxy, monkeypatch: pytest.MonkeyPatch) -> Cut:
    """Once: the COMMIT of the very transaction in which this function is called, and of no other."""

    def cut(module: ModuleType, name: str, *, heard: bool) -> list[Loss]:
        whole, losses = getattr(module, name), list[Loss]()

        def then_its_commit_is_lost(*args: Any, **more: Any) -> Any:
            found = whole(*args, **more)
            if not losses:
                losses.append(line.lose_answers(b"COMMIT", of=_our_end(), heard=heard))
            return found

        monkeypatch.setattr(module, name, then_its_commit_is_lost)
        return losses

    return cut


def _our_end() -> Any:
    """The address from which this thread talks to the server."""
    driver: Any = connection.connection
    with socket.socket(fileno=socket.dup(driver.pgconn.socket)) as ours:
        return ours.getsockname()


def entry_is_done(house: House) -> None:
    assert house.redis.xpending(settings.KEYS.plan_stream, APPLY_GROUP)["pending"] == 0


# ---- of the intent


def test_c6_an_intent_whose_commit_was_never_heard_is_made_again_and_costs_the_plan_nothing(
    cut_in_commit: Cut, house: House
) -> None:
    house.start()
    losses = cut_in_commit(intent, "_make", heard=False)
    plan = house.publish()
    told_once(house, plan, state="filled")
    assert [loss.lost for loss in losses] == [1]
    assert AuditEvent.objects.filter(plan_id=plan.plan_id, kind="order_intended").count() == 1
    ledger_agrees(house)


def test_c6_an_intent_that_was_committed_unheard_is_never_sent_and_proved_so(
    cut_in_commit: Cut, house: House
) -> None:
    """Its second try finds the plan intended and sends nothing (any commit error: nothing is sent); the resolver asks
    the exchange by the order's own id until it is sure, and only then frees the symbol."""
    house.start()
    losses = cut_in_commit(intent, "_make", heard=True)
    plan = house.publish()
    told_once(house, plan, state="not_at_exchange", error="not_at_exchange", orders=0, within_s=15)
    assert [loss.lost for loss in losses] == [1]
    order = Order.objects.get(plan_id=plan.plan_id)
    assert (order.sent_at, order.executed_quantity) == (None, 0)
    assert AuditEvent.objects.filter(plan_id=plan.plan_id, kind="order_intended").count() == 1
    entry_is_done(house)
    passes_again(house)
    ledger_agrees(house)


# ---- of the settlement


@pytest.mark.parametrize("heard", [True, False], ids=["committed", "not committed"])
def test_c6_a_settlement_whose_commit_was_cut_is_booked_once_and_told_once(
    cut_in_commit: Cut, house: House, heard: bool
) -> None:
    """The order has left and was filled. Committed: its result is told from the rows. Not: the resolver books it."""
    house.start()
    losses = cut_in_commit(settle, "_release", heard=heard)
    plan = house.publish()
    told_once(house, plan, state="filled")
    assert [loss.lost for loss in losses] == [1]
    entry_is_done(house)
    ledger_agrees(house)
    passes_again(house)
    ledger_agrees(house)
