"""A whole house on a server that may be hurt, reached over a line that may lose answers. One for a module."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest
from django.conf import settings
from django.test import override_settings
from pytest_django.plugin import DjangoDbBlocker

from positions.models import Balance
from quantum.exchange.paper.process import PaperExchangeProcess
from quantum.plan import ExitPlan
from tests.emptying import empty_database
from tests.house import House, wait_for
from tests.one_house import housed, muted_gates, passes_again
from tests.own_server import OwnServer, running
from tests.proxy import Proxy


@pytest.fixture(scope="module")
def own() -> Iterator[OwnServer]:
    with running() as server:
        yield server


@pytest.fixture(scope="module")
def line(own: OwnServer) -> Iterator[Proxy]:
    """Everything of the product goes over it; the tests themselves ask the server directly."""
    proxy = Proxy(listen=own.socket.with_name("line.sock"), server=own.socket)
    with override_settings(REDIS_URL=proxy.url):
        yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def db(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """In place of pytest-django's, which empties it after each test, and with it the running house."""
    with django_db_blocker.unblock():
        yield
        empty_database()


@pytest.fixture(scope="module")
def one_house(
    own: OwnServer,
    line: Proxy,
    keys: None,
    paper_process: PaperExchangeProcess,
    db: None,
) -> Iterator[House]:
    with housed(redis=own.client, paper=paper_process) as house:
        passes_again(house)  # every script is loaded
        yield house
        own.calm()


@pytest.fixture
def house(one_house: House, own: OwnServer) -> Iterator[House]:
    """The house as it is between two faults; when a fault has ended exits flow again within ten seconds (I8)."""
    if Balance.objects.get(symbol="BTCUSDT").amount < Decimal("0.3"):
        one_house.paper.set_position(symbol="BTCUSDT", amount="1.000", client_order_id=House.entry_id())
        one_house.redis.rpush(settings.KEYS.feed_wake, "1")
        wait_for(Balance.objects.filter(symbol="BTCUSDT", amount=1).exists, what="the entry to be booked")
    yield one_house
    own.calm()
    passes_again(one_house)
    assert one_house.all_alive, "a role ended"


@pytest.fixture
def muted(house: House) -> Iterator[House]:
    """Both gates are silent: what permits there are, the test lays."""
    with muted_gates("governor", "p33"):
        yield house


def waiting(house: House, plan: ExitPlan) -> ExitPlan:
    """Published, and apply is blocked in its wait for it, beside the feed in its own."""
    house.publish(plan)
    wait_for(lambda: _blocked(house) >= 2, what="apply to wait for the permits")
    return plan


def _blocked(house: House) -> int:
    rows = house.redis.client_list()
    return sum(1 for row in rows if row["cmd"] == "blpop" and "b" in row["flags"])
