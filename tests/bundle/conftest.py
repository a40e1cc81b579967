"""What a house leaves of an exit and of one that was blocked. It runs once, and has ended when the tests look."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from django.conf import settings
from django.test import override_settings
from pytest_django.plugin import DjangoDbBlocker

from apply.bundle import making
from permits.state import freezing
from quantum.chain import checkpoints, sealer, standing
from quantum.exchange.paper.process import PaperExchangeProcess
from quantum.plan import Action
from quantum.redis import command_client
from tests.emptying import empty_database
from tests.flow.test_admin import HOSTILE
from tests.house import House, wait_for
from tests.one_house import housed
from tools import verify_bundle
from tools.verify_bundle import Given


@dataclass(frozen=True)
class Left:
    filled: str
    blocked: str
    others: dict[str, str]
    """Plans that ended otherwise, by state."""
    checkpoints: Path

    def bundle(self, which: str) -> bytes:
        made = making.of(self.others.get(which) or getattr(self, which))
        assert made is not None
        return made.raw

    def given(self) -> Given:
        """A reader who has been to the house before."""
        return Given(verify_bundle.keys_of(settings.PERMIT_KEYS_DIR), set(), [self.checkpoints])


@pytest.fixture(scope="module")
def db(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """In place of pytest-django's, which empties it after each test."""
    with django_db_blocker.unblock():
        yield
        empty_database()


@pytest.fixture(scope="module")
def left(
    valkey: None,
    keys: None,
    paper_process: PaperExchangeProcess,
    db: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Left]:
    file = tmp_path_factory.mktemp("outside") / "checkpoints"
    client = command_client()
    client.flushall()
    with override_settings(AUDIT_CHECKPOINTS=file), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealer, "CHECKPOINT_EVERY_S", 0.0)
        with housed(redis=client, paper=paper_process) as house:
            filled = house.exit("BTCUSDT", Action.PARTIAL_25)
            others = dict(_other_ends(house))
            freezing.place(client, symbol="ETHUSDT", reason="to see it blocked", by="tests")
            plan = house.publish(house.make("ETHUSDT", source=HOSTILE[:80], reason_codes=HOSTILE))
            blocked = house.ended(plan)
            assert (filled.state, blocked.state) == ("filled", "blocked")
        # The gates write of their permits beside the path: what came after the house's last seal is sealed here.
        rest = sealer.Sealer()
        wait_for(lambda: _all_told(file, rest), what="everything to be sealed, with a checkpoint")
        yield Left(filled.plan_id, blocked.plan_id, others, file)


def _other_ends(house: House) -> Iterator[tuple[str, str]]:
    for scenario, symbol, action in (
        ("d12_reduce_only_refused", "SOLUSDT", Action.FULL_CLOSE),
        ("d15_partial_fill", "ETHUSDT", Action.PARTIAL_50),
        ("", "SOLUSDT", Action.UPDATE_SL),
        ("d01_cut_after_accept", "SOLUSDT", Action.PARTIAL_75),
    ):
        if scenario:
            house.play(scenario)
        ended = house.ended(house.publish(house.make(symbol, action)), within_s=20)
        yield ended.state if scenario != "d01_cut_after_accept" else "resolved", ended.plan_id
        house.paper.clear_scenario()


def _all_told(file: Path, rest: sealer.Sealer) -> bool:
    rest.tick()
    last = checkpoints.last(file)
    return (
        standing.unsealed_in_all().count == 0 and last is not None and last.number == standing.last_number()
    )
