"""Real parts for every test: an embedded Valkey, a paper exchange over HTTP, signing keys, a database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby

import pytest
from django.conf import settings
from django.db import connections
from django.test import TransactionTestCase

from permits.policy import policies
from quantum import embedded, signing
from quantum.exchange.paper.auth import PaperKeys
from quantum.exchange.paper.process import PaperExchangeProcess
from quantum.redis import Client, command_client
from tests.emptying import empty_database
from tests.environment import TOLD
from tests.house import House

# A quarter of a second of each login and of each person made keeps nobody out here. `up` in the tests has its own.
settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
TransactionTestCase._fixture_teardown = lambda _case: empty_database()  # type: ignore[attr-defined]


SLOW = 2
"""The rank of what kills and restarts."""
SPREAD_OVER = 0.7
"""Of the tests beside it: what comes last of it has the others behind it still."""


def _touches_database(item: pytest.Item) -> bool:
    fixtures = {"db", "transactional_db"} & set(getattr(item, "fixturenames", ()))
    return bool(fixtures) or item.get_closest_marker("django_db") is not None


def _shares_with_its_module(item: pytest.Item) -> bool:
    known = getattr(item, "_fixtureinfo", None)
    return known is not None and any(
        definition.scope == "module" for found in known.name2fixturedefs.values() for definition in found
    )


def _group(item: pytest.Item) -> tuple[int, str]:
    """Which worker's it is, and how early: what takes minutes begins first, lest it run alone at the end. What a module
    starts once, or kills, is started on one worker only: a house, an exchange, `up`. Of Chromium two are enough: four
    would take the processor from everybody whose time is measured. The walk through all pages is half of its time."""
    module = item.nodeid.split("::")[0]
    if item.get_closest_marker("browser"):
        return (0, "walk") if module.endswith("/test_pages.py") else (1, "browser")
    if item.get_closest_marker("slow"):
        return SLOW, module
    return (3, module) if _shares_with_its_module(item) else (4, "")


def _spread(items: list[pytest.Item], rank: Callable[[pytest.Item], int]) -> list[pytest.Item]:
    """What waits for kills and restarts goes beside what reckons, which is what has a database: workers that all wait
    leave half of two processors idle. Not to the very end, where the last of them would run alone."""
    before = [item for item in items if rank(item) < SLOW]
    slow = [item for item in items if rank(item) == SLOW]
    others = [item for item in items if rank(item) > SLOW and _touches_database(item)]
    quick = [item for item in items if rank(item) > SLOW and not _touches_database(item)]
    modules = [list(found) for _, found in groupby(slow, lambda item: item.nodeid.split("::")[0])]
    many = int(len(others) * SPREAD_OVER / max(len(modules), 1))
    mixed = [
        item
        for number, module in enumerate(modules)
        for item in (*module, *others[number * many : (number + 1) * many])
    ]
    return before + mixed + others[len(modules) * many :] + quick


@pytest.hookimpl(wrapper=True, tryfirst=True)  # marked before xdist reads it, sorted after pytest-django
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """On PostgreSQL only what touches a database is run again; the rest would say the same twice."""
    ranks = {}
    for item in items:
        # By id: an item's hash is its name, to which xdist adds the group.
        ranks[id(item)], name = _group(item)
        if name:
            item.add_marker(pytest.mark.xdist_group(name))
    yield
    wanted = items[:]
    if TOLD["QUANTUM_TEST_DATABASE"] == "postgres":
        wanted = [item for item in items if _touches_database(item)]
        config.hook.pytest_deselected(items=[item for item in items if not _touches_database(item)])
    wanted.sort(key=lambda item: ranks[id(item)])
    items[:] = _spread(wanted, lambda item: ranks[id(item)])


@pytest.fixture(scope="session")
def valkey() -> Iterator[None]:
    """The server that `up` starts too. One for the whole run; tests start from an empty one."""
    server = embedded.start(directory=settings.VAR_DIR / "valkey", unix_socket=settings.EMBEDDED_SOCKET)
    assert embedded.wait_until_ready(unix_socket=settings.EMBEDDED_SOCKET)
    yield
    server.terminate()
    server.wait(5)


@pytest.fixture(autouse=True)
def no_policy_of_another_test() -> None:
    """A process reads the policy at most once a second; between two tests the database is another."""
    policies.forget()


@pytest.fixture
def redis(valkey: None) -> Client:
    client = command_client()
    client.flushall()
    return client


@pytest.fixture(scope="session")
def keys() -> None:
    """Signing keys of the gates, made once."""
    signing.ensure_keys(settings.PERMIT_KEYS_DIR)


@pytest.fixture(scope="session")
def paper_process() -> Iterator[PaperExchangeProcess]:
    port = int(settings.PAPER_URL.rsplit(":", 1)[1])
    secrets = [
        settings.ENVIRONMENT.secret(f"BINANCE_{use}_{part}")
        for use in ("READ", "TRADE")
        for part in ("KEY", "SECRET")
    ]
    data = settings.VAR_DIR / "paper.sqlite3"
    with PaperExchangeProcess(data_path=data, keys=PaperKeys(*secrets), port=port) as process:
        yield process


@pytest.fixture
def paper(paper_process: PaperExchangeProcess) -> PaperExchangeProcess:
    """The exchange, in calm weather and with the same positions for every test."""
    paper_process.clear_scenario()
    paper_process.pull_stream("clear")
    paper_process.pull_stream("cut")  # a house that ended while it connected may have left a line
    paper_process.set_latency(ms=0)
    paper_process.set_clock(skew_ms=0)
    paper_process.set_hedge_mode(on=False)
    for symbol, amount in House.POSITIONS.items():
        paper_process.set_position(symbol=symbol, amount=amount, client_order_id=House.entry_id())
    return paper_process


@pytest.fixture
def house(redis: Client, keys: None, paper: PaperExchangeProcess, transactional_db: None) -> Iterator[House]:
    """All four roles at work in threads of this process: real Redis, real HTTP, a real database."""
    house = House(redis=redis, paper=paper)
    yield house
    house.stop()
    for connection in connections.all():
        connection.close_if_unusable_or_obsolete()
